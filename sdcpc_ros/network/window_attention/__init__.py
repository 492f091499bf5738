"""Window attention across frames: every position attends to a square window around it in each reference frame.

The definition (Cen et al. 2025 state that sparse cross-frame attention and the Hadamard product cut the cost; the
formula is inferred): for reference k, offset o in [-R, R]^2 and position p,

    a_k(o, p) = scale * sum_c (Q (.) shift_o(K_k))_c(p) + bias_k(p) + nearness * n(o)

with n(o) = cos(pi o_y / (R + 1)) + cos(pi o_x / (R + 1)) and offsets that leave the frame at -inf, one softmax over
(k, o) jointly, and the output sum_k,o a_k(o, p) V_k(p + o).

One function, two implementations: `portable` (PyTorch operators, any device, differentiable, exportable) and
`triton_kernel` (one fused kernel, on NVIDIA GPUs, as the operator `sdcpc_ros::window_attention` of `fused_op`). Tests
hold both to the definition, position by position. Neither makes an N x N matrix or w*w shifted copies of the keys.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from sdcpc_ros.network.window_attention import fused_op, portable
from sdcpc_ros.network.window_attention.gathering import moved

__all__ = ["WindowAttention", "window_attention"]

#: Channels that say where a query or key is.
_POSITION_CHANNELS = 4


class WindowAttention(NamedTuple):
    """What `window_attention` returns."""

    output: Tensor  #: (B, Dv, h, w), of the type of the values
    #: (B, K, h, w), the share of attention that went to each reference; sums to 1, or 0 without any
    mass: Tensor | None
    offset: Tensor | None  #: (B, K, 2, h, w) int64, the (dy, dx) of each reference's strongest key; 0 for a missing one


def window_attention(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    *,
    radius: int,
    valid: Tensor,
    bias: Tensor | None = None,
    scale: float | None = None,
    nearness: Tensor | None = None,
    source: Tensor | None = None,
    wanted: Tensor | None = None,
    with_mass: bool = True,
    with_offset: bool = True,
) -> WindowAttention:
    """Attend from one frame to windows of side 2 * radius + 1 in K reference frames, under one joint softmax.

    query: (B, d, h, w). keys: (B, K, d, h, w). values: (B, K, Dv, h, w). Any strides; channels last is fastest.
    valid: (B, K) bool; a missing reference takes no part, and where none is valid the output is zero.
    bias: (B, K, h, w) added to the logits of reference k at position p, or None.
    scale: of the products of queries and keys, by default 1 / sqrt(d).
    nearness: a number, (): how much the logits gain with nearness n(o), which falls from 2 where o is zero as o grows;
        or None for nothing.
    source: (B, K, h, w) integers: keys and values are at each position those of position source = y * w + x of their
        maps, as if the maps had been moved first; None where they lie as they are.
    wanted: (B, h, w) bool: where the output is wanted, so that elsewhere work may be saved and it may be zero instead;
        not together with mass or offset. None for everywhere.
    with_mass, with_offset: whether shares and strongest keys are wanted; without, `mass` and `offset` may be None.

    Types may differ, as under autocast. Logits, their softmax and the mass are in the widest type of queries, keys,
    values and bias; in float32 where one is float16 and another bfloat16. Autocast has no effect on what happens here.

    Raises ValueError when shapes disagree or the radius is negative.
    """
    _check_shapes(query, keys, values, valid, bias, nearness, source, wanted, radius)
    if wanted is not None and (with_mass or with_offset):
        raise ValueError("window_attention: mass and offset are found everywhere or not at all; wanted is given")
    extra = 0 if nearness is None else _POSITION_CHANNELS
    common = torch.promote_types(query.dtype, keys.dtype)
    query, keys = query.to(common), keys.to(common)
    if not fused_op.takes(query, keys, values, extra):
        output, mass, offset = portable.attend(
            *(query, keys, values, valid, bias, radius, with_offset),
            scale=scale,
            nearness=nearness,
            source=source,
            wanted=wanted,
            with_mass=with_mass,
        )
        return WindowAttention(output, mass, offset)
    # The kernel knows products alone: what else there is is brought into queries and keys.
    factor = 1.0 if scale is None else scale * math.sqrt(query.shape[1] + extra)
    if nearness is not None and scale is None:
        factor = math.sqrt((query.shape[1] + extra) / query.shape[1])
    if factor != 1:
        query = query * factor
    if source is not None:
        keys, values = (moved(part, source) for part in (keys, values))
    if nearness is not None:
        query, keys = _placed(query, keys, nearness, radius)
    return WindowAttention(*fused_op.attend(query, keys, values, valid, bias, radius, with_offset))


def _placed(query: Tensor, keys: Tensor, nearness: Tensor, radius: int) -> tuple[Tensor, Tensor]:
    """Queries and keys with four channels more, of which the attention's products are the term of nearness.

    Positions are points on two circles: the product of two depends on their offset alone.
    """
    height, width = query.shape[2:]
    frequency = math.pi / (radius + 1)
    exact = torch.promote_types(query.dtype, torch.float32)  # angles far from zero have no decimals in half precision
    y, x = (frequency * torch.arange(n, dtype=exact, device=query.device) for n in (height, width))
    y, x = y[:, None].expand(height, width), x.expand(height, width)
    positions = torch.stack((y.cos(), y.sin(), x.cos(), x.sin()), -1)
    weight = nearness * math.sqrt(query.shape[1] + _POSITION_CHANNELS)  # attention divides by it
    weighted = (weight * positions).to(query.dtype)
    query = torch.cat((query.permute(0, 2, 3, 1), weighted.expand(len(query), -1, -1, -1)), -1)
    positions = positions.to(keys.dtype)
    keys = torch.cat((keys.permute(0, 1, 3, 4, 2), positions.expand(*keys.shape[:2], -1, -1, -1)), -1)
    return query.permute(0, 3, 1, 2), keys.permute(0, 1, 4, 2, 3)


def _check_shapes(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    valid: Tensor,
    bias: Tensor | None,
    nearness: Tensor | None,
    source: Tensor | None,
    wanted: Tensor | None,
    radius: int,
) -> None:
    if radius < 0:
        raise ValueError(f"window_attention: radius is {radius}; 0 or more is allowed")
    if query.dim() != 4 or keys.dim() != 5 or values.dim() != 5:
        raise ValueError(
            "window_attention: query (B, d, h, w), keys (B, K, d, h, w) and values (B, K, Dv, h, w) are needed; "
            f"got {tuple(query.shape)}, {tuple(keys.shape)}, {tuple(values.shape)}"
        )
    batch, channels, height, width = query.shape
    references = keys.shape[1]
    for name, shape, needed in (
        ("keys", keys.shape, (batch, references, channels, height, width)),
        ("values", values.shape, (batch, references, values.shape[2], height, width)),
        ("valid", valid.shape, (batch, references)),
        ("bias", None if bias is None else bias.shape, (batch, references, height, width)),
        ("nearness", None if nearness is None else nearness.shape, ()),
        ("wanted", None if wanted is None else wanted.shape, (batch, height, width)),
        ("source", None if source is None else source.shape, (batch, references, height, width)),
    ):
        if shape is not None and tuple(shape) != needed:
            raise ValueError(f"window_attention: {name} is {tuple(shape)}; {needed} is needed")
