"""Window attention out of PyTorch's own operators: tiles of queries against their haloed keys, as batched products.

A shift-and-multiply loop is hundreds of small operations. Here a strip of query tiles is multiplied at once with its
keys, gathered as rows of C numbers; the window, the frame's border and missing references are added as very low logits.
"""

from __future__ import annotations

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
) -> tuple[Tensor, Tensor, Tensor | None]:
    """As `window_attention`: output (B, Dv, h, w), mass (B, K, h, w) and offset (B, K, 2, h, w) or None."""
    batch, references, channels, height, width = keys.shape
    rows, columns = -(-height // TILE), -(-width // TILE)
    size = references * (TILE + 2 * radius) ** 2
    compiled = torch.compiler.is_compiling()
    haloed_keys, haloed_values = ((_Unfolded if compiled else _Gathered)(part, radius) for part in (keys, values))
    query_tiles = _tiles(query[:, None] * channels**-0.5, rows, columns)[..., 0, :]  # (B, tiles, T*T, d)
    # Everything additive but the window itself: absent references and the caller's bias, (B, tiles, T*T, K).
    lowest = torch.finfo(query.dtype).min / 4  # finite, and sums of a few stay finite, so an all-masked row is no NaN
    zero = torch.zeros((), dtype=query.dtype, device=query.device)
    additive = zero.masked_fill(~valid, lowest)[:, None, None, :].expand(batch, rows * columns, 1, references)
    if bias is not None:
        additive = additive + _tiles(bias[:, :, None], rows, columns)[..., 0]
    window = _constant(_window, query, radius, height, width, query.dtype, query.device)  # (tiles, T*T, halo^2)
    # As numbers: multiplying by a bool tensor would convert it again for every element.
    present = valid.to(query.dtype)[:, None, None]  # (B, 1, 1, K)
    any_present = present.amax(-1, keepdim=True)

    step = max(_FEWEST_TILES, _STRIP_NUMBERS // (batch * size * channels))
    if compiled:  # whole rows of tiles
        step = columns * max(1, _STRIP_NUMBERS_COMPILED // (batch * columns * size * channels))
    strips = []
    for first in range(0, rows * columns, step):
        strip = slice(first, min(first + step, rows * columns))
        # (B * n, T*T, K * halo^2) for the n tiles of the strip
        masked = (additive[:, strip, ..., None] + window[strip, :, None]).flatten(0, 1).flatten(2)
        logits = torch.baddbmm(masked, query_tiles[:, strip].flatten(0, 1), haloed_keys.strip(strip).transpose(1, 2))
        del masked
        weights = logits.softmax(-1)
        output = (weights @ haloed_values.strip(strip)).unflatten(0, (batch, -1)) * any_present
        mass = weights.unflatten(-1, (references, -1)).sum(-1).unflatten(0, (batch, -1)) * present
        parts = [output, mass]
        if with_offset:  # the strongest key's cell in the halo
            parts.append(logits.unflatten(-1, (references, -1)).argmax(-1).unflatten(0, (batch, -1)))
        strips.append(parts)
        del logits, weights
    del query_tiles  # as large as the output: the least memory is wanted where both that and its parts are there
    whole = [torch.cat(parts, 1) for parts in zip(*strips)]
    del strips, parts, output, mass
    output, mass, *strongest = (_untile(part, rows, columns)[..., :height, :width] for part in whole)
    if not with_offset:
        return output, mass, None
    # As an offset: the cell in the halo, less the cell of the query.
    halo = TILE + 2 * radius
    y, x = (torch.arange(length, device=query.device) % TILE for length in (height, width))
    dy = torch.div(strongest[0], halo, rounding_mode="floor") - y[:, None] - radius
    dx = strongest[0] % halo - x - radius
    return output, mass, torch.stack((dy, dx), 2) * valid.to(dy.dtype)[:, :, None, None, None]


class _Gathered:
    """The haloed keys of strips of tiles, gathered by index: one copy, and no padded frame."""

    def __init__(self, maps: Tensor, radius: int) -> None:
        """maps: (B, K, C, h, w)."""
        self._batch, references, self._channels, height, width = maps.shape
        self._rows = maps.permute(0, 1, 3, 4, 2).flatten(0, 3)  # a view when the maps lie channels-last
        self._index = _constant(_positions, maps, radius, references, height, width, maps.device)
        frames = torch.arange(self._batch, dtype=torch.int32, device=maps.device)[:, None, None]
        self._frames = frames * (references * height * width)

    def strip(self, strip: slice) -> Tensor:
        """(B * n, K * halo^2, C) for n of the tiles."""
        index = self._index[strip]
        positions = index if self._batch == 1 else self._frames + index
        return self._rows.index_select(0, positions.flatten()).view(-1, index.shape[1], self._channels)


class _Unfolded:
    """The same out of a padded copy, by strides alone: what a compiler turns into one loop without index arithmetic."""

    def __init__(self, maps: Tensor, radius: int) -> None:
        """maps: (B, K, C, h, w)."""
        bottom, right = -maps.shape[3] % TILE, -maps.shape[4] % TILE
        halo = (0, 0, radius, right + radius, radius, bottom + radius)
        self._padded = F.pad(maps.permute(0, 1, 3, 4, 2), halo)
        self._radius, self._columns = radius, (maps.shape[4] + right) // TILE

    def strip(self, strip: slice) -> Tensor:
        """(B * n, K * halo^2, C) for n of the tiles, whole rows of them."""
        size = TILE + 2 * self._radius
        first, last = strip.start // self._columns, strip.stop // self._columns
        rows = self._padded[:, :, first * TILE : last * TILE + 2 * self._radius]
        squares = rows.unfold(2, size, TILE).unfold(3, size, TILE)  # (B, K, r, columns, C, size, size)
        return squares.permute(0, 2, 3, 1, 5, 6, 4).flatten(3, 5).flatten(0, 2)


def _tiles(maps: Tensor, rows: int, columns: int) -> Tensor:
    """(B, X, C, h, w) -> (B, rows * columns, T*T, X, C), zeros beyond the frame."""
    padded = F.pad(maps, (0, columns * TILE - maps.shape[4], 0, rows * TILE - maps.shape[3]))
    return (
        padded.unflatten(4, (columns, TILE))
        .unflatten(3, (rows, TILE))
        .permute(0, 3, 5, 4, 6, 1, 2)
        .flatten(3, 4)
        .flatten(1, 2)
    )


def _untile(tiles: Tensor, rows: int, columns: int) -> Tensor:
    """(B, rows * columns, T*T, C) -> (B, C, rows * T, columns * T), channels-last in memory."""
    squares = tiles.unflatten(2, (TILE, TILE)).unflatten(1, (rows, columns))
    return squares.transpose(2, 3).flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)


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


def _constant(make: Callable[..., Tensor], like: Tensor, *arguments: object) -> Tensor:
    """`make(*arguments)`, made once. Not for a compiler, which folds it into its graph, nor out of fake tensors."""
    if torch.compiler.is_compiling() or type(like) is not Tensor:
        return make(*arguments)
    with torch.inference_mode(False):  # a tensor made in inference mode could not meet autograd later
        return _made_once(make, *arguments)


@lru_cache(maxsize=32)  # a handful of cameras, two windows each; at 480x360 the larger is 0.7 MB with its positions
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
