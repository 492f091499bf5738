"""Class labels at image size from logits at a quarter of it: the argmax of bilinear interpolation, without waste.

Interpolating all classes first would take a hundred megabytes for a 1280x720 image. Most of it would be in vain:
between four samples a class stays at or below its largest of them, and the winner at or above the largest of all
classes' smallest ones. On the CPU the image is therefore worked on in tiles, each for the few classes that can win in
it, often one. A GPU has no use for such choices; there a band of rows at a time keeps the memory small.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

#: Side of a tile, px: small enough to hold few classes and to stay in the cache, large enough for few steps.
_TILE = 128
#: Interpolated logits that a GPU holds at once.
_BAND_NUMBERS = 2**23


def labels_from_logits(logits: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(C, h, w) float32, finite, C up to 256, -> (H, W) uint8: argmax of the logits resized bilinearly to `size`.

    Pixel centres as in `cv2.resize` and `interpolate(align_corners=False)`; of equal logits, the lower class.
    """
    rows, columns = _axis(logits.shape[1], size[0]), _axis(logits.shape[2], size[1])
    possible = _possible_classes(logits)
    labels = np.empty(size, np.uint8)
    for top in range(0, size[0], _TILE):
        bottom = min(top + _TILE, size[0])
        above, below = rows.low[top], rows.high[bottom - 1] + 1
        down = rows.weights[top:bottom, above:below]
        for left in range(0, size[1], _TILE):
            right = min(left + _TILE, size[1])
            before, after = columns.low[left], columns.high[right - 1] + 1
            cells = possible[:, above : max(below - 1, above + 1), before : max(after - 1, before + 1)]
            classes = np.flatnonzero(cells.any((1, 2)))
            tile = labels[top:bottom, left:right]
            if len(classes) == 1:
                tile[:] = classes[0]
                continue
            across = columns.weights[left:right, before:after].T
            _argmax(down @ logits[classes, above:below, before:after] @ across, classes, tile)
    return labels


class DeviceLabels:
    """`labels_from_logits` in PyTorch, for one size of logits and image, without waiting for the device.

    Its constants live as long as it does, at fixed addresses, so that a CUDA graph can hold it.
    """

    def __init__(self, shape: tuple[int, int], size: tuple[int, int], device: torch.device) -> None:
        """shape: (h, w) of the logits; size: (H, W) of the labels."""
        self._rows, self._columns = (_on_device(_axis(*lengths), device) for lengths in zip(shape, size))

    def __call__(self, logits: Tensor) -> Tensor:
        """(C, h, w) float -> (H, W) uint8."""
        step = max(1, _BAND_NUMBERS // (logits.shape[0] * len(self._columns[0])))
        bands = []
        for low, high, weight in zip(*(part.split(step) for part in self._rows)):
            band = torch.lerp(
                logits.index_select(1, low), logits.index_select(1, high), weight[:, None]
            )  # (C, step, w)
            low, high, weight = self._columns
            full = torch.lerp(band.index_select(2, low), band.index_select(2, high), weight)  # (C, step, W)
            bands.append(full.argmax(0).to(torch.uint8))
        return torch.cat(bands)


class _Axis(NamedTuple):
    """Where the pixels of one axis of the image lie between the samples of the logits."""

    low: np.ndarray  #: (pixels,) the sample before each, or at it
    high: np.ndarray  #: (pixels,) the one after; the same where there is but one
    weights: np.ndarray  #: (pixels, samples) float32, what each sample counts


@lru_cache(maxsize=32)
def _axis(samples: int, pixels: int) -> _Axis:
    position = ((np.arange(pixels) + 0.5) * (samples / pixels) - 0.5).clip(0, samples - 1)
    low = position.astype(np.int64).clip(max=max(samples - 2, 0))
    high = (low + 1).clip(max=samples - 1)
    weights = np.zeros((pixels, samples), np.float32)
    each = np.arange(pixels)
    weights[each, low] = 1 - (position - low)
    weights[each, high] += (position - low).astype(np.float32)
    return _Axis(low, high, weights)


def _on_device(axis: _Axis, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Low and high samples, and the weight of the high ones, (pixels,) each."""
    weight = axis.weights[np.arange(len(axis.high)), axis.high]  # 1 where there is no higher: of the same sample
    low, high, weights = (torch.from_numpy(part).to(device) for part in (axis.low, axis.high, weight))
    return low, high, weights


def _argmax(candidates: np.ndarray, classes: np.ndarray, labels: np.ndarray) -> None:
    """(k, H, W) logits of k ascending classes -> the class of the largest, in `labels` (H, W)."""
    best = candidates[0]
    labels[:] = classes[0]
    for candidate, class_id in zip(candidates[1:], classes[1:]):
        wins = np.asarray(cv2.compare(candidate, best, cv2.CMP_GT))  # 255 where it wins
        cv2.max(best, candidate, dst=best)
        # Classes ascend, so the largest class id that ever won is the last that did.
        cv2.max(labels, np.bitwise_and(wins, np.uint8(class_id), out=wins), dst=labels)


def _possible_classes(logits: np.ndarray) -> np.ndarray:
    """(C, h - 1, w - 1) bool, a side of 1 where there is one sample: which classes can win somewhere in each cell."""
    highest = _over_cells(np.maximum, logits)
    lowest = _over_cells(np.minimum, logits).max(0)
    return highest >= lowest


def _over_cells(function: np.ufunc, logits: np.ndarray) -> np.ndarray:
    """`function` over the up to four samples around each cell, (C, h - 1, w - 1), or a side of 1 where there is one."""
    if logits.shape[1] > 1:
        logits = function(logits[:, :-1], logits[:, 1:])
    if logits.shape[2] > 1:
        logits = function(logits[:, :, :-1], logits[:, :, 1:])
    return logits
