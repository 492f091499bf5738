"""Class labels at image size from logits at a quarter of it: the argmax of bilinear interpolation, one class at a time.

Interpolating all classes first would take a hundred megabytes for a 1280x720 image. One class at a time needs two images
of floats, and a class that can win nowhere needs nothing: most classes of a label set are not in a picture.
"""

from __future__ import annotations

import cv2
import numpy as np


def labels_from_logits(logits: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(C, h, w) float32, C up to 256, -> (H, W) uint8: argmax of the logits resized bilinearly to `size`.

    Pixel centres as in `cv2.resize` and `interpolate(align_corners=False)`; of equal logits, the lower class.
    """
    classes = _possible_classes(logits)
    labels = np.full(size, classes[0], np.uint8)
    # Allocated once: fresh pages for every class would cost as much as the arithmetic.
    best = cv2.resize(logits[classes[0]], size[::-1], interpolation=cv2.INTER_LINEAR)
    candidate, wins = np.empty_like(best), np.empty_like(labels)
    for class_id in classes[1:]:
        cv2.resize(logits[class_id], size[::-1], dst=candidate, interpolation=cv2.INTER_LINEAR)
        cv2.compare(candidate, best, cv2.CMP_GT, dst=wins)  # 255 where it wins
        cv2.max(best, candidate, dst=best)
        # Classes ascend, so the largest class id that ever won is the last that did.
        cv2.bitwise_and(wins, int(class_id), dst=wins)
        cv2.max(labels, wins, dst=labels)
    return labels


def _possible_classes(logits: np.ndarray) -> list[int]:
    """The classes that can have the largest interpolated logit somewhere, ascending.

    Between four samples a class stays at or below its largest of them, and the winner at or above the largest of all
    classes' smallest ones. NaN excludes nothing.
    """
    highest = _over_cells(np.maximum, logits)
    lowest = _over_cells(np.minimum, logits).max(0)
    return [int(class_id) for class_id in np.flatnonzero(~(highest < lowest).all((1, 2)))] or [0]


def _over_cells(function: np.ufunc, logits: np.ndarray) -> np.ndarray:
    """`function` over the up to four samples around each cell, (C, h - 1, w - 1), or a side of 1 where there is one."""
    if logits.shape[1] > 1:
        logits = function(logits[:, :-1], logits[:, 1:])
    if logits.shape[2] > 1:
        logits = function(logits[:, :, :-1], logits[:, :, 1:])
    return logits
