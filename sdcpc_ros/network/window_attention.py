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

from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

#: Side of a query tile. Four keeps the haloed keys (4 + 2R)^2 close to the window while the products stay large enough:
#: measured here against 8 and 16, it halves the time at radius 2 and is no slower at radius 4.
TILE = 4
#: Query tiles that are worked on at once, by the numbers that their haloed keys hold: few large steps, but never the
#: keys of the whole frame copied (8 + 2R)^2 / 64 times.
_STRIP_NUMBERS = 2**20


class WindowAttention(NamedTuple):
    """What `window_attention` returns."""

    output: Tensor  #: (B, Dv, h, w)
    mass: Tensor  #: (B, K, h, w), the share of attention that went to each reference; sums to 1, or 0 without any
    offset: Tensor | None  #: (B, K, 2, h, w) int64, the (dy, dx) of each reference's strongest key


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

    query: (B, d, h, w). keys: (B, K, d, h, w). values: (B, K, Dv, h, w).
    valid: (B, K) bool; a missing reference takes no part, and where none is valid the output is zero.
    bias: (B, K, h, w) added to the logits of reference k at position p, or None.
    with_offset: whether the strongest keys are wanted; without, `offset` is None.

    Raises ValueError when shapes disagree or the radius is negative.
    """
    _check_shapes(query, keys, values, valid, bias, radius)
    batch, references, channels, height, width = keys.shape
    rows, columns = -(-height // TILE), -(-width // TILE)
    bottom, right = rows * TILE - height, columns * TILE - width
    halo = (0, 0, radius, right + radius, radius, bottom + radius)
    # Channels last, so that a tile is a few long runs of memory; a view when the caller's maps are laid out so.
    keys = F.pad(keys.permute(0, 1, 3, 4, 2), halo)
    values = F.pad(values.permute(0, 1, 3, 4, 2), halo)
    query = F.pad((query * query.shape[1] ** -0.5).permute(0, 2, 3, 1), (0, 0, 0, right, 0, bottom))
    # Everything additive but the window itself: absent references and the caller's bias, (B, rows*T, columns*T, K).
    lowest = torch.finfo(query.dtype).min / 4  # finite, and sums of a few stay finite, so an all-masked row is no NaN
    zero = torch.zeros((), dtype=query.dtype, device=query.device)
    additive = zero.masked_fill(~valid, lowest)[:, None, None, :]
    if bias is not None:
        additive = additive + F.pad(bias, (0, right, 0, bottom)).permute(0, 2, 3, 1)
    else:
        additive = additive.expand(batch, rows * TILE, columns * TILE, references)
    # (rows, columns, T*T, 1, halo^2)
    window = _window_additive(radius, rows, columns, height, width, query)[:, :, :, None]

    size = TILE + 2 * radius
    step = max(1, _STRIP_NUMBERS // (batch * columns * references * size * size * channels))
    strips = []
    for row in range(0, rows, step):
        last = min(row + step, rows)
        inner, outer = slice(row * TILE, last * TILE), slice(row * TILE, last * TILE + 2 * radius)
        strips.append(
            _attend_strip(
                _tiles(query[:, None, inner], TILE),
                _tiles(keys[:, :, outer], size),
                _tiles(values[:, :, outer], size),
                _tiles(additive[:, None, inner], TILE),
                window[row:last],
                radius if with_offset else None,
            )
        )
    output, mass, *offset = (torch.cat(parts, 2)[:, :, :height, :width] for parts in zip(*strips))
    # Back to the order of the arguments: (B, Dv, h, w), (B, K, h, w) and (B, K, 2, h, w).
    output = output[:, 0].permute(0, 3, 1, 2) * valid.any(1)[:, None, None, None]
    mass = mass[:, 0].permute(0, 3, 1, 2) * valid[:, :, None, None]
    return WindowAttention(output, mass, offset[0].permute(0, 4, 1, 2, 3) if offset else None)


def _attend_strip(
    query: Tensor, keys: Tensor, values: Tensor, additive: Tensor, window: Tensor, radius: int | None
) -> tuple[Tensor, ...]:
    """r x n tiles: the T*T queries of each against the K * halo^2 keys around it.

    query (B, r, n, T*T, d), keys and values (B, r, n, K * halo^2, .), additive (B, r, n, T*T, K), window
    (r, n, T*T, 1, halo^2). Returns output (B, 1, r*T, n*T, Dv), mass (B, 1, r*T, n*T, K) and, when `radius` is given,
    offsets (B, 2, r*T, n*T, K).
    """
    rows, columns, tile, _, size = window.shape
    bias = (additive[..., None] + window).flatten(-2)  # (B, r, n, T*T, K * halo^2)
    logits = torch.baddbmm(bias.flatten(0, 2), query.flatten(0, 2), keys.flatten(0, 2).transpose(1, 2))
    weights = logits.softmax(-1)
    output = weights @ values.flatten(0, 2)
    shape = (query.shape[0], rows, columns, tile, -1)
    mass = weights.unflatten(-1, (-1, size)).sum(-1)  # (B*r*n, T*T, K)
    parts = [_untile(output.view(shape)[:, None]), _untile(mass.view(shape)[:, None])]
    if radius is not None:
        # The strongest key as an offset: its cell in the halo, less the cell of the query.
        strongest = logits.unflatten(-1, (-1, size)).argmax(-1)  # (B*r*n, T*T, K)
        halo = TILE + 2 * radius
        cell = torch.arange(tile, device=query.device)[:, None]
        dy = torch.div(strongest, halo, rounding_mode="floor") - torch.div(cell, TILE, rounding_mode="floor") - radius
        dx = strongest % halo - cell % TILE - radius
        parts.append(_untile(torch.stack((dy.view(shape), dx.view(shape)), 1)))
    return tuple(parts)


def _tiles(strip: Tensor, size: int) -> Tensor:
    """(B, K, H, W, C) -> (B, r, n, K*size*size, C): squares of `size` every TILE rows and columns."""
    squares = strip.unfold(2, size, TILE).unfold(3, size, TILE)  # (B, K, r, n, C, size, size)
    return squares.permute(0, 2, 3, 1, 5, 6, 4).flatten(3, 5)


def _untile(tiles: Tensor) -> Tensor:
    """(B, X, r, n, T*T, C) -> (B, X, r*T, n*T, C), the inverse of `_tiles` for query tiles."""
    return tiles.unflatten(4, (TILE, TILE)).transpose(3, 4).flatten(4, 5).flatten(2, 3)


def _window_additive(radius: int, rows: int, columns: int, height: int, width: int, query: Tensor) -> Tensor:
    """(rows, columns, T*T, halo^2): 0 where a haloed key lies in a query's window and in the frame, else very low."""
    arguments = (radius, rows, columns, height, width, query.dtype, query.device)
    # A compiler folds it into a constant of its graph; one made of fake tensors must not reach the cache.
    if torch.compiler.is_compiling() or type(query) is not Tensor:
        return _make_window_additive(*arguments)
    with torch.inference_mode(False):  # a tensor made in inference mode could not meet autograd later
        return _cached_window_additive(*arguments)


def _make_window_additive(
    radius: int, rows: int, columns: int, height: int, width: int, dtype: torch.dtype, device: torch.device
) -> Tensor:
    vertical = _axis_mask(radius, rows, height, device)  # (rows, T, halo)
    horizontal = _axis_mask(radius, columns, width, device)
    inside = vertical[:, None, :, None, :, None] & horizontal[None, :, None, :, None, :]
    zero = torch.zeros((), dtype=dtype, device=device)
    return zero.masked_fill(~inside.flatten(4, 5).flatten(2, 3), torch.finfo(dtype).min / 4)


#: A handful of cameras, two windows each; at 480x360 the larger is 0.7 MB.
_cached_window_additive = lru_cache(maxsize=16)(_make_window_additive)


def _axis_mask(radius: int, tiles: int, length: int, device: torch.device) -> Tensor:
    """(tiles, T, halo) bool: which keys of a haloed tile lie in a query's window and in the frame, along one axis."""
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
