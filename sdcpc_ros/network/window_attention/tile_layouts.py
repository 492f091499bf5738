"""Tiles of queries with their haloed keys and values: two ways to lay them out for batched products.

Each has `strips`, which makes some tiles at a time, and `assemble`, which puts what was found for them together again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from sdcpc_ros.network.window_attention.tile_geometry import (
    TILE,
    constant,
    frame_of_tiles,
    positions_of_keys,
    positions_of_queries,
    tile_kinds,
    window_of_a_tile,
    windows_of_kinds,
)

#: Keys that are gathered at once, in numbers: a strip and its logits stay in the processor's second-level cache (half
#: and twice as much were no faster, 2^21 took up to 1.5 times as long), and memory beside inputs and outputs stays
#: small. But never so few tiles that calls cost more than the work. A compiler gets larger strips: each is a part of
#: its graph, which takes it seconds.
STRIP_NUMBERS = 2**18
_STRIP_NUMBERS_COMPILED = 2**20
FEWEST_TILES = 8

#: Some tiles at a time, n: queries (n, T*T, d), what is added to their logits (n, T*T, halo^2), to be written to, and
#: their keys (n, halo^2, d) and values (n, halo^2, Dv), if there are any.
Strips = Iterator[tuple[Tensor, Tensor, Tensor, Tensor | None]]


def _as_rows(maps: Tensor) -> Tensor:
    """(B, C, h, w) -> (B * h * w, C): a view where the maps lie channels-last."""
    return maps.permute(0, 2, 3, 1).flatten(0, 2)


def _index_of_rows(index: Tensor, maps: Tensor) -> Tensor:
    """Positions (B, h', w') within maps (B, C, h, w), counted through all maps; int32, which gathers faster."""
    batch, _, height, width = maps.shape
    first = torch.arange(0, batch * height * width, height * width, dtype=torch.int32, device=index.device)
    return index.int() + first.view(batch, 1, 1)


def _select(rows: Tensor, index: Tensor) -> Tensor:
    """Of (N, ...) rows those that `index` names, (*index, ...)."""
    return rows.index_select(0, index.flatten()).view(*index.shape, *rows.shape[1:])


class Gathered:
    """Tiles of queries and the haloed keys and values of each, gathered by index: one copy, and no padded frame.

    With `gather_index` keys and values are fetched from there in the same copy. Tiles of all frames are one sequence.
    """

    def __init__(self, keys: Tensor, values: Tensor | None, radius: int, gather_index: Tensor | None) -> None:
        """keys, values: (B, ., h, w). gather_index: (B, h, w) or None."""
        self._batch, _, self._height, self._width = keys.shape
        self._radius = radius
        self._step = _tiles_of_a_strip(keys, radius)
        frame = self._batch, self._height, self._width, keys.device
        self._keys, self._values = _as_rows(keys), None if values is None else _as_rows(values)
        self._queries = constant(positions_of_queries, keys, *frame)
        self._index = constant(positions_of_keys, keys, radius, *frame)
        self._kinds = constant(tile_kinds, keys, radius, *frame)
        if gather_index is not None:
            self._index = _select(_index_of_rows(gather_index, keys).flatten(), self._index)

    def strips(self, query: Tensor, bias: Tensor | None) -> Strips:
        """query (B, d, h, w); bias (T*T, halo^2), added to the logits, or None."""
        windows = windows_of_kinds(query, self._radius, self._height, self._width, bias)
        parts = (part.split(self._step) for part in (_select(_as_rows(query), self._queries), self._index, self._kinds))
        for queries, index, kinds in zip(*parts):
            keys = _select(self._keys, index)
            values = None if self._values is None else _select(self._values, index)
            logits = windows.index_select(0, kinds)
            yield queries, logits, keys, values
            del logits, keys, values  # before the next ones are made

    def assemble(self, strips: Iterable[Sequence[Tensor]]) -> list[Tensor]:
        """Parts of strips, (n, T*T, C) each -> maps (B, C, h, w), channels-last in memory."""
        tiles = (torch.cat(parts).unflatten(0, (self._batch, -1)) for parts in zip(*strips))
        return [_maps_of(part, self._height, self._width) for part in tiles]


class Unfolded:
    """As `Gathered`, out of padded copies by strides alone, which a compiler turns into one loop without index
    arithmetic. With `gather_index` only that is padded, and tiles fetch their rows of keys and values by it."""

    def __init__(self, keys: Tensor, values: Tensor | None, radius: int, gather_index: Tensor | None) -> None:
        """keys, values: (B, ., h, w). gather_index: (B, h, w) or None."""
        self._batch, channels, self._height, self._width = keys.shape
        self._rows, self._columns = (-(-length // TILE) for length in (self._height, self._width))
        bottom, right = -self._height % TILE, -self._width % TILE
        edges = (0, 0, radius, right + radius, radius, bottom + radius)
        maps = [keys] if values is None else [keys, values]
        self._sources: list[Tensor] | None = None
        if gather_index is None:
            self._padded = [F.pad(part.permute(0, 2, 3, 1), edges) for part in maps]
        else:  # padded before maps are counted: beyond the frame is a position of the same map
            self._sources = [_as_rows(part) for part in maps]
            self._padded = [_stored(_index_of_rows(F.pad(gather_index, edges[2:]), keys))[..., None]]
        self._radius = radius
        numbers = (TILE + 2 * radius) ** 2 * channels  # of a tile's keys
        self._step = self._columns * max(1, _STRIP_NUMBERS_COMPILED // (self._batch * self._columns * numbers))

    def strips(self, query: Tensor, bias: Tensor | None) -> Strips:
        """As of `Gathered`, of all frames at once: whole rows of tiles."""
        window = window_of_a_tile(self._radius, query.dtype, query.device)
        window = _stored(window if bias is None else window + bias)
        frame = _stored(frame_of_tiles(self._radius, self._height, self._width, query.dtype, query.device))
        queries = self._tiles(query)
        for first in range(0, queries.shape[1], self._step):
            strip = slice(first, min(first + self._step, queries.shape[1]))
            # A copy, since logits are added in place. TensorRT would leave `repeat` to PyTorch.
            windows = torch.cat([window + frame[strip, None]] * self._batch)
            keys, *values = self._haloes(strip)
            yield queries[:, strip].flatten(0, 1), windows, keys, values[0] if values else None

    def _tiles(self, maps: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, tiles, T*T, C), zeros beyond the frame."""
        padded = F.pad(maps, (0, self._columns * TILE - self._width, 0, self._rows * TILE - self._height))
        squares = padded.unflatten(3, (self._columns, TILE)).unflatten(2, (self._rows, TILE))
        return squares.permute(0, 2, 4, 3, 5, 1).flatten(3, 4).flatten(1, 2)

    def _haloes(self, strip: slice) -> list[Tensor]:
        """Keys, and values if there are any, (n, halo^2, .) each."""
        size = TILE + 2 * self._radius
        first, last = strip.start // self._columns, strip.stop // self._columns
        rows = slice(first * TILE, last * TILE + 2 * self._radius)
        # (B, r, columns, C, size, size)
        haloes = [part[:, rows].unfold(1, size, TILE).unfold(2, size, TILE) for part in self._padded]
        found = [part.permute(0, 1, 2, 4, 5, 3).flatten(3, 4).flatten(0, 2) for part in haloes]
        return found if self._sources is None else [_select(rows, found[0][..., 0]) for rows in self._sources]

    def assemble(self, strips: Iterable[Sequence[Tensor]]) -> list[Tensor]:
        """As of `Gathered`."""
        found = ([part.unflatten(0, (self._batch, -1)) for part in parts] for parts in zip(*strips))
        return [_maps_of(torch.cat(parts, 1), self._height, self._width) for parts in found]


def _maps_of(tiles: Tensor, height: int, width: int) -> Tensor:
    """(B, tiles, T*T, C) -> (B, C, h, w), without what lies beyond the frame."""
    squares = tiles.unflatten(2, (TILE, TILE)).unflatten(1, (-1, -(-width // TILE)))
    return squares.transpose(2, 3).flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)[..., :height, :width]


def _stored(table: Tensor) -> Tensor:
    """The table itself, in memory: a compiler would otherwise compute it again for each logit or number that it is used
    for, which took longer than the products. It does not see through strides."""
    return table.as_strided(table.shape, table.stride())


def _tiles_of_a_strip(keys: Tensor, radius: int) -> int:
    """How many tiles are gathered at once, where each has keys of its own.

    All of them on a GPU, where each strip costs a dozen launches, and in training, where the gradient of each gather is
    as large as all maps.
    """
    batch, channels, height, width = keys.shape
    if keys.device.type != "cpu" or (torch.is_grad_enabled() and keys.requires_grad):
        return batch * -(-height // TILE) * -(-width // TILE)
    return max(FEWEST_TILES, STRIP_NUMBERS // ((TILE + 2 * radius) ** 2 * channels))
