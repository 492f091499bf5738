"""Window attention across frames: every position attends to a square window around it in a reference frame.

The definition (Cen et al. 2025 state that sparse cross-frame attention and the Hadamard product cut the cost; the
formula is inferred): for offset o in [-R, R]^2 and position p,

    a(o, p) = scale * sum_c (Q (.) shift_o(K))_c(p) + position_weight * n(o)

with the relative position bias n(o) = cos(pi o_y / (R + 1)) + cos(pi o_x / (R + 1)) and offsets that leave the frame at
-inf, a softmax over o, and the output sum_o a(o, p) V(p + o). Several references are maps of one batch.

One function, two implementations: `portable` (PyTorch operators, any device, differentiable, exportable) and
`triton_kernel` (one fused kernel, on NVIDIA GPUs, as the operator `sdcpc_ros::window_attention` of `fused_op`). Tests
hold both to the definition, position by position. Neither makes an N x N matrix or w*w shifted copies of the keys.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sdcpc_ros.network.window_attention import fused_op, portable
from sdcpc_ros.network.window_attention.portable import Inputs

__all__ = ["WindowAttention", "window_attention"]


class WindowAttention(NamedTuple):
    """What `window_attention` returns."""

    output: Tensor | None  #: (B, Dv, h, w), of the type of the values; None without values
    argmax_offset: Tensor | None  #: (B, 2, h, w) int64, the (dy, dx) of the key of the largest logit; 0 where not valid


def window_attention(
    query: Tensor,
    keys: Tensor,
    values: Tensor | None,
    *,
    radius: int,
    valid: Tensor,
    scale: float | None = None,
    position_weight: Tensor | None = None,
    gather_index: Tensor | None = None,
    with_offset: bool = True,
) -> WindowAttention:
    """Attend from each position to the window of side 2 * radius + 1 around it in another map.

    query: (B, d, h, w). keys: (B, d, h, w). values: (B, Dv, h, w), or None to find the offset alone. Any strides;
        channels last is fastest.
    valid: (B,) bool; where it is false the output is zero, whatever finite numbers keys and values hold.
    scale: of the products of queries and keys, by default 1 / sqrt(d).
    position_weight: a number, (): the weight of the relative position bias n(o), which falls from 2 at o = 0 as o
        grows; None for no such term.
    gather_index: (B, h, w) integers: keys and values are at each position those of position gather_index = y * w + x of
        their maps, as if the maps had been gathered first; None to take them where they lie.
    with_offset: whether to find the largest logit's offset; without, `argmax_offset` is None.

    Types may differ, as under autocast. Logits and their softmax are in the widest type of queries, keys and values; in
    float32 where one is float16 and another bfloat16. Autocast has no effect on what happens here.

    Raises ValueError when shapes disagree or the radius is negative.
    """
    shapes = [tuple(part.shape) for part in (query, keys, values) if part is not None]
    if any(len(shape) != 4 for shape in shapes):
        raise ValueError(
            "window_attention: query (B, d, h, w), keys (B, d, h, w) and values (B, Dv, h, w) are needed; "
            f"got {', '.join(map(str, shapes))}"
        )
    common = torch.promote_types(query.dtype, keys.dtype)
    scale = query.shape[1] ** -0.5 if scale is None else scale
    maps = query.to(common), keys.to(common), values
    inputs = Inputs(*maps, valid, radius, with_offset, scale, position_weight, gather_index)
    _check(inputs)
    attend = fused_op.attend if fused_op.takes(*maps) else portable.attend
    return WindowAttention(*attend(inputs))


def _check(inputs: Inputs) -> None:
    if inputs.radius < 0:
        raise ValueError(f"window_attention: radius is {inputs.radius}; 0 or more is allowed")
    batch, _, height, width = inputs.query.shape
    for name, needed in (
        ("keys", tuple(inputs.query.shape)),
        ("values", (batch, 1 if inputs.values is None else inputs.values.shape[1], height, width)),
        ("valid", (batch,)),
        ("position_weight", ()),
        ("gather_index", (batch, height, width)),
    ):
        tensor = getattr(inputs, name)
        if tensor is not None and tuple(tensor.shape) != needed:
            raise ValueError(f"window_attention: {name} is {tuple(tensor.shape)}; {needed} is needed")
