"""The frames that training reads, on the training device where they fit."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import torch
from torch import Tensor

from sdcpc_ros.datasets.video_dataset import VideoDataset
from sdcpc_ros.label_set import IGNORE
from sdcpc_ros.training.progress import tracked
from sdcpc_ros.training.town import Town

#: Frames that need no more than this are kept on the device, bytes.
_RESIDENT_BYTES = 4 << 30


class FrameStore:
    """Images and labels by number: the frames of a data set, then those of the towns, all of one size.

    They are decoded once and stay on the device if they fit; else `workers` threads decode them when they are asked
    for. A frame of another size is resized.
    """

    def __init__(
        self,
        dataset: VideoDataset,
        used: Sequence[int],
        towns: Sequence[Town],
        size: tuple[int, int],
        device: torch.device,
        workers: int,
    ) -> None:
        """used: the frames of the data set that will be asked for. size: (height, width), px; that of the towns."""
        self.device = device
        self.size = size
        self._dataset = dataset
        self._pool = ThreadPoolExecutor(max(1, workers))
        self._place: dict[int, int] = {}
        town_frames = sum(len(town.images) for town in towns)
        if (len(used) + town_frames) * 4 * self.size[0] * self.size[1] <= _RESIDENT_BYTES:
            self._place = {frame: place for place, frame in enumerate(used)}
        first = len(dataset)
        for town in towns:
            for _ in town.images:
                self._place[first] = len(self._place)
                first += 1
        held = list(self._place) if len(self._place) > town_frames else []
        own = [self._decode(frame) for frame in tracked(held[: len(used)], f"reading {dataset.name}")]
        street = [(image, labels) for town in towns for image, labels in zip(town.images, town.labels)]
        self._images, self._labels = (self._stack([pair[part] for pair in (*own, *street)]) for part in (0, 1))

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
        decoded = dict(zip(wanted, self._stack([pair[part] for pair in self._pool.map(self._decode, wanted)])))
        return torch.stack([held[self._place[frame]] if frame in self._place else decoded[frame] for frame in frames])

    def _stack(self, arrays: Sequence[np.ndarray]) -> Tensor:
        if not arrays:
            return torch.empty(0, device=self.device)
        stacked = torch.from_numpy(np.stack(arrays)).to(self.device)
        return stacked.permute(0, 3, 1, 2).contiguous() if stacked.dim() == 4 else stacked

    def _decode(self, frame: int) -> tuple[np.ndarray, np.ndarray]:
        image = self._dataset.image(frame)
        if self._dataset.frames[frame].labelled:
            labels = self._dataset.labels(frame)
        else:
            labels = np.full(image.shape[:2], IGNORE, np.uint8)
        if image.shape[:2] != self.size:
            size = self.size[::-1]
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
            labels = cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST)
        return image, labels
