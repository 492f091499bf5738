"""Tiles of queries with their haloed keys and values: three ways to lay them out for batched products.

Each has `strips`, which makes some tiles at a time; `mass` and `strongest`, which read their weights and logits; and
`assembled`, which puts what was found for them together again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise, product

import torch
import torch.nn.functional as F
from torch import Tensor

from sdcpc_ros.network.window_attention.gathering import as_rows, moved, rows_of_maps, selected
from sdcpc_ros.network.window_attention.tile_geometry import (
    TILE,
    constant,
    places_in_tiles,
    positions_of_columns,
    positions_of_keys,
    positions_of_queries,
    tile_kinds,
    window_of_tiles,
    windows_of_kinds,
)

_AREA = TILE * TILE
#: Keys that are gathered at once, in numbers: a strip and its logits stay in the processor's second-level cache (half
#: and twice as much were no faster, 2^21 took up to 1.5 times as long), and memory beside inputs and outputs stays
#: small. But never so few tiles that calls cost more than the work. A compiler gets larger strips: each is a part of
#: its graph, which takes it seconds.
_STRIP_NUMBERS = 2**18
_STRIP_NUMBERS_COMPILED = 2**20
_FEWEST_TILES = 8


#: Some tiles at a time, n: queries (n, T*T, d), what is added to their logits (n, T*T, N), to be written to, and their
#: keys (n, N, d) and values (n, N, Dv), N = K * halo^2.
Strips = Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]


class _OneReferenceAfterTheOther:
    """A layout in which a tile's keys are those of its first reference, then those of the next."""

    _references: int

    def mass(self, weights: Tensor) -> Tensor:
        """(n, T*T, N) -> (n, T*T, K): of each reference's keys together."""
        return weights.unflatten(-1, (self._references, -1)).sum(-1)

    def strongest(self, logits: Tensor) -> Tensor:
        """(n, T*T, N) -> (n, T*T, K): the cell of each reference's strongest key in the halo."""
        return logits.unflatten(-1, (self._references, -1)).argmax(-1)


class Gathered(_OneReferenceAfterTheOther):
    """Tiles of queries and the haloed keys and values of each, gathered by index: one copy, and no padded frame.

    What comes from elsewhere than its position (`source`) is fetched from there in the same copy. Tiles of all frames
    are one sequence; those in which nothing is wanted are left out of it.
    """

    def __init__(
        self, keys: Tensor, values: Tensor, radius: int, source: Tensor | None, wanted: Tensor | None = None
    ) -> None:
        """keys, values: (B, K, ., h, w). source: (B, K, h, w) or None. wanted: (B, h, w) bool or None for all."""
        self._batch, self._references, _, self._height, self._width = keys.shape
        self._radius = radius
        self._step = _tiles_of_a_strip(keys, radius)
        frame = self._batch, self._height, self._width, keys.device
        self._maps = [as_rows(part) for part in (keys, values)]
        self._queries = constant(positions_of_queries, keys, *frame)
        self._places = constant(places_in_tiles, keys, *frame)
        self._index = constant(positions_of_keys, keys, radius, self._references, *frame)
        self._kinds = constant(tile_kinds, keys, radius, *frame)
        wanted_tiles = None if wanted is None else selected(wanted.flatten(), self._queries).any(1)
        self._has_all = wanted_tiles is None or bool(wanted_tiles.all())
        if wanted_tiles is not None and not self._has_all:
            self._choose(wanted_tiles)
        if source is not None:
            self._index = selected(rows_of_maps(source).flatten(), self._index)

    @property
    def count(self) -> int:
        """How many tiles there are."""
        return len(self._queries)

    def _choose(self, wanted: Tensor) -> None:
        """wanted: (B * tiles) bool."""
        chosen = wanted.nonzero()[:, 0]
        self._queries, self._index, self._kinds = (
            part.index_select(0, chosen) for part in (self._queries, self._index, self._kinds)
        )
        # Where each chosen tile is now; all others are one more, of zeros.
        now = torch.full((len(wanted),), len(chosen), dtype=torch.int32)
        now[chosen] = torch.arange(len(chosen), dtype=torch.int32)
        tile = torch.div(self._places, _AREA, rounding_mode="floor")
        self._places = now.index_select(0, tile) * _AREA + self._places % _AREA

    def strips(self, query: Tensor, additive: Tensor, near: Tensor | None) -> Strips:
        """query (B, d, h, w), additive (B, K, h, w), near (T*T, halo^2) or None."""
        windows = windows_of_kinds(query, self._radius, self._height, self._width, near)[:, :, None]
        tiles = (selected(maps.permute(0, 2, 3, 1).flatten(0, 2), self._queries) for maps in (query, additive))
        parts = (part.split(self._step) for part in (*tiles, self._index, self._kinds))
        for queries, added, index, kinds in zip(*parts):
            keys, values = (selected(maps, index) for maps in self._maps)
            logits = windows.index_select(0, kinds) + added[..., None]
            yield queries, logits.flatten(2), keys, values
            del logits, keys, values  # before the next ones are made

    def assembled(self, strips: Iterable[Sequence[Tensor]]) -> list[Tensor]:
        """Parts of strips, (n, T*T, C) each -> maps (B, C, h, w), channels-last in memory; zero where no tile is."""
        maps = []
        for parts in zip(*strips):
            if not self._has_all:  # the tile of zeros
                parts = (*parts, parts[0].new_zeros(1, *parts[0].shape[1:]))
            rows = torch.cat(parts).flatten(0, 1).index_select(0, self._places)
            maps.append(rows.view(self._batch, self._height, self._width, -1).permute(0, 3, 1, 2))
        return maps


class Columns:
    """Columns of tiles, one below the other, whose keys and values are gathered once for what tiles have in common.

    Of a column they lie row by row, the references' side by side, so that the keys of a tile are neighbours in memory,
    and those of the next tile begin TILE rows further on: the same rows serve two tiles, or more.
    """

    def __init__(self, keys: Tensor, values: Tensor, radius: int, source: Tensor | None) -> None:
        """keys, values: (B, K, ., h, w). source: (B, K, h, w) or None."""
        self._batch, self._references, channels, self._height, self._width = keys.shape
        self._radius = radius
        self._rows, self._columns = (-(-length // TILE) for length in (self._height, self._width))
        frame = self._batch, self._height, self._width, keys.device
        self._maps = [as_rows(part) for part in (keys, values)]
        self._index = constant(positions_of_columns, keys, radius, self._references, *frame)
        self._kinds = constant(tile_kinds, keys, radius, *frame).view(self._batch, self._rows, self._columns)
        if source is not None:
            self._index = selected(rows_of_maps(source).flatten(), self._index)
        # Twice the numbers of `Gathered`: they are of twice as many tiles, or more.
        self._step = max(_FEWEST_TILES, 2 * _STRIP_NUMBERS // (TILE * self._index[0, 0, 0].numel() * channels))

    @staticmethod
    def pays(keys: Tensor, radius: int) -> bool:
        """Whether tiles have enough in common, each key with two others, and frames are no smaller than a few strips:
        measured at radius 2 to 4, and up to a quarter less time where it does."""
        batch, _, _, height, width = keys.shape
        tiles = batch * -(-height // TILE) * -(-width // TILE)
        return radius >= TILE and tiles > 2 * _tiles_of_a_strip(keys, radius)

    def strips(self, query: Tensor, additive: Tensor, near: Tensor | None) -> Strips:
        """As of `Gathered`."""
        windows = windows_of_kinds(query, self._radius, self._height, self._width, near)
        halo = TILE + 2 * self._radius
        windows = windows.unflatten(2, (halo, 1, halo)).expand(-1, -1, -1, self._references, -1).flatten(3)
        for frame, column, rows in self._places():
            index = self._index[frame, column, rows.start * TILE : rows.stop * TILE + 2 * self._radius]
            keys, values = (self._of_tiles(selected(maps, index)) for maps in self._maps)
            logits = windows.index_select(0, self._kinds[frame, rows, column])
            # Repeated first: the shorter the stretches that are added at once, the longer it takes.
            added = self._block(additive, frame, column, rows).repeat_interleave(halo, 2)
            logits += added[:, :, None]
            yield self._block(query, frame, column, rows), logits.flatten(2), keys, values
            del logits, keys, values  # before the next ones are made

    def _places(self) -> Iterator[tuple[int, int, slice]]:
        """Of each strip: the frame, the column of tiles, and which of its tiles."""
        strips = -(-self._rows // self._step)
        cuts = [self._rows * strip // strips for strip in range(strips + 1)]
        for frame, column in product(range(self._batch), range(self._columns)):
            for first, last in pairwise(cuts):
                yield frame, column, slice(first, last)

    def _of_tiles(self, rows: Tensor) -> Tensor:
        """(y, K, halo, C) of a column -> (n, N, C) of its tiles, a view in which neighbours overlap."""
        tiles = rows.flatten(1, 2).unfold(0, TILE + 2 * self._radius, TILE)  # (n, K * halo, C, halo)
        return tiles.permute(0, 3, 1, 2).flatten(1, 2)

    def _block(self, maps: Tensor, frame: int, column: int, rows: slice) -> Tensor:
        """Of (B, C, h, w) what lies in tiles of a column, (n, T*T, C), zeros beyond the frame."""
        part = maps[frame, :, rows.start * TILE : rows.stop * TILE, column * TILE : (column + 1) * TILE]
        height, width = (rows.stop - rows.start) * TILE, TILE
        if part.shape[1:] != (height, width):
            part = F.pad(part, (0, width - part.shape[2], 0, height - part.shape[1]))
        return part.permute(1, 2, 0).reshape(-1, _AREA, maps.shape[1])

    def mass(self, weights: Tensor) -> Tensor:
        """As of `Gathered`."""
        return self._by_row(weights).sum(2).sum(-1)  # quicker than at once

    def strongest(self, logits: Tensor) -> Tensor:
        """As of `Gathered`."""
        return self._by_row(logits).transpose(2, 3).flatten(3).argmax(-1)

    def _by_row(self, x: Tensor) -> Tensor:
        """(n, T*T, N) -> (n, T*T, halo, K, halo)."""
        halo = TILE + 2 * self._radius
        return x.unflatten(-1, (halo, self._references, halo))

    def assembled(self, strips: Iterable[Sequence[Tensor]]) -> list[Tensor]:
        """Parts of strips, (n, T*T, C) each -> maps (B, C, h, w), channels-last in memory."""
        shape = self._batch, self._rows * TILE, self._columns, TILE
        maps: list[Tensor] = []
        if torch.is_grad_enabled():  # a gradient through writes would pass over the whole map for each
            for parts in zip(*strips):
                columns = torch.cat(parts).view(self._batch, self._columns, shape[1], TILE, -1)
                maps.append(columns.transpose(1, 2).contiguous())
        else:  # Memory that was given back has to be had again, page by page: no more is taken than the maps need.
            for (frame, column, rows), strip in zip(self._places(), strips):
                maps = maps or [part.new_empty(*shape, part.shape[2]) for part in strip]
                for whole, part in zip(maps, strip):
                    place = whole[frame, rows.start * TILE : rows.stop * TILE, column]
                    place.copy_(part.view(place.shape))
        wholes = (whole.flatten(2, 3)[:, : self._height, : self._width] for whole in maps)
        return [whole.permute(0, 3, 1, 2) for whole in wholes]


class Unfolded(_OneReferenceAfterTheOther):
    """As `Gathered`, out of padded copies by strides alone: what a compiler turns into one loop without index
    arithmetic."""

    def __init__(self, keys: Tensor, values: Tensor, radius: int, source: Tensor | None) -> None:
        """keys, values: (B, K, ., h, w). source: (B, K, h, w) or None."""
        if source is not None:
            keys, values = (moved(part, source) for part in (keys, values))
        self._batch, self._references, channels, self._height, self._width = keys.shape
        self._rows, self._columns = (-(-length // TILE) for length in (self._height, self._width))
        bottom, right = -self._height % TILE, -self._width % TILE
        edges = (0, 0, radius, right + radius, radius, bottom + radius)
        self._padded = [F.pad(part.permute(0, 1, 3, 4, 2), edges) for part in (keys, values)]
        self._radius = radius
        numbers = self._references * (TILE + 2 * radius) ** 2 * channels  # of a tile's keys
        self._step = self._columns * max(1, _STRIP_NUMBERS_COMPILED // (self._batch * self._columns * numbers))

    def strips(self, query: Tensor, additive: Tensor, near: Tensor | None) -> Strips:
        """As of `Gathered`, of all frames at once: whole rows of tiles."""
        window = window_of_tiles(self._radius, self._height, self._width, query.dtype, query.device)[:, :, None]
        if near is not None:
            window = window + near[:, None]
        queries, added = self._tiles(query), self._tiles(additive)[..., None]
        for first in range(0, queries.shape[1], self._step):
            strip = slice(first, min(first + self._step, queries.shape[1]))
            logits = added[:, strip] + window[strip]
            yield queries[:, strip].flatten(0, 1), logits.flatten(3).flatten(0, 1), *self._haloes(strip)

    def _tiles(self, maps: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, tiles, T*T, C), zeros beyond the frame."""
        padded = F.pad(maps, (0, self._columns * TILE - self._width, 0, self._rows * TILE - self._height))
        squares = padded.unflatten(3, (self._columns, TILE)).unflatten(2, (self._rows, TILE))
        return squares.permute(0, 2, 4, 3, 5, 1).flatten(3, 4).flatten(1, 2)

    def _haloes(self, strip: slice) -> tuple[Tensor, Tensor]:
        size = TILE + 2 * self._radius
        first, last = strip.start // self._columns, strip.stop // self._columns
        rows = slice(first * TILE, last * TILE + 2 * self._radius)
        # (B, K, r, columns, C, size, size)
        keys, values = (part[:, :, rows].unfold(2, size, TILE).unfold(3, size, TILE) for part in self._padded)
        order = (0, 2, 3, 1, 5, 6, 4)
        return keys.permute(order).flatten(3, 5).flatten(0, 2), values.permute(order).flatten(3, 5).flatten(0, 2)

    def assembled(self, strips: Iterable[Sequence[Tensor]]) -> list[Tensor]:
        """As of `Gathered`."""
        return [self._map(parts) for parts in zip(*strips)]

    def _map(self, parts: Sequence[Tensor]) -> Tensor:
        tiles = torch.cat([part.unflatten(0, (self._batch, -1)) for part in parts], 1)  # (B, tiles, T*T, C)
        squares = tiles.unflatten(2, (TILE, TILE)).unflatten(1, (self._rows, self._columns))
        whole = squares.transpose(2, 3).flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)
        return whole[..., : self._height, : self._width]


def _tiles_of_a_strip(keys: Tensor, radius: int) -> int:
    """How many tiles are gathered at once, where each has keys of its own.

    All of them on a GPU, where each strip costs a dozen launches, and in training, where the gradient of each gather is
    as large as all maps.
    """
    batch, references, channels, height, width = keys.shape
    if keys.device.type != "cpu" or (torch.is_grad_enabled() and keys.requires_grad):
        return batch * -(-height // TILE) * -(-width // TILE)
    return max(_FEWEST_TILES, _STRIP_NUMBERS // (references * (TILE + 2 * radius) ** 2 * channels))
