"""Label images to feature masks for SLAM front ends, which take no features on moving objects. No ROS in here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
        """(H, W) uint8, uint16 or int16 ids to (H, W) uint8, 255 where features may be taken, else 0."""
        mask = self._lookup.take(labels)  # negative ids count from its end: unlabelled
        # Erosion of the kept regions; pixels beyond the border count as kept.
        return mask if self._kernel is None else cv2.erode(mask, self._kernel)
