"""The interface of an inference backend, and the registry of those there are."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from sdcpc_ros.inference import aot, inductor, tensorrt
from sdcpc_ros.inference.eager import EagerBackend
from sdcpc_ros.inference.errors import BackendError, UnknownBackend
from sdcpc_ros.inference.step import Step
from sdcpc_ros.network import FrameMemory


class Backend(Protocol):
    """Runs one step of a stream, at the size it was made for, on one device."""

    def step(self, image: Tensor, references: FrameMemory, valid: Tensor) -> tuple[Tensor, FrameMemory]:
        """image (1, H, W, 3) uint8 RGB; references (1, K, h, w, C) each, valid (1, K) bool; all contiguous and on the
        device. Returns logits (1, classes, H/4, W/4) and this frame's memory, (1, h, w, C) each."""


class _Kind(NamedTuple):
    check: Callable[[Step], None]  #: raises BackendError saying what is missing here; quick
    build: Callable[[Step, tuple[int, int]], Backend]  #: for one network size; may take minutes


_REGISTRY = {
    "eager": _Kind(lambda step: None, lambda step, size: EagerBackend(step)),
    "inductor": _Kind(inductor.check, inductor.InductorBackend),
    "aot": _Kind(aot.check, aot.AotBackend),
    "tensorrt": _Kind(tensorrt.check, tensorrt.TensorRTBackend),
}
# PyTorch's tracers keep what they are at in one place for all threads: two at a time, for two cameras, raise at random.
_one_at_a_time = threading.Lock()
#: Names of the backends.
BACKENDS = tuple(_REGISTRY)


def check_backend(name: str, step: Step) -> None:
    """Raises BackendError saying exactly what a backend lacks on this machine, or UnknownBackend."""
    if name not in _REGISTRY:
        raise UnknownBackend(f"no backend '{name}'; one of {', '.join(BACKENDS)} is needed")
    _REGISTRY[name].check(step)


def create_backend(name: str, step: Step, size: tuple[int, int]) -> Backend:
    """A backend by name, for a network size (height, width). Everything but eager takes seconds to minutes.

    Raises BackendError as `check_backend` does, or when building fails.
    """
    try:
        check_backend(name, step)
        if name == "eager":
            return _REGISTRY[name].build(step, size)
        with _one_at_a_time:
            # Exporting swaps a module's weights while it traces, and another thread may be running this one.
            return _REGISTRY[name].build(copy.deepcopy(step), size)
    except BackendError:
        raise
    except Exception as error:  # compilers raise whatever they like
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise BackendError(f"backend '{name}' could not be built for {size[1]}x{size[0]}: {first_line}") from error


def checked_device(name: str) -> torch.device:
    """Raises BackendError when the name is no device, or the device is not there."""
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise BackendError(f"'{name}' is not a device; cpu, cuda or cuda:N are") from error
    if device.type not in ("cpu", "cuda"):
        raise BackendError(f"device '{name}' is not supported; cpu, cuda or cuda:N are")
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise BackendError(
                f"device '{name}' asked for, but torch {torch.__version__} finds no CUDA GPU here; use cpu"
            )
        if device.index is not None and device.index >= torch.cuda.device_count():
            raise BackendError(f"device '{name}' asked for, but there are {torch.cuda.device_count()} CUDA GPUs")
    return device
