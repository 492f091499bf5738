"""What a robot loads instead of a checkpoint: ONNX, an exported PyTorch program, a compiled package, an engine."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path

import torch

from sdcpc_ros.inference import aot, onnxruntime, tensorrt
from sdcpc_ros.inference.cache import FileFormat, file_name, only_builder, write_file
from sdcpc_ros.inference.eager import BackendError
from sdcpc_ros.inference.step import Step, example_inputs

_Size = tuple[int, int]


def _write_program(step: Step, size: _Size, path: Path, metadata: Mapping[str, str]) -> None:
    torch.export.save(torch.export.export(step, example_inputs(step, size)), path, extra_files=dict(metadata))


#: By name.
FORMATS = {
    "aot": aot.PACKAGE,
    "onnx": onnxruntime.MODEL._replace(backend=""),
    "onnxruntime": onnxruntime.MODEL,
    "tensorrt": tensorrt.ENGINE,
    "torch": FileFormat(".pt2", lambda step: None, _write_program),
}


def export_step(step: Step, size: _Size, form: str, output: Path, metadata: Mapping[str, str]) -> Path:
    """Write a step for network size (height, width) in one of FORMATS; returns the file, which is whole or not there.

    output: the file; for aot, onnxruntime and tensorrt a folder, such as the backends' cache, as they look for names of
    their own.
    metadata: what onnx, onnxruntime and torch files say of themselves.

    Raises BackendError when the format cannot be written here, or `output` is no such thing.
    """
    kind = FORMATS[form]
    if not kind.backend and (output.suffix != kind.suffix or output.is_dir()):
        raise BackendError(
            f"'{output}' is not the name of a file; --format {form} writes one that ends in {kind.suffix}"
        )
    if kind.backend and (output.suffix == kind.suffix or output.is_file()):
        raise BackendError(
            f"'{output}' is not the name of a folder; --format {form} writes into one, under the name by which "
            f"backend '{form}' finds the file"
        )
    if not step.model.compiles:
        raise BackendError("an imported ONNX model cannot be exported: take the ONNX file that it was made of")
    path = output / file_name(kind, step, size) if kind.backend else output
    with only_builder(path) if kind.backend else nullcontext():
        write_file(kind, step, size, path, metadata)
    return path
