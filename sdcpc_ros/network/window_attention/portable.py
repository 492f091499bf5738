"""Window attention out of PyTorch's own operators: tiles of queries against their haloed keys, as batched products.

A shift-and-multiply loop is hundreds of small operations. Here a strip of query tiles is multiplied at once with its
keys, gathered as rows of C numbers; the window, the frame's border and missing references are added as very low logits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
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
    wanted: Tensor | None = None,
    with_mass: bool = True,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """As `window_attention`: output (B, Dv, h, w), mass (B, K, h, w) or None, and offset (B, K, 2, h, w) or None."""
    batch, references, channels, height, width = keys.shape
    halo = TILE + 2 * radius
    size = references * halo**2
    layout: _Gathered | _Unfolded
    if torch.compiler.is_compiling():
        if source is not None:
            keys, values = (moved(part, source) for part in (keys, values))
        layout = _Unfolded(keys, values, radius)
        step = layout.columns * max(1, _STRIP_NUMBERS_COMPILED // (batch * layout.columns * size * channels))
    else:
        layout = _Gathered(keys, values, radius, source, wanted if _may_choose(query) else None)
        step = max(_FEWEST_TILES, _STRIP_NUMBERS // (size * channels))
        if layout.count == 0:
            return values.new_zeros(batch, values.shape[2], height, width), None, None
    # Everything additive but the window itself: absent references and the caller's bias, (tiles, T*T, K, 1).
    lowest = torch.finfo(query.dtype).min / 4  # finite, and sums of a few stay finite, so an all-masked row is no NaN
    zero = torch.zeros((), dtype=query.dtype, device=query.device)
    additive = zero.masked_fill(~valid, lowest)[:, :, None, None]
    additive = layout.tiles(additive.expand(batch, references, height, width) if bias is None else bias + additive)
    additive = additive[..., None]
    query_tiles = layout.tiles(query)  # (tiles, T*T, d)
    window = layout.window(_constant(_window, query, radius, height, width, query.dtype, query.device)).unsqueeze(-2)
    near = None if nearness is None else nearness * _constant(_nearness, query, radius, query.dtype, query.device)
    scale = channels**-0.5 if scale is None else scale

    strips = []
    for tiles, added, seen, (strip_keys, strip_values) in layout.strips(step, query_tiles, additive, window):
        # (n, T*T, K * halo^2) for the n tiles of the strip
        logits = (added + (seen if near is None else seen + near[:, None])).flatten(2)
        logits = logits.baddbmm_(tiles, strip_keys.transpose(1, 2), alpha=scale)
        del strip_keys
        weights = logits.softmax(-1)
        parts = [weights @ strip_values]
        del strip_values
        if with_mass:
            parts.append(weights.unflatten(-1, (references, -1)).sum(-1))
        if with_offset:  # the strongest key's cell in the halo
            parts.append(logits.unflatten(-1, (references, -1)).argmax(-1))
        strips.append(parts)
        del logits, weights
    del tiles, query_tiles  # as large as the output: memory is wanted where that and its parts are there
    whole = [layout.join(parts) for parts in zip(*strips)]
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


def _may_choose(like: Tensor) -> bool:
    """Whether the number of tiles may depend on what is in them: on a GPU it would have to be waited for, and fake
    tensors have nothing in them."""
    return like.device.type == "cpu" and type(like) is Tensor


def moved(maps: Tensor, source: Tensor) -> Tensor:
    """Maps (B, K, C, h, w) with, at each position, the row of C numbers of their position source (B, K, h, w)."""
    rows = maps.permute(0, 1, 3, 4, 2).flatten(0, 3).index_select(0, _rows(source).flatten())
    return rows.view(*source.shape, -1).permute(0, 1, 4, 2, 3)


def _rows(source: Tensor) -> Tensor:
    """Positions (B, K, h, w) within their maps, counted through all maps instead; int32, which gathers faster."""
    batch, references, height, width = source.shape
    maps = torch.arange(batch * references, dtype=torch.int32, device=source.device)
    return source.int() + (maps * (height * width)).view(batch, references, 1, 1)


_Strips = Iterator[tuple[Tensor, Tensor, Tensor, tuple[Tensor, Tensor]]]


class _Gathered:
    """Tiles of queries and the haloed keys and values of each, gathered by index: one copy, and no padded frame.

    What comes from elsewhere than its position (`source`) is fetched from there in the same copy. Tiles of all frames
    are one sequence; those in which nothing is wanted are left out of it.
    """

    def __init__(
        self, keys: Tensor, values: Tensor, radius: int, source: Tensor | None, wanted: Tensor | None = None
    ) -> None:
        """keys, values: (B, K, ., h, w). source: (B, K, h, w) or None. wanted: (B, h, w) bool or None for all."""
        self._batch, references, _, self._height, self._width = keys.shape
        frame = self._batch, self._height, self._width, keys.device
        # Views where the maps lie channels-last, (B * K * h * w, .).
        self._maps = [part.permute(0, 1, 3, 4, 2).flatten(0, 3) for part in (keys, values)]
        self._queries = _constant(_positions_of_queries, keys, *frame)
        self._places = _constant(_places_in_tiles, keys, *frame)
        self._index = _constant(_positions, keys, radius, references, *frame)
        self._chosen: Tensor | None = None
        if wanted is not None:
            of_tiles = wanted.flatten().index_select(0, self._queries.flatten()).view(self._queries.shape)
            self._choose(of_tiles.any(1))
        if source is not None:
            index = _rows(source).flatten().index_select(0, self._index.flatten())
            self._index = index.view(self._index.shape)

    @property
    def count(self) -> int:
        """How many tiles there are."""
        return len(self._queries)

    def _choose(self, wanted: Tensor) -> None:
        """wanted: (B * tiles) bool."""
        self._chosen = wanted.nonzero()[:, 0]
        self._queries = self._queries.index_select(0, self._chosen)
        self._index = self._index.index_select(0, self._chosen)
        # Where each chosen tile is now; all others are one more, of zeros.
        now = torch.full((len(wanted),), len(self._chosen), dtype=torch.int32)
        now[self._chosen] = torch.arange(len(self._chosen), dtype=torch.int32)
        area = TILE * TILE
        tile = torch.div(self._places, area, rounding_mode="floor")
        self._places = now.index_select(0, tile) * area + self._places % area

    def window(self, window: Tensor) -> Tensor:
        """What a frame's tiles have each, (tiles, ...), for all tiles here."""
        if self._chosen is not None:
            return window.index_select(0, self._chosen % len(window))
        return window if self._batch == 1 else window.repeat(self._batch, 1, 1)

    def tiles(self, maps: Tensor) -> Tensor:
        """(B, C, h, w) -> (tiles, T*T, C); beyond the frame, what is nearest in it."""
        rows = maps.permute(0, 2, 3, 1).flatten(0, 2)
        return rows.index_select(0, self._queries.flatten()).view(*self._queries.shape, rows.shape[1])

    def strips(self, step: int, queries: Tensor, additive: Tensor, window: Tensor) -> _Strips:
        """`step` tiles at a time, of each argument (tiles, ...), with their keys and values (step, K * halo^2, .)."""
        parts = (part.split(step) for part in (queries, additive, window, self._index))
        for query, added, seen, index in zip(*parts):
            flat = index.flatten()
            keys, values = (rows.index_select(0, flat).view(*index.shape, rows.shape[1]) for rows in self._maps)
            yield query, added, seen, (keys, values)
            del keys, values  # before the next ones are made

    def join(self, strips: Sequence[Tensor]) -> Tensor:
        """Strips (n, T*T, C) -> (tiles, T*T, C), with a tile of zeros at the end where not all are there."""
        if self._chosen is not None:
            strips = (*strips, strips[0].new_zeros(1, *strips[0].shape[1:]))
        return torch.cat(tuple(strips))

    def untile(self, tiles: Tensor) -> Tensor:
        """(tiles, T*T, C) -> (B, C, h, w), channels-last in memory."""
        rows = tiles.flatten(0, 1).index_select(0, self._places)
        return rows.view(self._batch, self._height, self._width, -1).permute(0, 3, 1, 2)


class _Unfolded:
    """The same out of padded copies, by strides alone: what a compiler turns into one loop without index arithmetic."""

    def __init__(self, keys: Tensor, values: Tensor, radius: int) -> None:
        """keys, values: (B, K, ., h, w)."""
        self._batch, self._height, self._width = keys.shape[0], *keys.shape[3:]
        self._rows, self.columns = (-(-length // TILE) for length in keys.shape[3:])
        bottom, right = -self._height % TILE, -self._width % TILE
        halo = (0, 0, radius, right + radius, radius, bottom + radius)
        self._padded = [F.pad(part.permute(0, 1, 3, 4, 2), halo) for part in (keys, values)]
        self._radius = radius

    def window(self, window: Tensor) -> Tensor:
        return window.expand(self._batch, *window.shape)

    def tiles(self, maps: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, tiles, T*T, C), zeros beyond the frame."""
        padded = F.pad(maps, (0, self.columns * TILE - self._width, 0, self._rows * TILE - self._height))
        squares = padded.unflatten(3, (self.columns, TILE)).unflatten(2, (self._rows, TILE))
        return squares.permute(0, 2, 4, 3, 5, 1).flatten(3, 4).flatten(1, 2)

    def strips(self, step: int, queries: Tensor, additive: Tensor, window: Tensor) -> _Strips:
        """As of `_Gathered`, of all frames at once: whole rows of tiles, of each argument (B, tiles, ...)."""
        for first in range(0, queries.shape[1], step):
            strip = slice(first, min(first + step, queries.shape[1]))
            query, added, seen = (part[:, strip].flatten(0, 1) for part in (queries, additive, window))
            yield query, added, seen, self._haloes(strip)

    def _haloes(self, strip: slice) -> tuple[Tensor, Tensor]:
        size = TILE + 2 * self._radius
        first, last = strip.start // self.columns, strip.stop // self.columns
        rows = slice(first * TILE, last * TILE + 2 * self._radius)
        # (B, K, r, columns, C, size, size)
        keys, values = (part[:, :, rows].unfold(2, size, TILE).unfold(3, size, TILE) for part in self._padded)
        order = (0, 2, 3, 1, 5, 6, 4)
        return keys.permute(order).flatten(3, 5).flatten(0, 2), values.permute(order).flatten(3, 5).flatten(0, 2)

    def join(self, strips: Sequence[Tensor]) -> Tensor:
        """Strips (B * n, T*T, C) -> (B, tiles, T*T, C)."""
        return torch.cat([strip.unflatten(0, (self._batch, -1)) for strip in strips], 1)

    def untile(self, tiles: Tensor) -> Tensor:
        """(B, tiles, T*T, C) -> (B, C, h, w), channels-last in memory."""
        squares = tiles.unflatten(2, (TILE, TILE)).unflatten(1, (self._rows, self.columns))
        whole = squares.transpose(2, 3).flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)
        return whole[..., : self._height, : self._width]


def _window(radius: int, height: int, width: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(tiles, T*T, halo^2): 0 where a haloed key lies in a query's window and in the frame, else very low."""
    (_, row_sees), (_, column_sees) = _axis(radius, height, device), _axis(radius, width, device)
    seen = row_sees[:, None, :, None, :, None] & column_sees[None, :, None, :, None, :]
    window = torch.zeros((), dtype=dtype, device=device).masked_fill(~seen, torch.finfo(dtype).min / 4)
    return window.flatten(4, 5).flatten(2, 3).flatten(0, 1)


def _positions(radius: int, references: int, batch: int, height: int, width: int, device: torch.device) -> Tensor:
    """(B * tiles, K * halo^2) int32, which gathers faster than int64: where each key of each tile is among the rows of
    all maps, (b*K + k)*h*w + y*w + x; beyond the frame, the nearest in it."""
    (y, _), (x, _) = _axis(radius, height, device), _axis(radius, width, device)
    positions = (y[:, None, :, None] * width + x[None, :, None, :]).flatten(2).flatten(0, 1)  # (tiles, halo^2)
    maps = torch.arange(batch * references, device=device).view(batch, 1, references, 1) * (height * width)
    return (maps + positions[:, None]).flatten(2).flatten(0, 1).int()


def _positions_of_queries(batch: int, height: int, width: int, device: torch.device) -> Tensor:
    """(B * tiles, T*T) int32: b*h*w + y*w + x of each query of each tile; beyond the frame, the nearest in it."""
    y, x = (_tiled(length, device).clamp(max=length - 1) for length in (height, width))
    positions = (y[:, None, :, None] * width + x[None, :, None, :]).flatten(2).flatten(0, 1)
    frames = torch.arange(batch, device=device)[:, None, None] * (height * width)
    return (frames + positions).flatten(0, 1).int()


def _places_in_tiles(batch: int, height: int, width: int, device: torch.device) -> Tensor:
    """(B * h * w) int32: where among the queries of all tiles, in their order, each position of each frame is."""
    rows, columns = _tiled(height, device), _tiled(width, device)
    shape = batch, len(rows), len(columns), TILE, TILE
    places = torch.arange(math.prod(shape), device=device).view(shape).transpose(2, 3).flatten(3).flatten(1, 2)
    return places[:, :height, :width].flatten().int()


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
