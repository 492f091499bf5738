"""The types of number that a network may be run in, by name."""

from __future__ import annotations

import torch

from sdcpc_ros.inference.eager import BackendError
from sdcpc_ros.network import StreamNetwork

_TYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
#: What a user may ask for; auto is float16 on a GPU and float32 on a CPU.
PRECISIONS = ("auto", *_TYPES)


def checked_precision(name: str, device: torch.device, model: StreamNetwork) -> torch.dtype:
    """The type that `name`, one of PRECISIONS, means for this network on this device.

    Raises BackendError on any other name, on a GPU without bfloat16, and on half precision for an imported ONNX model,
    whose own file says what it computes in.
    """
    if name not in PRECISIONS:
        raise BackendError(f"precision is '{name}'; allowed: {', '.join(PRECISIONS)}")
    if not model.compiles:
        if name not in ("auto", "float32"):
            raise BackendError(
                f"precision '{name}' is not possible for an imported ONNX model, which computes in the types of its "
                "file; auto or float32 is allowed"
            )
        return torch.float32
    if name == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    if name == "bfloat16" and device.type == "cuda" and torch.cuda.get_device_capability(device) < (8, 0):
        raise BackendError(
            f"precision 'bfloat16' needs an NVIDIA GPU of compute capability 8.0 or later; "
            f"{torch.cuda.get_device_name(device)} is older: take float16"
        )
    return _TYPES[name]


def precision_name(dtype: torch.dtype) -> str:
    """The inverse: float32, float16 or bfloat16."""
    return str(dtype).removeprefix("torch.")
