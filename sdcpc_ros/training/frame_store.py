"""The frames that training reads, on the training device where they fit."""

from __future__ import annotations

import copy
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import torch
from torch import Tensor

from sdcpc_ros.datasets.synthetic_street import SyntheticStreet
from sdcpc_ros.datasets.video_dataset import VideoDataset
from sdcpc_ros.labels.label_set import IGNORE
from sdcpc_ros.runtime.progress import tracked

#: Frames that need no more than this are kept on the device, bytes.
RESIDENT_BYTES = 4 << 30


class StreetDrive:
    """A drive through one town of the synthetic street, rendered."""

    def __init__(self, seed: int, frames: int, size: tuple[int, int]) -> None:
        street = SyntheticStreet(seed=seed, size=size, length=frames)
        images, labels = zip(*(street.image_and_labels(i) for i in range(len(street))))
        self.images, self.labels = np.stack(images), np.stack(labels)  # (F, H, W, 3), (F, H, W) uint8


class FrameStore:
    """Images and labels by number: the frames of a data set, then those of the towns, all of one size.

    They are decoded once and stay on the device if they fit; else `workers` threads decode them on request. A frame of
    another size is resized. Raises DatasetError for a frame that cannot be read.
    """

    def __init__(
        self,
        dataset: VideoDataset,
        used: Sequence[int],
        towns: Sequence[StreetDrive],
        size: tuple[int, int],
        device: torch.device,
        workers: int,
        resident_bytes: int = RESIDENT_BYTES,
    ) -> None:
        """used: the frames of the data set that training reads. size: (height, width), px, also of the towns.

        resident_bytes: the device memory that frames may take; towns are always on the device.
        """
        self.device = device
        self.size = size
        self._dataset = dataset
        # Each thread has its own copy, since a data set may hold open files, as of bags.
        self._threads = threading.local()
        self._pool = ThreadPoolExecutor(max(1, workers))
        street = [(image, labels) for town in towns for image, labels in zip(town.images, town.labels)]
        fits = (len(used) + len(street)) * 4 * size[0] * size[1] <= resident_bytes
        held = list(used) if fits else []
        own = [_decoded(dataset, frame, size) for frame in tracked(held, f"reading {dataset.name}")]
        self._images, self._labels = (self._stack([pair[part] for pair in (*own, *street)]) for part in (0, 1))
        numbers = [*held, *range(len(dataset), len(dataset) + len(street))]
        self._place = {number: place for place, number in enumerate(numbers)}

    def images(self, frames: Sequence[int]) -> Tensor:
        """(N, 3, H, W) uint8 on the device."""
        return self._take(frames, 0)

    def labels(self, frames: Sequence[int]) -> Tensor:
        """(N, H, W) uint8 on the device; IGNORE all over where a frame has none."""
        return self._take(frames, 1)

    def _take(self, frames: Sequence[int], part: int) -> Tensor:
        held = self._images if part == 0 else self._labels
        if all(frame in self._place for frame in frames):
            return held[torch.tensor([self._place[frame] for frame in frames], device=self.device)]
        wanted = sorted({frame for frame in frames if frame not in self._place})
        pairs = self._pool.map(self._decode_in_thread, wanted)
        decoded = dict(zip(wanted, self._stack([pair[part] for pair in pairs])))
        return torch.stack([held[self._place[frame]] if frame in self._place else decoded[frame] for frame in frames])

    def _stack(self, arrays: Sequence[np.ndarray]) -> Tensor:
        if not arrays:
            return torch.empty(0, device=self.device)
        stacked = torch.from_numpy(np.stack(arrays)).to(self.device)
        return stacked.permute(0, 3, 1, 2).contiguous() if stacked.dim() == 4 else stacked

    def _decode_in_thread(self, frame: int) -> tuple[np.ndarray, np.ndarray]:
        if not hasattr(self._threads, "dataset"):
            self._threads.dataset = copy.deepcopy(self._dataset)
        return _decoded(self._threads.dataset, frame, self.size)


def _decoded(dataset: VideoDataset, frame: int, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Image (H, W, 3) and labels (H, W) of a frame, uint8, at `size`. Raises DatasetError."""
    if dataset.frames[frame].labelled:
        image, labels = dataset[frame]
    else:
        image = dataset.image(frame)
        labels = np.full(image.shape[:2], IGNORE, np.uint8)
    if image.shape[:2] != size:
        image = cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)
        labels = cv2.resize(labels, size[::-1], interpolation=cv2.INTER_NEAREST)
    return image, labels
