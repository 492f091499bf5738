"""Where the queries and haloed keys of tiles are, and which of them see each other: what depends on sizes alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

import torch
from torch import Tensor

_Made = TypeVar("_Made")

#: Side of a query tile. Four keeps the haloed keys (4 + 2R)^2 close to the window while the products stay large enough:
#: measured against 2 and 8 at radius 2 and 4, it was fastest at the network's sizes.
TILE = 4


def windows_of_kinds(like: Tensor, radius: int, height: int, width: int, bias: Tensor | None) -> Tensor:
    """(kinds, T*T, halo^2): what is added to the logits of each kind of tile in `tile_kinds`: `window_of_a_tile`,
    `frame_of_tiles`, and bias (T*T, halo^2)."""
    window = constant(_windows_of_kinds, like, radius, height, width, like.dtype, like.device)
    return window if bias is None else window + bias


def _windows_of_kinds(radius: int, height: int, width: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    (rows, _), (columns, _) = _axis_kinds(radius, height, device), _axis_kinds(radius, width, device)
    (_, y_inside), (_, x_inside) = _axis(radius, height, device), _axis(radius, width, device)
    frame = _low_outside(y_inside[rows], x_inside[columns], dtype)
    return window_of_a_tile(radius, dtype, device) + frame[:, None]


def window_of_a_tile(radius: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(T*T, halo^2): 0 where a haloed key is in a query's window, else very low."""
    cell = torch.arange(TILE, device=device)[:, None]
    sees = (torch.arange(TILE + 2 * radius, device=device) - radius - cell).abs() <= radius  # (T, halo)
    return _low_outside(sees, sees, dtype)


def frame_of_tiles(radius: int, height: int, width: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(tiles, halo^2): 0 where a haloed key is in the frame, else very low."""
    (_, y_inside), (_, x_inside) = _axis(radius, height, device), _axis(radius, width, device)
    return _low_outside(y_inside, x_inside, dtype)


def _low_outside(y_inside: Tensor, x_inside: Tensor, dtype: torch.dtype) -> Tensor:
    """(n, halo) and (m, halo) bool -> (n * m, halo^2): 0 where both are true, else a number two of which are finite."""
    inside = y_inside[:, None, :, None] & x_inside[None, :, None, :]
    low = torch.zeros((), dtype=dtype, device=inside.device).masked_fill(~inside, torch.finfo(dtype).min / 4)
    return low.flatten(2).flatten(0, 1)


def tile_kinds(radius: int, batch: int, height: int, width: int, device: torch.device) -> Tensor:
    """(B * tiles) int32: which of `windows_of_kinds` is each tile's."""
    (_, rows), (ones, columns) = _axis_kinds(radius, height, device), _axis_kinds(radius, width, device)
    return (rows[:, None] * len(ones) + columns).flatten().int().repeat(batch)


def _axis_kinds(radius: int, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Along an axis: one tile of each kind, and the kind of each tile. Those whose windows no border cuts are alike."""
    tiles, first = -(-length // TILE), -(-radius // TILE)
    alike = max(0, (length - radius) // TILE - 1 - first)  # beyond the first of them
    ones, each = torch.arange(tiles - alike, device=device), torch.arange(tiles, device=device)
    return ones + alike * (ones > first), each - (each - first).clamp(0, alike)


def positions_of_keys(radius: int, batch: int, height: int, width: int, device: torch.device) -> Tensor:
    """(B * tiles, halo^2) int32, which gathers faster than int64: where each key of each tile is among the rows of all
    maps, b*h*w + y*w + x; beyond the frame, the nearest in it."""
    (y, _), (x, _) = _axis(radius, height, device), _axis(radius, width, device)
    return _through_all_maps(y[:, None, :, None] * width + x[None, :, None, :], batch, height * width)


def positions_of_queries(batch: int, height: int, width: int, device: torch.device) -> Tensor:
    """(B * tiles, T*T) int32: b*h*w + y*w + x of each query of each tile; beyond the frame, the nearest in it."""
    y, x = (_tiled(length, device).clamp(max=length - 1) for length in (height, width))
    return _through_all_maps(y[:, None, :, None] * width + x[None, :, None, :], batch, height * width)


def _through_all_maps(positions: Tensor, batch: int, area: int) -> Tensor:
    """Positions in a map of `area`, (rows, columns, h', w') -> in each of B maps, (B * rows * columns, h' * w')."""
    maps = torch.arange(batch, device=positions.device)[:, None, None] * area
    return (maps + positions.flatten(2).flatten(0, 1)).flatten(0, 1).int()


def _tiled(length: int, device: torch.device) -> Tensor:
    """(tiles, T): positions along an axis."""
    return torch.arange(-(-length // TILE) * TILE, device=device).view(-1, TILE)


def position_bias_in_halo(radius: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(T*T, halo^2): n(o) of each haloed key to each query of a tile; see `window_attention`."""
    exact = torch.promote_types(dtype, torch.float32)  # angles in half precision would be off by a percent
    cell = torch.arange(TILE, dtype=exact, device=device)[:, None]
    key = torch.arange(TILE + 2 * radius, dtype=exact, device=device) - radius
    along = (math.pi / (radius + 1) * (key - cell)).cos()  # (T, halo)
    return (along[:, None, :, None] + along[None, :, None, :]).flatten(2).flatten(0, 1).to(dtype)


def constant(make: Callable[..., _Made], like: Tensor, *arguments: object) -> _Made:
    """`make(*arguments)`, made once.

    Not for a compiler, which folds it into its graph, nor out of fake tensors. Nor while a CUDA graph is captured: what
    is made then lies in the graph's own memory, which each replay overwrites, and what was made before is not kept
    alive by the graph that reads it.
    """
    if torch.compiler.is_compiling() or type(like) is not Tensor or _is_capturing():
        return make(*arguments)
    with torch.inference_mode(False):  # a tensor made in inference mode could not meet autograd later
        return made_once(make, *arguments)


def _is_capturing() -> bool:
    """Whether this thread's CUDA work is being captured in a graph."""
    return torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()


@lru_cache(maxsize=64)  # a handful of cameras, six for each of two windows; at 480x360 the largest is 0.14 MB
def made_once(make: Callable[..., _Made], *arguments: object) -> _Made:
    return make(*arguments)


def _axis(radius: int, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Along one axis, (tiles, halo) each: the positions of each tile's haloed keys, clamped into the frame, and whether
    the frame has them."""
    key = torch.arange(TILE + 2 * radius, device=device) - radius
    position = torch.arange(-(-length // TILE), device=device)[:, None] * TILE + key
    return position.clamp(0, length - 1), (position >= 0) & (position < length)
