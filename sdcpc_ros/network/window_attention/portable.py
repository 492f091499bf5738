"""Window attention out of PyTorch's own operators: tiles of queries against their haloed keys, as batched products.

A shift-and-multiply loop is hundreds of small operations. Here a strip of query tiles is multiplied at once with its
keys, gathered as rows of C numbers; the window, the frame's border and missing references are added as very low logits.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from sdcpc_ros.network.window_attention.tile_geometry import TILE, constant, nearness_in_halo
from sdcpc_ros.network.window_attention.tile_layouts import Columns, Gathered, Unfolded


def attend(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    valid: Tensor,
    bias: Tensor | None,
    radius: int,
    with_offset: bool,
    *,
    scale: float | None = None,
    nearness: Tensor | None = None,
    source: Tensor | None = None,
    wanted: Tensor | None = None,
    with_mass: bool = True,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """As `window_attention`: output (B, Dv, h, w), mass (B, K, h, w) or None, and offset (B, K, 2, h, w) or None."""
    device = query.device.type
    arguments = query, keys, values, valid, bias, radius, with_offset, scale, nearness, source, wanted, with_mass
    if not (torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)):
        return _attend(*arguments)
    # Autocast would choose types operator by operator, differently on each device; `working_dtype` chooses here.
    with torch.autocast(device, enabled=False):
        return _attend(*arguments)


def working_dtype(query: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None) -> torch.dtype:
    """The widest type of the maps, in which logits, their softmax and the mass are; float32 for the two halves."""
    dtype = torch.promote_types(torch.promote_types(query.dtype, keys.dtype), values.dtype)
    return dtype if bias is None else torch.promote_types(dtype, bias.dtype)


def _attend(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    valid: Tensor,
    bias: Tensor | None,
    radius: int,
    with_offset: bool,
    scale: float | None,
    nearness: Tensor | None,
    source: Tensor | None,
    wanted: Tensor | None,
    with_mass: bool,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    dtype = working_dtype(query, keys, values, bias)
    # Before keys are gathered: each is in several tiles, and their gradients are to be summed in this type.
    query, keys, wide_values = query.to(dtype), keys.to(dtype), values.to(dtype)
    batch, references, channels, height, width = keys.shape
    if not _may_choose(query):
        wanted = None
    layout: Unfolded | Gathered | Columns
    if torch.compiler.is_compiling():
        layout = Unfolded(keys, wide_values, radius, source)
    elif wanted is None and Columns.pays(keys, radius):
        layout = Columns(keys, wide_values, radius, source)
    else:
        layout = Gathered(keys, wide_values, radius, source, wanted)
        if layout.count == 0:
            return values.new_zeros(batch, values.shape[2], height, width), None, None
    # Everything additive but the window itself: absent references and the caller's bias, (B, K, h, w).
    lowest = torch.finfo(dtype).min / 4  # finite, and sums of a few stay finite, so an all-masked row is no NaN
    zero = torch.zeros((), dtype=dtype, device=query.device)
    additive = zero.masked_fill(~valid, lowest)[:, :, None, None]
    additive = additive.expand(batch, references, height, width) if bias is None else bias + additive
    near = None if nearness is None else nearness * constant(nearness_in_halo, query, radius, dtype, query.device)
    scale = channels**-0.5 if scale is None else scale

    def strips() -> Iterator[list[Tensor]]:
        for tiles, logits, strip_keys, strip_values in layout.strips(query, additive, near):
            logits = logits.baddbmm_(tiles, strip_keys.transpose(1, 2), alpha=scale)
            del strip_keys
            weights = logits.softmax(-1)
            parts = [weights @ strip_values]
            del strip_values
            if with_mass:
                parts.append(layout.mass(weights))
            if with_offset:
                parts.append(layout.strongest(logits))
            del logits, weights
            yield parts

    found = layout.assembled(strips())
    # As numbers: multiplying by a bool tensor would convert it again for every element. A missing reference has no
    # weight but where all are missing.
    present = valid.any(1).to(dtype)[:, None, None, None]
    # In place, else there is memory for it twice; a compiler sees to that by itself.
    output = found[0] * present if torch.compiler.is_compiling() else found[0].mul_(present)
    output = output.to(values.dtype)
    mass = found[1] * present if with_mass else None
    if not with_offset:
        return output, mass, None
    # As an offset: the cell in the halo, less the cell of the query.
    halo, strongest = TILE + 2 * radius, found[-1]
    y, x = (torch.arange(length, device=query.device) % TILE for length in (height, width))
    dy = torch.div(strongest, halo, rounding_mode="floor") - y[:, None] - radius
    dx = strongest % halo - x - radius
    return output, mass, torch.stack((dy, dx), 2) * valid.to(dy.dtype)[:, :, None, None, None]


def _may_choose(like: Tensor) -> bool:
    """Whether the number of tiles may depend on what is in them: on a GPU it would have to be waited for, and fake
    tensors have nothing in them."""
    return like.device.type == "cpu" and type(like) is Tensor
