"""Video with ground truth, whatever it comes from, as the evaluator takes it: clips of frames in a row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sdcpc_ros.datasets.errors import DatasetError
from sdcpc_ros.datasets.video_dataset import VideoDataset
from sdcpc_ros.label_set import LabelSet


@dataclass(frozen=True)
class LabelledFrame:
    """A frame of a clip and its ground truth. One without is there to be remembered: nothing is judged by it."""

    image: np.ndarray  # (H, W, 3) uint8 RGB
    labels: np.ndarray | None  # (H, W) uint8, 255 = void
    stamp_s: float
    flow: np.ndarray | None = None  # (H, W, 2) float32, px, to the next frame of the clip
    flow_valid: np.ndarray | None = None  # (H, W) bool, see TemporalConsistency


@dataclass(frozen=True)
class LabelledVideo:
    """Clips that are scored together. Frames are read or drawn when a clip is iterated, each time anew."""

    name: str
    label_set: LabelSet
    clips: Sequence[Iterable[LabelledFrame]]
    frames: int  # in all clips together


class _Clip:
    """A stretch of a data set, one frame after the other."""

    def __init__(self, dataset: VideoDataset, indices: range) -> None:
        self._dataset, self._indices = dataset, indices

    def __iter__(self) -> Iterator[LabelledFrame]:
        dataset = self._dataset
        for index in self._indices:
            image, labels = dataset[index] if dataset.frames[index].labelled else (dataset.image(index), None)
            flow, flow_valid = dataset.flow(index) or (None, None)
            yield LabelledFrame(image, labels, dataset.stamp_s(index), flow, flow_valid)


def labelled_video(dataset: VideoDataset, *, clips: int = 0) -> LabelledVideo:
    """A data set's runs of frames, as far as they matter: those with labels, each up to its last labelled frame.

    clips: only the first so many of them, 0: all. Raises DatasetError where there are no labels.
    """
    stretches = []
    for run in dataset.runs:
        labelled = [index for index in run if dataset.frames[index].labelled]
        if labelled:
            stretches.append(range(run.start, labelled[-1] + 1))
    if not stretches:
        raise DatasetError(f"{dataset.name} has no labels to judge by")
    stretches = stretches[: clips or None]
    frames = sum(len(stretch) for stretch in stretches)
    return LabelledVideo(dataset.name, dataset.label_set, [_Clip(dataset, stretch) for stretch in stretches], frames)
