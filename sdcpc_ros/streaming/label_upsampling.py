"""Class labels at image size from logits at a quarter of it: the exact argmax of bilinear interpolation.

Interpolating all classes of a 1280x720 image takes a hundred megabytes. The pixels between four samples, a cell, are
weighted means of the four, so on a CPU most of that work can be skipped:

- If one class wins at all four samples, it wins at every pixel of the cell. Only the other cells, a tenth of a street
  scene, are interpolated.
- In these, a class is at most its largest sample, and the winner is at least the largest of all classes' smallest
  samples. Classes below that cannot win in the cell; two classes remain in most cells.

The CPU does this with NumPy and OpenCV in one thread, in blocks that fit the cache: many small parallel loops are slow
when other processes use the cores. A GPU interpolates all classes, a band of rows at a time to save memory.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

#: Numbers in a block on the CPU: 256 KiB, a few of which fit the cache of a core.
BLOCK_NUMBERS = 2**16
#: Interpolated logits that a GPU holds at once.
BAND_NUMBERS = 2**23


def labels_from_logits(logits: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(C, h, w) float32, finite, C up to 256, -> (H, W) uint8: argmax of the logits resized bilinearly to `size`.

    Pixel centres as in `cv2.resize` and `interpolate(align_corners=False)`; of equal logits, the lower class. Fastest
    if classes are last in memory, as in PyTorch's channels_last.
    """
    height, width = logits.shape[1:]
    planes, samples = _both_orders(logits)
    rows, columns = sample_axis(height, size[0]), sample_axis(width, size[1])
    # A row and a column of cells more than samples: beyond the outermost samples these count alone.
    winners = cv2.copyMakeBorder(_argmax(planes), 1, 1, 1, 1, cv2.BORDER_REPLICATE)  # (h + 2, w + 2)
    labels = winners.take(columns.cell, 1).take(rows.cell, 0)  # final where all four samples agree
    changes_down, changes_across = winners[1:] != winners[:-1], winners[:, 1:] != winners[:, :-1]
    mixed = changes_down[:, :-1] | changes_down[:, 1:] | changes_across[:-1]  # (h + 1, w + 1)
    mixed &= rows.holds_pixels[:, None] & columns.holds_pixels
    down, across = np.divmod(np.flatnonzero(mixed), width + 1)
    above, below = rows.before[down] * width, rows.after[down] * width
    left, right = columns.before[across], columns.after[across]
    corners = np.stack([above + left, below + left, above + right, below + right])  # (4, cells)
    if len(down):
        _label_cells(_candidates(samples, corners), down, across, rows, columns, labels)
    return labels


class DeviceLabels:
    """`labels_from_logits` in PyTorch, for one size of logits and image, without synchronisation.

    Its constants stay at fixed addresses, as a CUDA graph requires.
    """

    def __init__(self, shape: tuple[int, int], size: tuple[int, int], device: torch.device) -> None:
        """shape: (h, w) of the logits; size: (H, W) of the labels."""
        self._rows, self._columns = (_on_device(sample_axis(*lengths), device) for lengths in zip(shape, size))

    def __call__(self, logits: Tensor) -> Tensor:
        """(C, h, w) float -> (H, W) uint8, or (B, C, h, w) -> (B, H, W)."""
        step = max(1, BAND_NUMBERS // (logits[..., 0, 0].numel() * len(self._columns[0])))
        bands = []
        for low, high, weight in zip(*(part.split(step) for part in self._rows)):
            band = torch.lerp(
                logits.index_select(-2, low), logits.index_select(-2, high), weight[:, None]
            )  # (..., C, step, w)
            low, high, weight = self._columns
            full = torch.lerp(band.index_select(-1, low), band.index_select(-1, high), weight)  # (..., C, step, W)
            bands.append(full.argmax(-3).to(torch.uint8))
        return torch.cat(bands, -2)


class _Axis(NamedTuple):
    """The positions of the pixels of one axis of the image between the samples of the logits.

    Cell i lies between samples i - 1 and i; the first and the last have the outermost sample on both sides.
    """

    cell: np.ndarray  #: (pixels,) the cell of each
    weight: np.ndarray  #: (pixels,) float32, weight of the sample after it; the sample before has 1 - weight
    before: np.ndarray  #: (cells,) the sample before each
    after: np.ndarray  #: (cells,) the sample after each
    holds_pixels: np.ndarray  #: (cells,) bool; false where samples lie closer than pixels
    pixels: np.ndarray  #: (most, cells) the pixels of each, the last one repeated where a cell has fewer
    weights: np.ndarray  #: (most, cells) float32, `weight` of these


@lru_cache(maxsize=32)
def sample_axis(samples: int, pixels: int) -> _Axis:
    # PyTorch's float32 to the last bit: a position is one fused multiply-add, rounded once.
    position = (float(np.float32(samples) / np.float32(pixels)) * (np.arange(pixels) + 0.5) - 0.5).astype(np.float32)
    cell = np.floor(position).astype(np.int64).clip(-1, samples - 1) + 1
    weight = np.where((cell > 0) & (cell < samples), position - (cell - 1).astype(np.float32), np.float32(0))
    cells = np.arange(samples + 1)
    count = np.bincount(cell, minlength=len(cells))
    of_cells = np.searchsorted(cell, cells) + np.minimum(np.arange(count.max())[:, None], count - 1)
    of_cells = of_cells.clip(0, pixels - 1)
    before, after = (cells - 1).clip(0), cells.clip(max=samples - 1)
    return _Axis(cell, weight, before, after, count > 0, of_cells, weight[of_cells])


def _on_device(axis: _Axis, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Samples before and after each pixel, and the weight of those after, (pixels,) each."""
    before, after, weight = (
        torch.from_numpy(part).to(device) for part in (axis.before[axis.cell], axis.after[axis.cell], axis.weight)
    )
    return before, after, weight


def _both_orders(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(C, h, w), in whatever order in memory -> classes first, (C, h, w), and classes last, (h * w, C), contiguous."""
    classes = len(logits)
    last = logits.transpose(1, 2, 0)
    if last.flags.c_contiguous:
        samples = last.reshape(-1, classes)
        return np.ascontiguousarray(cv2.transpose(samples)).reshape(logits.shape), samples
    planes = np.ascontiguousarray(logits)
    return planes, np.ascontiguousarray(cv2.transpose(planes.reshape(classes, -1))).reshape(-1, classes)


def _argmax(planes: np.ndarray) -> np.ndarray:
    """(C, h, w) -> (h, w) uint8, the lower of equal classes: several times as fast as `argmax(0)`."""
    best = planes[0].copy()
    labels = np.zeros(best.shape, np.uint8)
    for class_id, plane in enumerate(planes[1:], start=1):
        wins = np.asarray(cv2.compare(plane, best, cv2.CMP_GT))  # 255 where it wins
        cv2.max(best, plane, dst=best)
        # Classes ascend, so the largest class id that ever won is the last winner.
        cv2.max(labels, np.bitwise_and(wins, np.uint8(class_id), out=wins), dst=labels)
    return labels


class _Candidates(NamedTuple):
    """The classes that can win in each of some cells: cell by cell, ascending."""

    number: np.ndarray  #: (cells,) how many of each cell
    class_id: np.ndarray  #: (candidates,) uint8
    logits: np.ndarray  #: (4, candidates) float32 at the samples above left, below left, above right, below right


def _candidates(samples: np.ndarray, corners: np.ndarray) -> _Candidates:
    """samples: (h * w, C); corners: (4, cells), the four samples of each cell."""
    classes = samples.shape[1]
    step = max(1, BLOCK_NUMBERS // classes)
    blocks = []
    for first in range(0, corners.shape[1], step):
        # OpenCV's max and min: NumPy's reductions over so short an axis are five times as slow.
        around = [samples.take(corner, 0) for corner in corners[:, first : first + step]]  # 4 of (block, C)
        highest = cv2.max(cv2.max(around[0], around[1]), cv2.max(around[2], around[3]))
        lowest = cv2.min(cv2.min(around[0], around[1]), cv2.min(around[2], around[3]))
        possible = np.flatnonzero(highest >= cv2.reduce(lowest, 1, cv2.REDUCE_MAX))
        cell = possible // classes
        class_id = (possible - cell * classes).astype(np.uint8)
        logits = np.stack([corner.reshape(-1).take(possible) for corner in around])
        blocks.append(_Candidates(np.bincount(cell, minlength=len(highest)), class_id, logits))
    return _Candidates(*(np.concatenate(parts, -1) for parts in zip(*blocks)))


def _label_cells(
    candidates: _Candidates, down: np.ndarray, across: np.ndarray, rows: _Axis, columns: _Axis, labels: np.ndarray
) -> None:
    """Interpolates the candidates of cells (down, across), (cells,) each, and writes the winners into `labels` (H, W).

    Every cell has two candidates or more: the winners at its samples, which differ.
    """
    start = np.cumsum(candidates.number) - candidates.number
    # Cells of one block have about the same number of candidates. NumPy sorts 16 bits fastest.
    order = np.argsort(candidates.number.astype(np.uint16), kind="stable")
    flat, row_starts = labels.reshape(-1), rows.pixels * labels.shape[1]
    step = max(1, BLOCK_NUMBERS // (2 * len(rows.pixels) * len(columns.pixels)))
    for first in range(0, len(order), step):
        block = order[first : first + step]
        row, column, last = down[block], across[block], candidates.number[block] - 1
        weight_below, weight_right = rows.weights.take(row, 1)[:, None], columns.weights.take(column, 1)
        first_logits = candidates.logits.take(start[block], 1)  # (4, block)
        winner, lead = candidates.class_id.take(start[block]), np.float32(0)
        # Differences from the first candidate: one class less to interpolate, and little rounding.
        for turn in range(1, last[-1] + 1):
            chosen = start[block] + np.minimum(turn, last)  # the last again in cells with fewer
            left, right = (candidates.logits.take(chosen, 1) - first_logits).reshape(2, 2, 1, -1)
            above, below = left + (right - left) * weight_right  # (columns of a cell, block) each
            ahead = (below - above) * weight_below
            ahead += above  # (rows of a cell, columns of a cell, block)
            wins = (ahead > lead).view(np.uint8)
            # As in `_argmax`. NumPy's `where` is twenty times as slow on bytes.
            winner = np.maximum(winner, np.multiply(wins, candidates.class_id.take(chosen), out=wins))
            if turn < last[-1]:
                lead = np.maximum(lead, ahead)
        flat[row_starts.take(row, 1)[:, None] + columns.pixels.take(column, 1)] = winner
