"""The step as an ONNX model: standard operators, stateless, weights inside."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Mapping
from pathlib import Path

import torch

from sdcpc_ros import __version__
from sdcpc_ros.inference.cache import file_name, new_file
from sdcpc_ros.inference.errors import BackendError
from sdcpc_ros.inference.step import INPUT_NAMES, OUTPUT_NAMES, Step, example_inputs
from sdcpc_ros.runtime.installation import install_advice

#: Of the operators in an ONNX file: TensorRT reads it from version 8.6, JetPack 6.2 has 10.3.
ONNX_OPSET = 18


def check_type(step: Step) -> None:
    """Raises BackendError for bfloat16, for which runtimes lack operators."""
    if step.dtype == torch.bfloat16:
        raise BackendError("ONNX models are written in float32 or float16; precision 'bfloat16' is not supported")


def check_can_write(step: Step) -> None:
    """Raises BackendError saying what writing an ONNX model lacks here."""
    check_type(step)
    for package in ("onnx", "onnxscript"):
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise BackendError(
                f"writing an ONNX model needs the Python package '{package}' ({error}): {install_advice(package)}"
            ) from error


def model_name(step: Step, size: tuple[int, int]) -> str:
    """The file name by which backend onnxruntime finds the model for network size (height, width).

    It is the same on every processor and with every PyTorch: the file is as portable as ONNX is.
    """
    return file_name("onnxruntime", "onnx", step, size, {"sdcpc_ros": __version__})


def write_model(step: Step, size: tuple[int, int], path: Path, metadata: Mapping[str, str]) -> None:
    """Export for network size (height, width) and write `path`, whole or not at all.

    metadata: what the file says of itself. Raises BackendError when a package is missing, the precision is bfloat16, or
    the folder cannot be written.
    """
    check_can_write(step)
    # It warns of torchvision, for operators that we do not use.
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    with new_file(path) as temporary, torch.no_grad():
        program = torch.onnx.export(
            torch.export.export(step, example_inputs(step, size)),
            dynamo=True,
            verbose=False,
            opset_version=ONNX_OPSET,
            input_names=list(INPUT_NAMES),
            output_names=list(OUTPUT_NAMES),
        )
        assert program is not None  # it is None without dynamo only
        for node in program.model.graph.all_nodes():
            node.metadata_props.clear()  # the exporter's notes on where in whose file system each came from
        program.model.metadata_props.update(metadata)
        program.save(str(temporary), external_data=False)
