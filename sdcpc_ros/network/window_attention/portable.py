"""Window attention out of PyTorch's own operators: tiles of queries against their haloed keys, as batched products.

A shift-and-multiply loop is hundreds of small operations. Here a strip of query tiles is multiplied at once with its
keys, gathered as rows of C numbers; the window and the frame's border are added as very low logits.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import NamedTuple

import torch
from torch import Tensor

from sdcpc_ros.network.window_attention.tile_geometry import TILE, constant, position_bias_in_halo
from sdcpc_ros.network.window_attention.tile_layouts import Gathered, Unfolded


class Inputs(NamedTuple):
    """The arguments of `window_attention`, complete and checked, in the order in which the operator takes them."""

    query: Tensor
    keys: Tensor  #: of the type of the query
    values: Tensor | None  #: None: only the offset is asked for
    valid: Tensor
    radius: int
    with_offset: bool
    scale: float
    position_weight: Tensor | None
    gather_index: Tensor | None


def attend(inputs: Inputs) -> tuple[Tensor | None, Tensor | None]:
    """As `window_attention`: output (B, Dv, h, w) or None, and argmax_offset (B, 2, h, w) or None."""
    query, keys, values, valid, radius, with_offset, scale, position_weight, gather_index = inputs
    device = query.device.type
    is_autocast = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    # Autocast would choose types operator by operator, differently on each device; `working_dtype` chooses here.
    with torch.autocast(device, enabled=False) if is_autocast else nullcontext():
        dtype = working_dtype(query, keys, values)
        # Before keys are gathered: each is in several tiles, and their gradients are to be summed in this type.
        query, keys, wide_values = query.to(dtype), keys.to(dtype), None if values is None else values.to(dtype)
        bias = None
        if position_weight is not None:
            bias = position_weight * constant(position_bias_in_halo, query, radius, dtype, query.device)
        layout = (Unfolded if torch.compiler.is_compiling() else Gathered)(keys, wide_values, radius, gather_index)
        strips = _strips(layout, query, bias, scale, with_offset)
        maps = layout.assemble(strips)
        offset = _offset(maps.pop()[:, 0], valid, radius) if with_offset else None
        if values is None:
            return None, offset
        # As numbers: multiplying by a bool tensor would convert it again for every element.
        present = valid.to(dtype)[:, None, None, None]
        # In place, else there is memory for it twice; a compiler sees to that by itself.
        output = maps[0] * present if torch.compiler.is_compiling() else maps[0].mul_(present)
        return output.to(values.dtype), offset


def working_dtype(query: Tensor, keys: Tensor, values: Tensor | None) -> torch.dtype:
    """The widest type of the maps, in which logits and their softmax are; float32 for the two halves."""
    dtype = torch.promote_types(query.dtype, keys.dtype)
    return dtype if values is None else torch.promote_types(dtype, values.dtype)


def _strips(
    layout: Gathered | Unfolded, query: Tensor, bias: Tensor | None, scale: float, with_offset: bool
) -> Iterator[list[Tensor]]:
    """Of some tiles at a time: output (n, T*T, Dv) if there are values, and the largest logit's cell in the halo
    (n, T*T, 1) if it is asked for."""
    for tiles, logits, keys, values in layout.strips(query, bias):
        logits = logits.baddbmm_(tiles, keys.transpose(1, 2), alpha=scale)
        del keys
        parts = [] if values is None else [logits.softmax(-1) @ values]
        del values
        if with_offset:
            parts.append(logits.argmax(-1, keepdim=True))
        del logits
        yield parts


def _offset(cell: Tensor, valid: Tensor, radius: int) -> Tensor:
    """Cells in the halo (B, h, w) -> offsets from the query (B, 2, h, w), 0 where not valid."""
    halo, (height, width) = TILE + 2 * radius, cell.shape[1:]
    y, x = (torch.arange(length, device=cell.device) % TILE for length in (height, width))
    dy = torch.div(cell, halo, rounding_mode="floor") - y[:, None] - radius
    dx = cell % halo - x - radius
    return torch.stack((dy, dx), 1) * valid.to(dy.dtype)[:, None, None, None]
