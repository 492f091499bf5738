"""What a robot loads instead of a checkpoint: ONNX, an exported PyTorch program, a compiled package, an engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch

from sdcpc_ros.inference import aot, onnx_model, tensorrt
from sdcpc_ros.inference.cache import new_file
from sdcpc_ros.inference.errors import BackendError
from sdcpc_ros.inference.step import Step, example_inputs

_Size = tuple[int, int]


class _Format(NamedTuple):
    suffix: str
    check: Callable[[Step], None]  #: raises BackendError saying what is missing here; quick
    write: Callable[[Step, _Size, Path, Mapping[str, str]], None]  #: whole or not at all
    name: Callable[[Step, _Size], str] | None = None  #: what a backend looks for; None where the user names the file


def export_step(step: Step, size: _Size, form: str, output: Path, metadata: Mapping[str, str]) -> Path:
    """Write a step for network size (height, width) in one of FORMATS; returns the file, which is whole or not there.

    output: the file; for aot, onnxruntime and tensorrt a folder, such as the backends' cache, as they look for names of
    their own.
    metadata: what onnx, onnxruntime and torch files say of themselves.

    Raises BackendError when the format cannot be written here, or `output` is no such thing.
    """
    kind = _FORMATS[form]
    if kind.name is None and (output.suffix != kind.suffix or output.is_dir()):
        raise BackendError(
            f"'{output}' is not the name of a file; --format {form} writes one that ends in {kind.suffix}"
        )
    if kind.name is not None and (output.suffix == kind.suffix or output.is_file()):
        raise BackendError(
            f"'{output}' is not the name of a folder; --format {form} writes into one, under the name by which "
            f"backend '{form}' finds the file"
        )
    if not step.model.compiles:
        raise BackendError("an imported ONNX model cannot be exported: take the ONNX file that it was made of")
    kind.check(step)
    path = output if kind.name is None else output / kind.name(step, size)
    kind.write(step, size, path, metadata)
    return path


def _write_program(step: Step, size: _Size, path: Path, metadata: Mapping[str, str]) -> None:
    with new_file(path) as temporary:
        with torch.no_grad():
            program = torch.export.export(step, example_inputs(step, size))
        torch.export.save(program, temporary, extra_files=dict(metadata))


_FORMATS = {
    "aot": _Format(
        ".pt2", aot.check_can_write, lambda step, size, path, _: aot.write_package(step, size, path), aot.package_name
    ),
    "onnx": _Format(".onnx", onnx_model.check_can_write, onnx_model.write_model),
    "onnxruntime": _Format(".onnx", onnx_model.check_can_write, onnx_model.write_model, onnx_model.model_name),
    "tensorrt": _Format(
        ".ep", tensorrt.check, lambda step, size, path, _: tensorrt.write_engine(step, size, path), tensorrt.engine_name
    ),
    "torch": _Format(".pt2", lambda step: None, _write_program),
}
#: Names of the formats.
FORMATS = tuple(_FORMATS)
