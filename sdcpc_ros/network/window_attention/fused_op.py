"""The operator `sdcpc_ros::window_attention`: the Triton kernel as PyTorch knows it.

Registered with the shapes of its results and its gradient, so that torch.compile, torch.export and Torch-TensorRT (as a
segment left to PyTorch) take it as one node. On a GPU it is the kernel; elsewhere, so that a program exported for a GPU
still runs, and where Triton cannot start kernels, the portable form. Gradients are those of the portable form, computed
again in the backward pass.
"""

from __future__ import annotations

import importlib.util
import logging
from functools import cache
from typing import Any

import torch
from torch import Tensor, library

from sdcpc_ros.network.window_attention import portable
from sdcpc_ros.network.window_attention.portable import Inputs

#: Channels of keys or values beyond which a tile no longer fits a GPU's registers.
MAX_CHANNELS = 256
HAS_TRITON = importlib.util.find_spec("triton") is not None
#: The first NVIDIA GPUs that Triton compiles for, by type of number: Volta, and Ampere for bfloat16.
_OLDEST_GPU = {torch.float16: (7, 0), torch.float32: (7, 0), torch.bfloat16: (8, 0)}


def takes(query: Tensor, keys: Tensor, values: Tensor | None) -> bool:
    """Whether the kernel runs here and computes this: an NVIDIA GPU, Triton, types it knows, not too many channels.

    Queries and keys have one type; values, if there are any, may have another.
    """
    values = keys if values is None else values
    return (
        query.device.type == "cuda"
        and HAS_TRITON
        and torch.version.cuda is not None
        and query.dtype == keys.dtype
        and query.dtype in _OLDEST_GPU
        and values.dtype in _OLDEST_GPU
        and 0 < max(query.shape[1], values.shape[1]) <= MAX_CHANNELS
        and query.numel() > 0
        and torch.cuda.get_device_capability(query.device) >= max(_OLDEST_GPU[query.dtype], _OLDEST_GPU[values.dtype])
    )


def attend(inputs: Inputs) -> tuple[Tensor | None, Tensor | None]:
    """As `window_attention`: output (B, Dv, h, w) or None, and argmax_offset (B, 2, h, w) or None."""
    if inputs.values is None:  # the kernel needs a channel, which costs it next to nothing
        return None, attend(inputs._replace(values=inputs.keys[:, :1]))[1]
    output, offset = _window_attention(*inputs)
    return output.permute(0, 3, 1, 2), offset if inputs.with_offset else None


# An operator's results have one layout and number: output (B, h, w, Dv), and an empty offset where none is asked for.
@library.custom_op(
    "sdcpc_ros::window_attention",
    mutates_args=(),
    device_types="cuda",
    schema="(Tensor query, Tensor keys, Tensor values, Tensor valid, SymInt radius, bool with_offset, float scale, "
    "Tensor? position_weight, Tensor? gather_index) -> (Tensor, Tensor)",
)
def _window_attention(*arguments: Any) -> tuple[Tensor, Tensor]:
    return on_gpu(*arguments)


def on_gpu(*arguments: Any) -> tuple[Tensor, Tensor]:
    if not can_launch():
        return _portable_kernel(*arguments)
    from sdcpc_ros.network.window_attention import triton_kernel

    inputs = Inputs(*arguments)
    with torch.cuda.device(inputs.query.device):
        processors = torch.cuda.get_device_properties(inputs.query.device).multi_processor_count
        return triton_kernel.launch(inputs, processors)


@cache
def can_launch() -> bool:
    """Whether Triton can start kernels here."""
    try:
        from sdcpc_ros.network.window_attention import triton_kernel

        triton_kernel.start_driver()
        return True
    except Exception as error:  # no compiler, no headers of Python, no folder to write to, no libcuda
        advice = "it needs a C compiler and Python's headers: sudo apt install gcc python3-dev"
        logging.getLogger(__name__).warning("window attention runs without its Triton kernel: %s; %s", error, advice)
        return False


@_window_attention.register_kernel("cpu")
def _portable_kernel(*arguments: Any) -> tuple[Tensor, Tensor]:
    output, offset = portable.attend(inputs := Inputs(*arguments))
    assert output is not None
    offset = inputs.valid.new_empty(0, dtype=torch.int64) if offset is None else offset.contiguous()
    return output.permute(0, 2, 3, 1).contiguous(), offset


@_window_attention.register_fake
def _shapes(*arguments: Any) -> tuple[Tensor, Tensor]:
    inputs = Inputs(*arguments)
    assert inputs.values is not None
    batch, value_channels, height, width = inputs.values.shape
    return (
        inputs.values.new_empty((batch, height, width, value_channels)),
        inputs.values.new_empty((batch, 2, height, width) if inputs.with_offset else (0,), dtype=torch.int64),
    )


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    query, keys, values, valid, ctx.radius, _, ctx.scale, position_weight, gather_index = inputs
    ctx.save_for_backward(query, keys, values, valid, position_weight, gather_index)


def _backward(ctx: Any, output_gradient: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
    *maps, valid, position_weight, gather_index = ctx.saved_tensors
    with torch.enable_grad():
        query, keys, values = leaves = [part.detach().requires_grad_() for part in maps]
        if position_weight is not None:
            leaves.append(position_weight := position_weight.detach().requires_grad_())
        inputs = Inputs(query, keys, values, valid, ctx.radius, False, ctx.scale, position_weight, gather_index)
        output, _offset = portable.attend(inputs)
        assert output is not None
        gradients = torch.autograd.grad(output, leaves, output_gradient.permute(0, 3, 1, 2))
    of_weight = None if position_weight is None else gradients[3]
    return *gradients[:3], None, None, None, None, of_weight, None


_window_attention.register_autograd(_backward, setup_context=_save)
