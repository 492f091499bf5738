"""A drive through one town of the synthetic street, rendered for training."""

from __future__ import annotations

import numpy as np

from sdcpc_ros.datasets.synthetic_street import SyntheticStreet


class Town:
    """A drive through one town of the synthetic street, rendered."""

    def __init__(self, seed: int, frames: int, size: tuple[int, int]) -> None:
        street = SyntheticStreet(seed=seed, size=size, length=frames)
        images, labels = zip(*(street.image_and_labels(i) for i in range(len(street))))
        self.images, self.labels = np.stack(images), np.stack(labels)  # (F, H, W, 3), (F, H, W) uint8
