"""Video with ground truth, as clips of consecutive frames."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sdcpc_ros.datasets.video_dataset import DatasetError, VideoDataset
from sdcpc_ros.labels.label_set import LabelSet


@dataclass(frozen=True)
class LabelledFrame:
    """A frame of a clip. A frame without ground truth is segmented, but not judged."""

    image: np.ndarray  # (H, W, 3) uint8 RGB
    labels: np.ndarray | None  # (H, W) uint8, 255 = void
    stamp_s: float
    flow: np.ndarray | None = None  # (H, W, 2) float32, px, to the next frame of the clip
    flow_valid: np.ndarray | None = None  # (H, W) bool, see TemporalConsistency


@dataclass(frozen=True)
class LabelledVideo:
    """Clips that are scored together. Each iteration of a clip reads or renders its frames."""

    name: str
    label_set: LabelSet
    clips: Sequence[Iterable[LabelledFrame]]
    frames: int  # in all clips together


class _Clip:
    """Consecutive frames of a data set."""

    def __init__(self, dataset: VideoDataset, indices: range) -> None:
        self._dataset, self._indices = dataset, indices

    def __iter__(self) -> Iterator[LabelledFrame]:
        dataset = self._dataset
        for index in self._indices:
            image, labels = dataset[index] if dataset.frames[index].labelled else (dataset.image(index), None)
            flow, flow_valid = dataset.flow(index) or (None, None)
            yield LabelledFrame(image, labels, dataset.frames[index].stamp_s, flow, flow_valid)


def labelled_video(dataset: VideoDataset, *, clips: int = 0) -> LabelledVideo:
    """A data set's runs of frames that have labels, each up to its last labelled frame.

    clips: their largest number, 0: all. Raises DatasetError if there are no labels.
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
