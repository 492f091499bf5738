"""The interface of an inference backend, and the registry of those there are."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from sdcpc_ros.inference.eager import EagerBackend
from sdcpc_ros.network import SDCPC, EncodedFrame, FrameMemory


class BackendError(ValueError):
    """A backend or device is unknown, or cannot be had on this machine."""


class Backend(Protocol):
    """Runs the network's two halves on one device."""

    device: torch.device

    def encode(self, image: Tensor) -> EncodedFrame:
        """(1, 3, h, w) uint8 RGB, on any device -> the encoded frame on the backend's."""

    def aggregate(self, frame: EncodedFrame, references: FrameMemory, valid: Tensor) -> Tensor:
        """Logits (1, C, h/4, w/4); references (1, K, ...) each, valid (1, K) bool."""


_REGISTRY = {"eager": EagerBackend}
#: Names of the backends.
BACKENDS = tuple(_REGISTRY)


def create_backend(
    name: str, model: SDCPC, mean: tuple[float, float, float], std: tuple[float, float, float], device: str
) -> Backend:
    """A backend by name, for a model in evaluation mode and the normalisation of its images (units of 0..255).

    Raises BackendError when the name or the device is unknown, or the device is not there.
    """
    if name not in _REGISTRY:
        raise BackendError(f"no backend '{name}'; one of {', '.join(BACKENDS)} is needed")
    return _REGISTRY[name](model, mean, std, _checked_device(device))


def _checked_device(name: str) -> torch.device:
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
