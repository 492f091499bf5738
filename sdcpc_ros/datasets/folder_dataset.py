"""Data sets whose frames are image files, with a label image beside each frame that has labels."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sdcpc_ros.datasets.image_files import read_image
from sdcpc_ros.datasets.video_dataset import VideoDataset, VideoFrame
from sdcpc_ros.labels.label_set import LabelSet


class FrameFiles(NamedTuple):
    """A frame and the files it is in."""

    video: str
    stamp_s: float
    name: str
    image: Path
    labels: Path | None  #: None: the frame has none


class FolderDataset(VideoDataset):
    """A VideoDataset of files. A subclass lists them and decodes label images."""

    def __init__(
        self, name: str, label_set: LabelSet, files: Iterable[FrameFiles], *, max_gap_s: float | None = None
    ) -> None:
        """files: in any order; they are sorted by video and time."""
        ordered = sorted(files, key=lambda file: (file.video, file.stamp_s))
        frames = [VideoFrame(file.video, file.stamp_s, file.name, file.labels is not None) for file in ordered]
        super().__init__(name, label_set, frames, max_gap_s=max_gap_s)
        self._files = [(file.image, file.labels) for file in ordered]

    @abstractmethod
    def read_labels(self, path: Path) -> np.ndarray:
        """A label image as (H, W) uint8 class ids, 255 = void. Raises DatasetError."""

    def image(self, index: int) -> np.ndarray:
        return read_image(self._files[index][0])

    def labels(self, index: int) -> np.ndarray:
        path = self._files[index][1]
        if path is None:
            raise self.unlabelled(index)
        return self.read_labels(path)

    def sources(self, index: int) -> tuple[str, str]:
        image, labels = self._files[index]
        return f"'{image}'", f"the labels of '{image}'" if labels is None else f"'{labels}'"
