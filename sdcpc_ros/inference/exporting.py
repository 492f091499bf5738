"""What a robot loads instead of a checkpoint: ONNX, an exported PyTorch program, a compiled package, an engine."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch

from sdcpc_ros.inference import aot, tensorrt
from sdcpc_ros.inference.cache import new_file
from sdcpc_ros.inference.errors import BackendError
from sdcpc_ros.inference.step import INPUT_NAMES, OUTPUT_NAMES, Step, example_inputs

#: Of the operators in an ONNX file: TensorRT reads it from version 8.6, JetPack 6.2 has 10.3.
ONNX_OPSET = 18

_Size = tuple[int, int]


class _Format(NamedTuple):
    suffix: str
    check: Callable[[Step], None]  #: raises BackendError saying what is missing here; quick
    write: Callable[[Step, _Size, Path, Mapping[str, str]], None]  #: whole or not at all
    name: Callable[[Step, _Size], str] | None = None  #: what a backend looks for; None where the user names the file


def export_step(step: Step, size: _Size, form: str, output: Path, metadata: Mapping[str, str]) -> Path:
    """Write a step for network size (height, width) in one of FORMATS; returns the file, which is whole or not there.

    output: the file; for aot and tensorrt a folder, such as the backends' cache, as they look for names of their own.
    metadata: what onnx and torch files say of themselves.

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
        torch.export.save(_exported(step, size), temporary, extra_files=dict(metadata))


def _write_onnx(step: Step, size: _Size, path: Path, metadata: Mapping[str, str]) -> None:
    # It warns of torchvision, for operators that we do not use.
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    with new_file(path) as temporary:
        program = torch.onnx.export(
            _exported(step, size),
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


def _exported(step: Step, size: _Size) -> torch.export.ExportedProgram:
    with torch.no_grad():
        return torch.export.export(step, example_inputs(step, size))


def _check_onnx(step: Step) -> None:
    for package in ("onnx", "onnxscript"):
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise BackendError(
                f"--format onnx needs the Python package '{package}' ({error}): pip install 'sdcpc_ros[export]'"
            ) from error


_FORMATS = {
    "aot": _Format(
        ".pt2", aot.check_can_write, lambda step, size, path, _: aot.write_package(step, size, path), aot.package_name
    ),
    "onnx": _Format(".onnx", _check_onnx, _write_onnx),
    "tensorrt": _Format(
        ".ep", tensorrt.check, lambda step, size, path, _: tensorrt.write_engine(step, size, path), tensorrt.engine_name
    ),
    "torch": _Format(".pt2", lambda step: None, _write_program),
}
#: Names of the formats.
FORMATS = tuple(_FORMATS)
