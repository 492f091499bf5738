"""Label images to feature masks for SLAM front ends, which take no features on moving objects. No ROS in here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from sdcpc_ros.labels.label_map import UNLABELLED

KEEP, IGNORE = 255, 0


class FeatureMasker:
    """Makes feature masks from label images, for one set of moving classes."""

    def __init__(
        self, class_ids: Mapping[str, int], dynamic: Sequence[str], *, dilation: int, ignore_unlabelled: bool
    ) -> None:
        """class_ids: 0 to 65535 by name; pixels with another id, or with that of UNLABELLED, are unlabelled.
        dilation: px by which ignored regions grow, to cover features on their edges.

        Raises ValueError if none of the classes `dynamic` is in `class_ids`.
        """
        found = [name for name in dynamic if name in class_ids]
        if not found:
            classes = f"none of the dynamic classes ({', '.join(dynamic)})"
            raise ValueError(f"{classes} is among those of the masks ({', '.join(class_ids)})")
        self.dynamic = tuple(found)
        self._lookup = np.full(1 << 16, IGNORE if ignore_unlabelled else KEEP, np.uint8)
        self._lookup[[number for name, number in class_ids.items() if name != UNLABELLED]] = KEEP
        self._lookup[[class_ids[name] for name in found]] = IGNORE
        side = 2 * dilation + 1
        self._kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)) if dilation else None

    def __call__(self, labels: np.ndarray) -> np.ndarray:
        """(H, W) uint8 or uint16 ids to (H, W) uint8, 255 where features may be taken, else 0."""
        mask = self._lookup.take(labels)
        # Erosion of the kept regions; pixels beyond the border count as kept.
        return mask if self._kernel is None else cv2.erode(mask, self._kernel)


def label_pixels(image: Any) -> np.ndarray:
    """The ids of a label image (mono8, 8UC1, 16UC1 or 16SC1), with any row step: (H, W) uint8 or uint16.

    Negative ids are large as unsigned numbers. Raises ValueError for another encoding, no pixels, or too little data.
    """
    if image.encoding not in ("mono8", "8UC1", "16UC1", "16SC1"):
        raise ValueError(f"the label image is {image.encoding[:40]!r}; mono8, 8UC1, 16UC1 or 16SC1 is needed")
    if not image.height or not image.width:
        raise ValueError(f"the label image is {image.width} x {image.height} pixels")
    size = 2 if image.encoding.startswith("16") else 1
    if image.step < image.width * size or len(image.data) < image.height * image.step:
        raise ValueError(
            f"the label image holds {len(image.data)} bytes with a step of {image.step}; "
            f"{image.width} x {image.height} pixels in {image.encoding} need more"
        )
    rows = np.frombuffer(image.data, np.uint8, count=image.height * image.step).reshape(image.height, image.step)
    if size == 1:
        return np.ascontiguousarray(rows[:, : image.width])
    wide = np.ascontiguousarray(rows[:, : image.width * 2]).view(">u2" if image.is_bigendian else "<u2")
    return wide.astype(np.uint16)
