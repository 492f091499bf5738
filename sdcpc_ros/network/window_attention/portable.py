"""Window attention out of PyTorch's own operators: tiles of queries against their haloed keys, as batched products.

A shift-and-multiply loop is hundreds of small operations. Here a strip of query tiles is multiplied at once with its
keys, gathered as rows of C numbers; the window, the frame's border and missing references are added as very low logits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

#: Side of a query tile. Four keeps the haloed keys (4 + 2R)^2 close to the window while the products stay large enough:
#: measured against 2 and 8 at radius 2 and 4, it was fastest at the network's sizes.
TILE = 4
#: Keys that are gathered at once, in numbers: a strip and its logits stay in the processor's second-level cache (half
#: and twice as much were no faster, 2^21 took up to 1.5 times as long), and memory beside inputs and outputs stays
#: small. But never so few tiles that calls cost more than the work. A compiler gets larger strips: each is a part of
#: its graph, which takes it seconds.
_STRIP_NUMBERS = 2**18
_STRIP_NUMBERS_COMPILED = 2**20
_FEWEST_TILES = 8


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
    with_mass: bool = True,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """As `window_attention`: output (B, Dv, h, w), mass (B, K, h, w) or None, and offset (B, K, 2, h, w) or None."""
    batch, references, channels, height, width = keys.shape
    columns = -(-width // TILE)
    tiles, halo = -(-height // TILE) * columns, TILE + 2 * radius
    size = references * halo**2
    compiled = torch.compiler.is_compiling()
    # Everything additive but the window itself: absent references and the caller's bias, (B, tiles, T*T, K).
    lowest = torch.finfo(query.dtype).min / 4  # finite, and sums of a few stay finite, so an all-masked row is no NaN
    zero = torch.zeros((), dtype=query.dtype, device=query.device)
    additive = zero.masked_fill(~valid, lowest)[:, None, None, :].expand(batch, tiles, 1, references)
    if compiled:
        if source is not None:
            keys, values = (moved(part, source) for part in (keys, values))
        layout: _Gathered | _Unfolded = _Unfolded(keys, values, radius)
    else:
        layout = _Gathered(keys, values, radius, source)
    query_tiles = layout.tiles(query)  # (B, tiles, T*T, d)
    if bias is not None:
        additive = additive + layout.tiles(bias)
    window = _constant(_window, query, radius, height, width, query.dtype, query.device)  # (tiles, T*T, halo^2)
    near = None if nearness is None else nearness * _constant(_nearness, query, radius, query.dtype, query.device)
    scale = channels**-0.5 if scale is None else scale

    step = max(_FEWEST_TILES, _STRIP_NUMBERS // (batch * size * channels))
    if compiled:  # whole rows of tiles
        step = columns * max(1, _STRIP_NUMBERS_COMPILED // (batch * columns * size * channels))
    strips = []
    for first in range(0, tiles, step):
        strip = slice(first, min(first + step, tiles))
        seen = window[strip] if near is None else window[strip] + near
        # (B * n, T*T, K * halo^2) for the n tiles of the strip
        logits = (additive[:, strip, ..., None] + seen[:, :, None]).flatten(0, 1).flatten(2)
        strip_keys, strip_values = layout.strip(strip)
        logits = logits.baddbmm_(query_tiles[:, strip].flatten(0, 1), strip_keys.transpose(1, 2), alpha=scale)
        del strip_keys
        weights = logits.softmax(-1)
        parts = [(weights @ strip_values).unflatten(0, (batch, -1))]
        del strip_values
        if with_mass:
            parts.append(weights.unflatten(-1, (references, -1)).sum(-1).unflatten(0, (batch, -1)))
        if with_offset:  # the strongest key's cell in the halo
            parts.append(logits.unflatten(-1, (references, -1)).argmax(-1).unflatten(0, (batch, -1)))
        strips.append(parts)
        del logits, weights
    del query_tiles  # as large as the output: the least memory is wanted where both that and its parts are there
    whole = [torch.cat(parts, 1) for parts in zip(*strips)]
    del strips, parts
    found = [layout.untile(part) for part in whole]
    # As numbers: multiplying by a bool tensor would convert it again for every element. A missing reference has no
    # weight but where all are missing.
    present = valid.any(1).to(query.dtype)[:, None, None, None]
    output = found[0] * present
    mass = found[1] * present if with_mass else None
    if not with_offset:
        return output, mass, None
    # As an offset: the cell in the halo, less the cell of the query.
    strongest = found[-1]
    y, x = (torch.arange(length, device=query.device) % TILE for length in (height, width))
    dy = torch.div(strongest, halo, rounding_mode="floor") - y[:, None] - radius
    dx = strongest % halo - x - radius
    return output, mass, torch.stack((dy, dx), 2) * valid.to(dy.dtype)[:, :, None, None, None]


def moved(maps: Tensor, source: Tensor) -> Tensor:
    """Maps (B, K, C, h, w) with, at each position, the row of C numbers of their position source (B, K, h, w)."""
    rows = maps.permute(0, 1, 3, 4, 2).flatten(0, 3).index_select(0, _rows(source).flatten())
    return rows.view(*source.shape, -1).permute(0, 1, 4, 2, 3)


def _rows(source: Tensor) -> Tensor:
    """Positions (B, K, h, w) within their maps, counted through all maps instead; int32, which gathers faster."""
    batch, references, height, width = source.shape
    maps = torch.arange(batch * references, dtype=torch.int32, device=source.device)
    return source.int() + (maps * (height * width)).view(batch, references, 1, 1)


class _Gathered:
    """The haloed keys and values of strips of tiles, gathered by index: one copy, and no padded frame.

    What comes from elsewhere than its position (`source`) is fetched from there in the same copy.
    """

    def __init__(self, keys: Tensor, values: Tensor, radius: int, source: Tensor | None) -> None:
        """keys, values: (B, K, ., h, w). source: (B, K, h, w) or None."""
        self._batch, references, _, self._height, self._width = keys.shape
        # Views where the maps lie channels-last, (B * K * h * w, .).
        self._maps = [part.permute(0, 1, 3, 4, 2).flatten(0, 3) for part in (keys, values)]
        shape = references, self._height, self._width
        index = _constant(_positions, keys, radius, *shape, keys.device)
        frames = torch.arange(self._batch, dtype=torch.int32, device=keys.device)[:, None, None]
        self._frames = frames * math.prod(shape)
        if source is None:
            self._index = index[None]
        else:
            rows = _rows(source).flatten(1)
            self._index = rows.index_select(1, index.flatten()).view(self._batch, *index.shape)
        self._is_moved = source is not None

    def strip(self, strip: slice) -> tuple[Tensor, Tensor]:
        """(B * n, K * halo^2, .) of keys and of values, for n of the tiles."""
        index = self._index[:, strip]
        if self._batch > 1 and not self._is_moved:
            index = self._frames + index
        flat = index.flatten()
        keys, values = (rows.index_select(0, flat).view(-1, index.shape[2], rows.shape[1]) for rows in self._maps)
        return keys, values

    def tiles(self, maps: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, tiles, T*T, C); beyond the frame, what is nearest in it."""
        index = _constant(_positions_of_queries, maps, self._height, self._width, maps.device)
        return _select(maps.permute(0, 2, 3, 1).flatten(1, 2), index.flatten()).unflatten(1, (-1, TILE * TILE))

    def untile(self, tiles: Tensor) -> Tensor:
        """(B, tiles, T*T, C) -> (B, C, h, w), channels-last in memory."""
        index = _constant(_places_in_tiles, tiles, self._height, self._width, tiles.device)
        rows = _select(tiles.flatten(1, 2), index)
        return rows.unflatten(1, (self._height, self._width)).permute(0, 3, 1, 2)


def _select(rows: Tensor, index: Tensor) -> Tensor:
    """(B, N, C) at the n of index -> (B, n, C). A single frame along its first axis, which is several times faster."""
    if len(rows) == 1:
        return rows[0].index_select(0, index)[None]
    return rows.index_select(1, index)


class _Unfolded:
    """The same out of padded copies, by strides alone: what a compiler turns into one loop without index arithmetic."""

    def __init__(self, keys: Tensor, values: Tensor, radius: int) -> None:
        """keys, values: (B, K, ., h, w)."""
        self._height, self._width = keys.shape[3:]
        self._rows, self._columns = (-(-length // TILE) for length in keys.shape[3:])
        bottom, right = -self._height % TILE, -self._width % TILE
        halo = (0, 0, radius, right + radius, radius, bottom + radius)
        self._padded = [F.pad(part.permute(0, 1, 3, 4, 2), halo) for part in (keys, values)]
        self._radius = radius

    def strip(self, strip: slice) -> tuple[Tensor, Tensor]:
        """(B * n, K * halo^2, .) of keys and of values, for n of the tiles, whole rows of them."""
        size = TILE + 2 * self._radius
        first, last = strip.start // self._columns, strip.stop // self._columns
        rows = slice(first * TILE, last * TILE + 2 * self._radius)
        # (B, K, r, columns, C, size, size)
        keys, values = (part[:, :, rows].unfold(2, size, TILE).unfold(3, size, TILE) for part in self._padded)
        order = (0, 2, 3, 1, 5, 6, 4)
        return keys.permute(order).flatten(3, 5).flatten(0, 2), values.permute(order).flatten(3, 5).flatten(0, 2)

    def tiles(self, maps: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, tiles, T*T, C), zeros beyond the frame."""
        padded = F.pad(maps, (0, self._columns * TILE - self._width, 0, self._rows * TILE - self._height))
        squares = padded.unflatten(3, (self._columns, TILE)).unflatten(2, (self._rows, TILE))
        return squares.permute(0, 2, 4, 3, 5, 1).flatten(3, 4).flatten(1, 2)

    def untile(self, tiles: Tensor) -> Tensor:
        """(B, tiles, T*T, C) -> (B, C, h, w), channels-last in memory."""
        squares = tiles.unflatten(2, (TILE, TILE)).unflatten(1, (self._rows, self._columns))
        whole = squares.transpose(2, 3).flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)
        return whole[..., : self._height, : self._width]


def _window(radius: int, height: int, width: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(tiles, T*T, halo^2): 0 where a haloed key lies in a query's window and in the frame, else very low."""
    (_, row_sees), (_, column_sees) = _axis(radius, height, device), _axis(radius, width, device)
    seen = row_sees[:, None, :, None, :, None] & column_sees[None, :, None, :, None, :]
    window = torch.zeros((), dtype=dtype, device=device).masked_fill(~seen, torch.finfo(dtype).min / 4)
    return window.flatten(4, 5).flatten(2, 3).flatten(0, 1)


def _positions(radius: int, references: int, height: int, width: int, device: torch.device) -> Tensor:
    """(tiles, K * halo^2) int32, which gathers faster than int64: k*h*w + y*w + x of each key of each tile;
    beyond the frame, the nearest in it."""
    (y, _), (x, _) = _axis(radius, height, device), _axis(radius, width, device)
    positions = (y[:, None, :, None] * width + x[None, :, None, :]).flatten(2)  # (rows, columns, halo^2)
    frames = torch.arange(references, device=device)[:, None] * (height * width)
    return (frames + positions[:, :, None]).flatten(2).flatten(0, 1).int()


def _positions_of_queries(height: int, width: int, device: torch.device) -> Tensor:
    """(tiles, T*T) int32: y*w + x of each query of each tile; beyond the frame, the nearest in it."""
    y, x = (_tiled(length, device).clamp(max=length - 1) for length in (height, width))
    return (y[:, None, :, None] * width + x[None, :, None, :]).flatten(2).flatten(0, 1).int()


def _places_in_tiles(height: int, width: int, device: torch.device) -> Tensor:
    """(h * w) int32: where among the queries of all tiles, in their order, each position of the frame is."""
    y, x = (torch.arange(length, device=device) for length in (height, width))
    tile = torch.div(y, TILE, rounding_mode="floor")[:, None] * -(-width // TILE) + torch.div(
        x, TILE, rounding_mode="floor"
    )
    return (tile * TILE**2 + (y % TILE)[:, None] * TILE + x % TILE).flatten().int()


def _tiled(length: int, device: torch.device) -> Tensor:
    """(tiles, T): positions along an axis."""
    return torch.arange(-(-length // TILE) * TILE, device=device).view(-1, TILE)


def _nearness(radius: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(T*T, halo^2): of each haloed key to each query of a tile; see `window_attention`."""
    cell = torch.arange(TILE, dtype=dtype, device=device)[:, None]
    key = torch.arange(TILE + 2 * radius, dtype=dtype, device=device) - radius
    along = (math.pi / (radius + 1) * (key - cell)).cos()  # (T, halo)
    return (along[:, None, :, None] + along[None, :, None, :]).flatten(2).flatten(0, 1)


def _constant(make: Callable[..., Tensor], like: Tensor, *arguments: object) -> Tensor:
    """`make(*arguments)`, made once.

    Not for a compiler, which folds it into its graph, nor out of fake tensors. Nor while a CUDA graph is captured: what
    is made then lies in the graph's own memory, which each replay overwrites, and what was made before is not kept
    alive by the graph that reads it.
    """
    if torch.compiler.is_compiling() or type(like) is not Tensor or _is_capturing():
        return make(*arguments)
    with torch.inference_mode(False):  # a tensor made in inference mode could not meet autograd later
        return _made_once(make, *arguments)


def _is_capturing() -> bool:
    """Whether this thread's CUDA work is being captured in a graph."""
    return torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()


@lru_cache(maxsize=64)  # a handful of cameras, five for each of two windows; at 480x360 the largest is 0.7 MB
def _made_once(make: Callable[..., Tensor], *arguments: object) -> Tensor:
    return make(*arguments)


def _axis(radius: int, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Along one axis: positions of the haloed keys of each tile, (tiles, halo), clamped into the frame; and which of
    them lie in a query's window and in the frame, (tiles, T, halo) bool."""
    cell = torch.arange(TILE, device=device)[:, None]
    key = torch.arange(TILE + 2 * radius, device=device) - radius
    position = torch.arange(-(-length // TILE), device=device)[:, None] * TILE + key
    inside = (position >= 0) & (position < length)
    return position.clamp(0, length - 1), ((key - cell).abs() <= radius) & inside[:, None, :]
