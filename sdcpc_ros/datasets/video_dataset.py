"""Labelled video, whatever it comes from: frames in order, some of them labelled, and clips that end in one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Literal, NamedTuple

import numpy as np

from sdcpc_ros.datasets.errors import DatasetError
from sdcpc_ros.labels.label_set import LabelSet

Unit = Literal["frames", "seconds"]
UNITS: tuple[Unit, ...] = ("frames", "seconds")

#: How far back the paper's family looks (CFFM, MRCFA; inferred for SD-CPC): 3, 6 and 9 frames, on VSPW at 15 Hz.
REFERENCE_OFFSETS = (3, 6, 9)
REFERENCE_OFFSETS_S = (0.2, 0.4, 0.6)
#: For labelled frames a second apart, as most of CamVid's: the frame before, and the two before that.
OFFSETS_AT_1_HZ = (1, 2, 3)

#: A frame answers to an offset in seconds when its age is off by no more than this share of the offset.
_AGE_TOLERANCE = 1 / 3
#: A step this much longer than the video's shortest starts a new run of frames.
_RUN_GAP = 1.5


class Frame(NamedTuple):
    """One frame of a data set."""

    video: str
    stamp_s: float  #: when it was filmed; its zero means something within one video only
    name: str
    labelled: bool


@dataclass(frozen=True)
class Reference:
    """The frame that stands at an offset from another."""

    index: int
    present: bool  #: False: no frame is there, and this one, the nearest in the same run, stands in for it


@dataclass(frozen=True)
class Clip:
    """A labelled frame and earlier ones to remember, as the network is trained on: oldest first, the labelled one last.

    Where `present` is False, the image is a stand-in (see VideoDataset.clip).
    """

    images: list[np.ndarray]  #: K + 1 of (H, W, 3) uint8 RGB
    labels: np.ndarray  #: (H, W) uint8 of the last image, 255 = void
    present: np.ndarray  #: (K,) bool, which of the K references are true neighbours
    indices: list[int]  #: K + 1, where in the data set the images came from


class VideoDataset(ABC):
    """A split of a data set as one sequence of frames, by video and time.

    A subclass reads images and labels; files are opened when asked for, never before. Objects hold plain data, so that
    they can be sent to the worker processes of a loader. All methods raise DatasetError, naming the file and the rule.
    """

    def __init__(
        self, name: str, label_set: LabelSet, frames: Sequence[Frame], *, max_gap_s: float | None = None
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

    @abstractmethod
    def sources(self, index: int) -> tuple[str, str]:
        """What to call the image and the labels of a frame in a message: their files, or the like."""

    def flow(self, index: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Exact flow to the next frame of the run, where it is known: (H, W, 2) float32 px, and (H, W) bool valid."""
        return None

    def __len__(self) -> int:
        """How many frames there are, with labels or without."""
        return len(self.frames)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Image and labels of a labelled frame, of one size. DatasetError for a frame without labels."""
        image, labels = self.image(index), self.labels(index)
        if labels.shape != image.shape[:2]:
            image_source, labels_source = self.sources(index)
            raise DatasetError(
                f"{labels_source} is {size_text(labels)} but {image_source} is {size_text(image)}; "
                "an image and its labels must be of one size"
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

    def stamp_s(self, index: int) -> float:
        """When the frame was filmed, in seconds; its zero means something within one video only."""
        return self.frames[index].stamp_s

    def run_of(self, index: int) -> range:
        """The indices of the frames that follow each other without a gap, `index` among them."""
        index = range(len(self))[index]
        return self.runs[int(np.searchsorted(self._run_starts, index, side="right")) - 1]

    def references(
        self, index: int, offsets: Sequence[float], *, unit: Unit = "frames", mirror: bool = False
    ) -> list[Reference]:
        """The frames at these offsets before `index`, in their order; negative offsets look ahead (reversed time).

        unit "frames": steps in this data set, whatever time they take. "seconds": the frame whose age is nearest, and
        present if that is off by a third of the offset at most; the frame itself never answers.
        No clip leaves its run. At an offset that does, the run's nearest frame stands in, `present` False.
        mirror: if a neighbour is missing and none is on the other side in time, take those instead, as the training of
        the paper's family (CFFM) does.
        Raises ValueError for an offset of zero, one that is not a whole number of frames, or an unknown unit.
        """
        _check_offsets(offsets, unit)
        run = self.run_of(index)
        index = range(len(self))[index]
        find = self._at_frames if unit == "frames" else self._at_seconds
        found = [find(index, offset, run) for offset in offsets]
        if mirror and not all(reference.present for reference in found):
            mirrored = [find(index, -offset, run) for offset in offsets]
            if all(reference.present for reference in mirrored):
                return mirrored
        return found

    def clip(self, index: int, offsets: Sequence[float], *, unit: Unit = "frames", mirror: bool = False) -> Clip:
        """The labelled frame `index` and the K frames at `offsets` (newest first, as in a network's configuration).

        Missing neighbours (see `references`) are the caller's choice, all three from what is returned:
        replicate: use the images as they are, the nearest frame stands in (at a run's start, the frame itself);
        mask: give the network `present` as the mask of its references;
        make up: where `present` is False, put an image made from the labelled one.
        """
        image, labels = self[index]
        references = self.references(index, offsets, unit=unit, mirror=mirror)[::-1]
        pictures = {index: image}
        for reference in references:
            if reference.index not in pictures:
                pictures[reference.index] = self.image(reference.index)
        indices = [*(reference.index for reference in references), range(len(self))[index]]
        images = [pictures[i] for i in indices[:-1]] + [image]
        self._check_sizes(indices, images)
        return Clip(images, labels, np.array([reference.present for reference in references], bool), indices)

    def unlabelled(self, index: int) -> DatasetError:
        """What to raise when somebody asks for labels that are not there."""
        return DatasetError(f"{self.sources(index)[0]} has no labels; only some frames of {self.name} have")

    def _at_frames(self, index: int, offset: float, run: range) -> Reference:
        wanted = index - int(offset)
        return Reference(min(max(wanted, run.start), run.stop - 1), wanted in run)

    def _at_seconds(self, index: int, offset: float, run: range) -> Reference:
        now = self.frames[index].stamp_s
        side = range(run.start, index) if offset > 0 else range(index + 1, run.stop)
        if not side:
            return Reference(index, False)
        stamps = np.array([frame.stamp_s for frame in self.frames[side.start : side.stop]])
        off = np.abs(now - stamps - offset)
        nearest = int(off.argmin())
        if off[nearest] <= abs(offset) * _AGE_TOLERANCE:
            return Reference(side[nearest], True)
        return Reference(side[nearest] if off[nearest] < abs(offset) else index, False)

    def _check_sizes(self, indices: Sequence[int], images: Sequence[np.ndarray]) -> None:
        for index, image in zip(indices, images):
            if image.shape != images[-1].shape:
                raise DatasetError(
                    f"{self.sources(index)[0]} is {size_text(image)} but {self.sources(indices[-1])[0]}, in the same "
                    f"clip, is {size_text(images[-1])}; a video's frames must be of one size"
                )


def size_text(image: np.ndarray) -> str:
    """As in 480x360: width, height."""
    return f"{image.shape[1]}x{image.shape[0]}"


def _check_offsets(offsets: Sequence[float], unit: str) -> None:
    if unit not in UNITS:
        raise ValueError(f"unit is '{unit}'; {' and '.join(UNITS)} are allowed")
    for offset in offsets:
        if offset == 0 or (unit == "frames" and offset != int(offset)):
            whole = "a whole number of frames" if unit == "frames" else "a number of seconds"
            raise ValueError(f"an offset is {offset}; {whole} other than zero is needed")


def _runs(frames: Sequence[Frame], max_gap_s: float | None) -> list[range]:
    """Indices of frames that follow each other in one video."""
    shortest: dict[str, float] = {}
    for before, after in pairwise(frames):
        if before.video == after.video:
            step = after.stamp_s - before.stamp_s
            if step <= 0:
                raise DatasetError(
                    f"frames '{before.name}' and '{after.name}' of video '{after.video}' are not one after the other "
                    f"in time ({before.stamp_s:g} s and {after.stamp_s:g} s)"
                )
            shortest[after.video] = min(step, shortest.get(after.video, step))
    starts = [0] if frames else []
    for index, (before, after) in enumerate(pairwise(frames), start=1):
        gap = _RUN_GAP * shortest.get(after.video, 0) if max_gap_s is None else max_gap_s
        if after.video != before.video or after.stamp_s - before.stamp_s > gap:
            starts.append(index)
    return [range(start, end) for start, end in zip(starts, [*starts[1:], len(frames)])]
