"""Labelled video: frames in order, some of them labelled."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import groupby, pairwise
from statistics import median
from typing import NamedTuple

import numpy as np

from sdcpc_ros.labels.label_set import LabelSet

#: A step this much longer than the video's shortest starts a new run of frames.
_RUN_GAP = 1.5


class DatasetError(ValueError):
    """A data set on disk is not laid out as it should be, or a file of it cannot be used."""


class VideoFrame(NamedTuple):
    """One frame of a data set."""

    video: str
    stamp_s: float  #: comparable within one video only
    name: str
    labelled: bool
    image_source: str = "the image"  #: what messages call its image: the file, or the like
    labels_source: str = "its labels"


class VideoDataset(ABC):
    """A split of a data set as one sequence of frames, by video and time.

    A subclass reads images and labels; files are opened on request. Objects hold plain data, so that
    they can be sent to worker processes. All methods raise DatasetError, naming the file and the rule.
    """

    def __init__(
        self, name: str, label_set: LabelSet, frames: Sequence[VideoFrame], *, max_gap_s: float | None = None
    ) -> None:
        """frames: in order, those of one video together. max_gap_s: a longer step between two frames starts a new run;
        None: half as much again as the shortest step of their video."""
        self.name = name
        self.label_set = label_set
        self.frames = list(frames)
        self.runs = _runs(self.frames, max_gap_s)
        #: Indices of the frames that have labels.
        self.labelled: list[int] = [index for index, frame in enumerate(self.frames) if frame.labelled]
        self._run_starts = np.array([run.start for run in self.runs])

    @abstractmethod
    def image(self, index: int) -> np.ndarray:
        """The image of a frame, (H, W, 3) uint8 RGB. IndexError past the end."""

    @abstractmethod
    def labels(self, index: int) -> np.ndarray:
        """The labels of a frame, (H, W) uint8 class ids, 255 = void. DatasetError (`unlabelled`) if it has none."""

    def flow(self, index: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Exact flow to the next frame of the run, where it is known: (H, W, 2) float32 px, and (H, W) bool valid."""
        return None

    def __len__(self) -> int:
        """The number of frames, with labels or without."""
        return len(self.frames)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Image and labels of a labelled frame, of one size. DatasetError for a frame without labels."""
        image, labels = self.image(index), self.labels(index)
        if labels.shape != image.shape[:2]:
            frame = self.frames[index]
            raise DatasetError(
                f"{frame.labels_source} is {labels.shape[1]}x{labels.shape[0]} but {frame.image_source} is "
                f"{image.shape[1]}x{image.shape[0]}; an image and its labels must be of one size"
            )
        return image, labels

    @property
    def names(self) -> list[str]:
        return [frame.name for frame in self.frames]

    @property
    def rate_hz(self) -> float | None:
        """Frames a second within runs, the median; None when no two frames follow each other."""
        steps = [b.stamp_s - a.stamp_s for run in self.runs for a, b in pairwise(self.frames[run.start : run.stop])]
        return 1 / median(steps) if steps else None

    def run_of(self, index: int) -> range:
        """The indices of the frames that follow each other without a gap, `index` among them."""
        index = range(len(self))[index]
        return self.runs[int(np.searchsorted(self._run_starts, index, side="right")) - 1]

    def unlabelled(self, index: int) -> DatasetError:
        """The error for a frame without labels."""
        return DatasetError(f"{self.frames[index].image_source} has no labels; only some frames of {self.name} have")


def _runs(frames: Sequence[VideoFrame], max_gap_s: float | None) -> list[range]:
    """Indices of frames that follow each other in one video."""
    runs: list[range] = []
    for _, group in groupby(frames, key=lambda frame: frame.video):
        start, video = runs[-1].stop if runs else 0, list(group)
        steps = [after.stamp_s - before.stamp_s for before, after in pairwise(video)]
        for step, before, after in zip(steps, video, video[1:]):
            if step <= 0:
                raise DatasetError(
                    f"frames '{before.name}' and '{after.name}' of video '{after.video}' are not one after the other "
                    f"in time ({before.stamp_s:g} s and {after.stamp_s:g} s)"
                )
        gap = _RUN_GAP * min(steps, default=0.0) if max_gap_s is None else max_gap_s
        cuts = [0, *(index for index, step in enumerate(steps, start=1) if step > gap), len(video)]
        runs += [range(start + first, start + stop) for first, stop in pairwise(cuts)]
    return runs
