"""Window attention across frames: every position attends to a square window around it in each reference frame.

The definition (Cen et al. 2025 state that sparse cross-frame attention and the Hadamard product cut the cost; the
formula is inferred): for reference k, offset o in [-R, R]^2 and position p,

    a_k(o, p) = 1/sqrt(d) * sum_c (Q (.) shift_o(K_k))_c(p) + bias_k(p)

with offsets that leave the frame at -inf, one softmax over (k, o) jointly, and the output sum_k,o a_k(o, p) V_k(p + o).

`window_attention` computes it in strips of query tiles against their haloed keys, as a few large matrix products where
a shift-and-multiply loop has hundreds of small ones. Its tests hold it to the definition, taken position by position.
Neither an N x N matrix nor w*w shifted copies of the keys are ever made.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

#: Side of a query tile. Eight keeps the haloed keys (8 + 2R)^2 close to the window while the products stay large.
TILE = 8


class WindowAttention(NamedTuple):
    """What `window_attention` returns."""

    output: Tensor  #: (B, Dv, h, w)
    mass: Tensor  #: (B, K, h, w), the share of attention that went to each reference; sums to 1, or 0 without any
    offset: Tensor  #: (B, K, 2, h, w) int64, the (dy, dx) of each reference's strongest key


def window_attention(
    query: Tensor, keys: Tensor, values: Tensor, *, radius: int, valid: Tensor, bias: Tensor | None = None
) -> WindowAttention:
    """Attend from one frame to windows of side 2 * radius + 1 in K reference frames, under one joint softmax.

    query: (B, d, h, w). keys: (B, K, d, h, w). values: (B, K, Dv, h, w).
    valid: (B, K) bool; a missing reference takes no part, and where none is valid the output is zero.
    bias: (B, K, h, w) added to the logits of reference k at position p, or None.

    Raises ValueError when shapes disagree or the radius is negative.
    """
    _check_shapes(query, keys, values, valid, bias, radius)
    batch, references, _, height, width = keys.shape
    rows, columns = -(-height // TILE), -(-width // TILE)
    pad = (radius, columns * TILE - width + radius, radius, rows * TILE - height + radius)
    keys = F.pad(keys.flatten(0, 1), pad).unflatten(0, (batch, references))
    values = F.pad(values.flatten(0, 1), pad).unflatten(0, (batch, references))
    query = F.pad(query * query.shape[1] ** -0.5, (0, columns * TILE - width, 0, rows * TILE - height))
    # Everything additive but the window itself: absent references and the caller's bias, (B, K, rows*T, columns*T).
    lowest = torch.finfo(query.dtype).min / 4  # finite, and sums of a few stay finite, so an all-masked row is no NaN
    zero = torch.zeros((), dtype=query.dtype, device=query.device)
    additive = zero.masked_fill(~valid, lowest)[:, :, None, None]
    if bias is not None:
        additive = additive + F.pad(bias, (0, columns * TILE - width, 0, rows * TILE - height))
    else:
        additive = additive.expand(batch, references, rows * TILE, columns * TILE)
    inside = _window_mask(radius, rows, columns, height, width, query.device)
    window = zero.masked_fill(~inside, lowest)  # (rows, columns, T*T, halo^2)

    strips = []
    halo = TILE + 2 * radius
    for row in range(rows):
        top = row * TILE
        strips.append(
            _attend_strip(
                _tiles(query[:, None, :, top : top + TILE], TILE),
                _tiles(keys[:, :, :, top : top + halo], halo),
                _tiles(values[:, :, :, top : top + halo], halo),
                _tiles(additive[:, :, None, top : top + TILE], TILE),
                window[row],
                radius,
            )
        )
    output, mass, offset = (torch.cat(parts, dim=-2)[..., :height, :width] for parts in zip(*strips))
    present = valid.any(1)[:, None, None, None]
    return WindowAttention(output * present, mass * valid[:, :, None, None], offset)


def _attend_strip(
    query: Tensor, keys: Tensor, values: Tensor, additive: Tensor, window: Tensor, radius: int
) -> tuple[Tensor, Tensor, Tensor]:
    """One strip of n tiles: T*T queries of each against the K * halo^2 keys around it.

    query (B, n, 1, T*T, d), keys and values (B, n, K, halo^2, .), additive (B, n, K, T*T, 1), window (n, T*T, halo^2).
    """
    references, size = keys.shape[2:4]
    logits = query[:, :, 0] @ keys.flatten(2, 3).transpose(-1, -2)  # (B, n, T*T, K * halo^2)
    logits = logits.unflatten(-1, (references, size))
    logits = logits + additive.transpose(2, 3) + window[None, :, :, None, :]
    weights = logits.flatten(-2).softmax(-1)
    output = (weights @ values.flatten(2, 3)).transpose(-1, -2)  # (B, n, Dv, T*T)
    weights = weights.unflatten(-1, (references, size))
    mass = weights.sum(-1).transpose(2, 3)  # (B, n, K, T*T)
    # The strongest key as an offset: its cell in the halo, less the cell of the query.
    strongest = logits.argmax(-1).transpose(2, 3)  # (B, n, K, T*T)
    halo = TILE + 2 * radius
    cell = torch.arange(TILE * TILE, device=query.device)
    dy = torch.div(strongest, halo, rounding_mode="floor") - torch.div(cell, TILE, rounding_mode="floor") - radius
    dx = strongest % halo - cell % TILE - radius
    return _untile(output), _untile(mass), _untile(torch.stack((dy, dx), 3))


def _tiles(strip: Tensor, size: int) -> Tensor:
    """(B, K, C, size, W) -> (B, n, K, size*size, C): squares of `size` columns every TILE columns."""
    return strip.unfold(-1, size, TILE).permute(0, 4, 1, 3, 5, 2).flatten(3, 4)


def _untile(tiles: Tensor) -> Tensor:
    """(B, n, ..., T*T) -> (B, ..., T, n*T), the inverse of `_tiles` for query tiles."""
    return tiles.unflatten(-1, (TILE, TILE)).movedim(1, -2).flatten(-2)


def _window_mask(radius: int, rows: int, columns: int, height: int, width: int, device: torch.device) -> Tensor:
    """(rows, columns, T*T, halo^2) bool: which haloed key lies both in a query's window and in the frame."""
    vertical = _axis_mask(radius, rows, height, device)  # (rows, T, halo)
    horizontal = _axis_mask(radius, columns, width, device)
    mask = vertical[:, None, :, None, :, None] & horizontal[None, :, None, :, None, :]
    return mask.flatten(4, 5).flatten(2, 3)


def _axis_mask(radius: int, tiles: int, length: int, device: torch.device) -> Tensor:
    """(tiles, T, halo) bool, the same along one axis."""
    query = torch.arange(TILE, device=device)[:, None]
    key = torch.arange(TILE + 2 * radius, device=device)[None, :] - radius
    near = (key - query).abs() <= radius
    position = key + torch.arange(tiles, device=device)[:, None, None] * TILE
    return near & (position >= 0) & (position < length)


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
