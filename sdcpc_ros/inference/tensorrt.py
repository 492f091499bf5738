"""The network as a TensorRT engine, made by Torch-TensorRT from the exported program and kept on disk."""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from sdcpc_ros.inference.cache import FileFormat, kept_file, target
from sdcpc_ros.inference.eager import Backend, BackendError
from sdcpc_ros.inference.step import Step, example_inputs

#: Fewer operators than this between two that TensorRT cannot run are left to PyTorch.
_MIN_BLOCK_SIZE = 5


def build(step: Step, size: tuple[int, int]) -> Backend:
    """Loads the engine of this network, size, GPU and versions from the cache; builds it first, minutes, if need be."""
    torch_tensorrt = require_torch_tensorrt(step.mean.device)
    return Backend(torch_tensorrt.load(str(kept_file(ENGINE, step, size))).module())


def check(step: Step) -> None:
    """Raises BackendError saying what is missing here."""
    require_torch_tensorrt(step.mean.device)


def _made_for(device: torch.device) -> dict[str, str]:
    return target(device, **{package: _version(package) for package in ("torch_tensorrt", "tensorrt")})


def _write(step: Step, size: tuple[int, int], path: Path, metadata: Mapping[str, str]) -> None:
    torch_tensorrt = require_torch_tensorrt(step.mean.device)
    inputs = example_inputs(step, size)
    engine = torch_tensorrt.dynamo.compile(
        torch.export.export(step, inputs),
        arg_inputs=inputs,
        min_block_size=_MIN_BLOCK_SIZE,
        use_explicit_typing=step.dtype != torch.float32,  # each layer in the type that the step gave it
    )
    torch_tensorrt.save(engine, str(path), output_format="exported_program", arg_inputs=list(inputs))


ENGINE = FileFormat(".ep", check, _write, "tensorrt", "engine", "a machine with this GPU and these versions", _made_for)


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
