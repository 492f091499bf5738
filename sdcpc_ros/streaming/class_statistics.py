"""The arrays of the message ClassStatistics, for the node and for labelled bags."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from sdcpc_ros.labels.label_set import IGNORE


def class_statistics(labels: np.ndarray, confidence: np.ndarray) -> dict[str, list[Any]]:
    """The arrays of ClassStatistics for a mask and its confidence, both (H, W) uint8."""
    counts = np.bincount(labels.ravel(), minlength=256)[:IGNORE]
    present = np.flatnonzero(counts)
    return {
        "class_ids": present.tolist(),
        "pixel_share": (counts[present] / labels.size).tolist(),
        "mean_confidence": [cv2.mean(confidence, (labels == i).view(np.uint8))[0] / 255 for i in present],
    }
