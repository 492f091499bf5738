"""The network compiled ahead of time (torch.export, then AOTInductor) to a package that needs no compiler to run."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from sdcpc_ros.inference.cache import FileFormat, check_kept, kept_file
from sdcpc_ros.inference.compile_process import compile_package, write_package
from sdcpc_ros.inference.eager import Backend, BackendError
from sdcpc_ros.inference.inductor import check_compiler
from sdcpc_ros.inference.step import Step, example_inputs


def build(step: Step, size: tuple[int, int]) -> Backend:
    """Loads a package from the cache. Compiles it first, in one to two minutes, if it is not there."""
    path, device = kept_file(PACKAGE, step, size), step.mean.device
    logging.getLogger("torch._inductor.package.package").addFilter(_is_no_false_alarm)
    # Frames take turns here, and the locks of the threaded mode cannot be captured in a CUDA graph.
    package = torch._inductor.aoti_load_package(
        str(path), run_single_threaded=True, device_index=-1 if device.index is None else device.index
    )
    expected = [part.shape for part in example_inputs(step, size)]

    def run(*inputs: Tensor) -> list[Tensor]:
        # The package itself looks at neither shapes nor strides, and would read what is not there.
        shapes = [part.shape for part in inputs]
        if shapes != expected:
            raise ValueError(f"backend 'aot' was compiled for {_words(expected)}, not {_words(shapes)}")
        return package(*(part.contiguous() for part in inputs))

    return Backend(run)


def check(step: Step) -> None:
    """Raises BackendError saying what is missing here: a package of this network, and a compiler to make one."""
    _check_torch()
    check_kept(PACKAGE, step)


def check_can_write(step: Step) -> None:
    """Raises BackendError saying what compiling a package lacks here."""
    _check_torch()
    check_compiler("aot", step.mean.device)


def _write(step: Step, size: tuple[int, int], path: Path, metadata: Mapping[str, str]) -> None:
    exported = torch.export.export(step, example_inputs(step, size))
    # In a process of its own on a CPU, whose cores and memory the frames need. On a GPU that has not been tried.
    (compile_package if step.mean.device.type == "cpu" else write_package)(exported, path)


PACKAGE = FileFormat(
    ".pt2", check_can_write, _write, "aot", "package", "a machine with this processor, PyTorch and sdcpc_ros"
)


def _check_torch() -> None:
    loader = getattr(torch._inductor, "aoti_load_package", None)
    if loader is None or "run_single_threaded" not in inspect.signature(loader).parameters:
        raise BackendError(f"backend 'aot' needs PyTorch 2.7 or later; this is {torch.__version__}")


def _is_no_false_alarm(record: logging.LogRecord) -> bool:
    """Where there is no compiler, PyTorch fails to find out what the processor can, takes the package for one of an
    older PyTorch, says so, and loads it all the same. Ours are of this very version: their names say so."""
    return "outdated pt2" not in record.getMessage()


def _words(shapes: list[torch.Size]) -> str:
    return ", ".join(str(tuple(shape)) for shape in shapes)
