"""The registry of inference backends: which there are, what each needs, and how it is built."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch

from sdcpc_ros.inference import aot, inductor, onnxruntime, tensorrt
from sdcpc_ros.inference.cache import cached_file
from sdcpc_ros.inference.eager import Backend, BackendError, EagerBackend
from sdcpc_ros.inference.step import Step


class Kind(NamedTuple):
    """How the registry checks for a backend and builds it."""

    check: Callable[[Step], None]  #: raises BackendError saying what is missing here; quick
    build: Callable[[Step, tuple[int, int], int], Backend]  #: for one network size and batch; may take minutes
    batches: bool  #: whether it is made for batches of more than one frame


REGISTRY = {
    "eager": Kind(lambda step: None, lambda step, size, batch: EagerBackend(step), batches=True),
    "inductor": Kind(inductor.check, inductor.build, batches=True),
    # What lies on disk for these is for one frame: a file for each number of them would be minutes of building each.
    "aot": Kind(aot.check, lambda step, size, batch: aot.build(step, size), batches=False),
    "onnxruntime": Kind(onnxruntime.check, lambda step, size, batch: onnxruntime.build(step, size), batches=False),
    "tensorrt": Kind(tensorrt.check, lambda step, size, batch: tensorrt.build(step, size), batches=False),
}
# PyTorch's tracers keep what they are at in one place for all threads: two at a time, for two cameras, raise at random.
_one_at_a_time = threading.Lock()
#: Names that a user may give; auto stands for one of the others, which `choose_backend` picks.
BACKENDS = ("auto", *REGISTRY)


def check_backend(name: str, step: Step) -> None:
    """Raises BackendError saying exactly what a backend lacks on this machine, or that it is unknown."""
    if name not in BACKENDS:
        raise BackendError(f"no backend '{name}'; one of {', '.join(BACKENDS)} is needed")
    if name not in ("auto", "eager") and not step.model.compiles:
        raise BackendError(f"backend '{name}' cannot compile an ONNX model; backend eager runs it, by onnxruntime")
    if name != "auto":
        REGISTRY[name].check(step)


def create_backend(name: str, step: Step, size: tuple[int, int], batch: int = 1) -> Backend:
    """A backend by name, for `batch` frames of network size (height, width). All but eager take seconds to minutes.

    With auto, the backend that it stands for; `BackendManager` also serves frames while that is built.

    Raises BackendError as `check_backend` does, or when building fails, or on a batch of a backend that takes none.
    """
    try:
        check_backend(name, step)
        if name == "auto":
            name = choose_backend(step, size).backend
        if batch > 1 and not REGISTRY[name].batches:
            raise BackendError(f"backend '{name}' runs one frame at a time, not {batch}")
        if name == "eager":
            return REGISTRY[name].build(step, size, batch)
        with _one_at_a_time:
            # Exporting swaps a module's weights while it traces, and another thread may be running this one.
            return REGISTRY[name].build(copy.deepcopy(step), size, batch)
    except BackendError:
        raise
    except Exception as error:  # compilers raise whatever they like
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        shape = f"{size[1]}x{size[0]}" + (f" in batches of {batch}" if batch > 1 else "")
        raise BackendError(f"backend '{name}' could not be built for {shape}: {first_line}") from error


@contextmanager
def holding_builds() -> Iterator[bool]:
    """Keeps builds from beginning; yields False, without a wait, if one is running.

    A build synchronises the whole GPU, to time kernels. While another thread captures a CUDA graph, that is an error in
    both threads; and before pytorch#180395 PyTorch captured nothing any more after a capture that had failed.
    """
    held = _one_at_a_time.acquire(blocking=False)
    try:
        yield held
    finally:
        if held:
            _one_at_a_time.release()


class Choice(NamedTuple):
    """The backend that auto stands for, by name, and the reason in words."""

    backend: str
    reason: str


def runs_on_gpu(step: Step) -> bool:
    return step.mean.device.type == "cuda"


def choose_backend(step: Step, size: tuple[int, int], *, compiles: bool = False) -> Choice:
    """What `auto` stands for at network size (height, width).

    On a GPU inductor if it can compile. On a CPU the ahead-of-time package if one is cached; with `compiles` also if
    one can be compiled. Everywhere else eager.
    """
    if not step.model.compiles:
        return Choice("eager", "onnxruntime runs an imported ONNX model")
    try:
        if runs_on_gpu(step):
            inductor.check(step)
            return Choice("inductor", "compiled for this GPU")
        path = cached_file(aot.PACKAGE, step, size)
        if path is not None:
            return Choice("aot", f"package '{path.name}' is cached")
        if compiles:
            aot.check_can_write(step)
            return Choice("aot", "compiled for this processor")
    except BackendError as error:
        return Choice("eager", str(error))
    return Choice(
        "eager",
        f"no ahead-of-time package for {size[1]}x{size[0]} is cached; `sdcpc export --format aot` or backend: aot "
        "makes one",
    )


def checked_device(name: str) -> torch.device:
    """The device of this name; auto is the GPU where PyTorch finds one. Raises BackendError when the name is no device,
    or the device is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise BackendError(f"'{name}' is not a device; auto, cpu, cuda or cuda:N are") from error
    if device.type not in ("cpu", "cuda"):
        raise BackendError(f"device '{name}' is not supported; auto, cpu, cuda or cuda:N are")
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise BackendError(
                f"device '{name}' asked for, but torch {torch.__version__} finds no CUDA GPU here; use cpu"
            )
        if device.index is not None and device.index >= torch.cuda.device_count():
            raise BackendError(f"device '{name}' asked for, but there are {torch.cuda.device_count()} CUDA GPUs")
    return device
