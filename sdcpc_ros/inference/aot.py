"""The network compiled ahead of time (torch.export, then AOTInductor) to a package that needs no compiler to run."""

from __future__ import annotations

import inspect
import logging
import re
from pathlib import Path

import torch
from torch import Tensor

from sdcpc_ros.inference.cache import cache_folder, check_trusted, file_name, new_file, target
from sdcpc_ros.inference.compiler import check_compiler, leave_cores_to_the_stream
from sdcpc_ros.inference.errors import BackendError
from sdcpc_ros.inference.step import Step, example_inputs
from sdcpc_ros.network import FrameMemory


class AotBackend:
    """Runs a package from the cache; makes it first where there is none and a compiler is at hand."""

    def __init__(self, step: Step, size: tuple[int, int]) -> None:
        path = cache_folder() / package_name(step, size)
        if not path.is_file():
            _check_can_compile(step, path)
            write_package(step, size, path)
        check_trusted(path)
        device = step.mean.device
        logging.getLogger("torch._inductor.package.package").addFilter(_is_no_false_alarm)
        # Frames take turns here, and the locks of the threaded mode cannot be captured in a CUDA graph.
        self._package = torch._inductor.aoti_load_package(
            str(path), run_single_threaded=True, device_index=-1 if device.index is None else device.index
        )
        self._shapes = [part.shape for part in example_inputs(step, size)]

    @torch.inference_mode()
    def step(self, image: Tensor, references: FrameMemory, age_s: Tensor) -> tuple[Tensor, FrameMemory]:
        inputs = (image, *references, age_s)
        # The package itself looks at neither shapes nor strides, and would read what is not there.
        shapes = [part.shape for part in inputs]
        if shapes != self._shapes:
            raise ValueError(f"backend 'aot' was compiled for {_words(self._shapes)}, not {_words(shapes)}")
        logits, *memory = self._package(*(part.contiguous() for part in inputs))
        return logits, FrameMemory(*memory)


def check(step: Step) -> None:
    """Raises BackendError saying what is missing here: a package of this network, and a compiler to make one."""
    _check_torch()
    any_size = re.sub(r"-[0-9a-f]{16}\.pt2$", "", package_name(step, (1, 1))).replace("-1x1-", "-*-")
    if not any(cache_folder().glob(f"{any_size}-*.pt2")):
        _check_can_compile(step, cache_folder() / f"{any_size}-*.pt2")


def check_can_write(step: Step) -> None:
    """Raises BackendError saying what compiling a package lacks here."""
    _check_torch()
    check_compiler("aot", step.mean.device)


def package_name(step: Step, size: tuple[int, int]) -> str:
    """The file name of the package for this network, size (height, width), processor and PyTorch."""
    return file_name("aot", "pt2", step, size, target(step.mean.device))


def cached_package(step: Step, size: tuple[int, int]) -> Path | None:
    """The package for this network and size in the cache, or None."""
    if not any(cache_folder().glob(f"aot-{size[1]}x{size[0]}-*.pt2")):
        return None  # without reading all weights for the key
    path = cache_folder() / package_name(step, size)
    return path if path.is_file() else None


def write_package(step: Step, size: tuple[int, int], path: Path) -> None:
    """Compile for network size (height, width) and write `path`, whole or not at all.

    Raises BackendError when PyTorch is too old, no compiler is there or the folder cannot be written.
    """
    check_can_write(step)
    with new_file(path) as temporary:  # first, so that a folder that cannot be written costs no minute of compiling
        leave_cores_to_the_stream()
        with torch.no_grad():
            exported = torch.export.export(step, example_inputs(step, size))
            torch._inductor.aoti_compile_and_package(exported, package_path=str(temporary))


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


def _check_can_compile(step: Step, path: Path) -> None:
    try:
        check_compiler("aot", step.mean.device)
    except BackendError as error:
        raise BackendError(
            f"backend 'aot' finds no package '{path}', nor can it make one: {error}. Write it with "
            "`sdcpc export --format aot` on a machine with this processor, PyTorch and sdcpc_ros, and copy it there"
        ) from error
