"""The network as a TensorRT engine, made by Torch-TensorRT from the exported program and kept on disk."""

from __future__ import annotations

import importlib
import importlib.metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sdcpc_ros.inference.cache import cache_folder, check_trusted, file_name, new_file, target
from sdcpc_ros.inference.errors import BackendError
from sdcpc_ros.inference.step import Step, example_inputs
from sdcpc_ros.network import FrameMemory

#: Fewer operators than this between two that TensorRT cannot run are left to PyTorch.
_MIN_BLOCK_SIZE = 5


class TensorRTBackend:
    """Loads the engine of this network, size, GPU and versions from the cache; builds it first, minutes, if need be."""

    def __init__(self, step: Step, size: tuple[int, int]) -> None:
        torch_tensorrt = require_torch_tensorrt(step.mean.device)
        path = cache_folder() / engine_name(step, size)
        if not path.is_file():
            write_engine(step, size, path)
        check_trusted(path)
        self._engine = torch_tensorrt.load(str(path)).module()

    @torch.inference_mode()
    def step(self, image: Tensor, references: FrameMemory, age_s: Tensor) -> tuple[Tensor, FrameMemory]:
        logits, *memory = self._engine(image, *references, age_s)
        return logits, FrameMemory(*memory)


def check(step: Step) -> None:
    """Raises BackendError saying what is missing here."""
    require_torch_tensorrt(step.mean.device)


def engine_name(step: Step, size: tuple[int, int]) -> str:
    """The file name of the engine for this network, size (height, width), GPU and versions."""
    versions = {package: _version(package) for package in ("torch_tensorrt", "tensorrt")}
    return file_name("tensorrt", "ep", step, size, target(step.mean.device, **versions))


def write_engine(step: Step, size: tuple[int, int], path: Path) -> None:
    """Build the engine for network size (height, width), minutes, and write `path`, whole or not at all.

    Raises BackendError when Torch-TensorRT is missing or the folder cannot be written.
    """
    torch_tensorrt = require_torch_tensorrt(step.mean.device)
    inputs = example_inputs(step, size)
    with new_file(path) as temporary, torch.no_grad():
        exported = torch.export.export(step, inputs)
        engine = torch_tensorrt.dynamo.compile(
            exported,
            arg_inputs=inputs,
            min_block_size=_MIN_BLOCK_SIZE,
            use_explicit_typing=step.dtype != torch.float32,  # each layer in the type that the step gave it
        )
        torch_tensorrt.save(engine, str(temporary), output_format="exported_program", arg_inputs=list(inputs))


def require_torch_tensorrt(device: torch.device) -> Any:
    if device.type != "cuda":
        raise BackendError(f"backend 'tensorrt' needs an NVIDIA GPU; the device asked for is {device}")
    try:
        return importlib.import_module("torch_tensorrt")
    except ImportError as error:  # the package itself, or libnvinfer beneath it
        raise BackendError(
            f"backend 'tensorrt' needs Torch-TensorRT for PyTorch {torch.__version__}: {error} "
            "(pip install torch-tensorrt; on a Jetson take `sdcpc export --format onnx` to the board's own TensorRT)"
        ) from error


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "none"
