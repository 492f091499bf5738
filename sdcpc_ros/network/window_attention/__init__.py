"""Window attention across frames: every position attends to a square window around it in each reference frame.

The definition (Cen et al. 2025 state that sparse cross-frame attention and the Hadamard product cut the cost; the
formula is inferred): for reference k, offset o in [-R, R]^2 and position p,

    a_k(o, p) = 1/sqrt(d) * sum_c (Q (.) shift_o(K_k))_c(p) + bias_k(p)

with offsets that leave the frame at -inf, one softmax over (k, o) jointly, and the output sum_k,o a_k(o, p) V_k(p + o).

One function, two implementations: `portable` (PyTorch operators, any device, differentiable, exportable) and
`triton_kernel` (one fused kernel, on NVIDIA GPUs, as the operator `sdcpc_ros::window_attention` of `fused_op`). Tests
hold both to the definition, position by position. Neither makes an N x N matrix or w*w shifted copies of the keys.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from sdcpc_ros.network.window_attention import fused_op
from sdcpc_ros.network.window_attention.portable import attend

__all__ = ["WindowAttention", "window_attention"]


class WindowAttention(NamedTuple):
    """What `window_attention` returns."""

    output: Tensor  #: (B, Dv, h, w)
    mass: Tensor  #: (B, K, h, w), the share of attention that went to each reference; sums to 1, or 0 without any
    offset: Tensor | None  #: (B, K, 2, h, w) int64, the (dy, dx) of each reference's strongest key; 0 for a missing one


def window_attention(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    *,
    radius: int,
    valid: Tensor,
    bias: Tensor | None = None,
    with_offset: bool = True,
) -> WindowAttention:
    """Attend from one frame to windows of side 2 * radius + 1 in K reference frames, under one joint softmax.

    query: (B, d, h, w). keys: (B, K, d, h, w). values: (B, K, Dv, h, w). Any strides; channels last is fastest.
    valid: (B, K) bool; a missing reference takes no part, and where none is valid the output is zero.
    bias: (B, K, h, w) added to the logits of reference k at position p, or None.
    with_offset: whether the strongest keys are wanted; without, `offset` is None.

    Raises ValueError when shapes disagree or the radius is negative.
    """
    _check_shapes(query, keys, values, valid, bias, radius)
    implementation = fused_op.attend if fused_op.takes(query, keys, values) else attend
    output, mass, offset = implementation(query, keys, values, valid, bias, radius, with_offset)
    return WindowAttention(output, mass, offset)


def _check_shapes(query: Tensor, keys: Tensor, values: Tensor, valid: Tensor, bias: Tensor | None, radius: int) -> None:
    if radius < 0:
        raise ValueError(f"window_attention: radius is {radius}; 0 or more is allowed")
    if query.dim() != 4 or keys.dim() != 5 or values.dim() != 5:
        raise ValueError(
            "window_attention: query (B, d, h, w), keys (B, K, d, h, w) and values (B, K, Dv, h, w) are needed; "
            f"got {tuple(query.shape)}, {tuple(keys.shape)}, {tuple(values.shape)}"
        )
    batch, channels, height, width = query.shape
    references = keys.shape[1]
    for name, shape, wanted in (
        ("keys", keys.shape, (batch, references, channels, height, width)),
        ("values", values.shape, (batch, references, values.shape[2], height, width)),
        ("valid", valid.shape, (batch, references)),
        ("bias", None if bias is None else bias.shape, (batch, references, height, width)),
    ):
        if shape is not None and tuple(shape) != wanted:
            raise ValueError(f"window_attention: {name} is {tuple(shape)}; {wanted} is needed")
