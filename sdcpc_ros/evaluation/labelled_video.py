"""Video with ground truth, whatever it comes from, as the evaluator takes it: clips of labelled frames."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sdcpc_ros.datasets.camvid import CamVid
from sdcpc_ros.datasets.synthetic_street import SyntheticStreet
from sdcpc_ros.label_set import CAMVID_11, LabelSet


@dataclass(frozen=True)
class LabelledFrame:
    """A frame of a clip and its ground truth."""

    image: np.ndarray  # (H, W, 3) uint8 RGB
    labels: np.ndarray  # (H, W) uint8, 255 = void
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
    """Frames made one at a time by `frame_at`, for each index in turn."""

    def __init__(self, indices: range, frame_at: Callable[[int], LabelledFrame]) -> None:
        self._indices = indices
        self._frame_at = frame_at

    def __iter__(self) -> Iterator[LabelledFrame]:
        return map(self._frame_at, self._indices)


def camvid_video(root: str | os.PathLike[str], split: str) -> LabelledVideo:
    """A split of CamVid, cut into its runs of consecutive frames. Raises DatasetError."""
    camvid = CamVid(root, split)

    def frame_at(index: int) -> LabelledFrame:
        image, labels = camvid[index]
        return LabelledFrame(image, labels, camvid.stamp_s(index))

    clips = [_Clip(indices, frame_at) for indices in camvid.runs]
    return LabelledVideo(f"CamVid {split}", camvid.label_set, clips, len(camvid))


def street_video(seed: int, frames: int, size: tuple[int, int] = (360, 480)) -> LabelledVideo:
    """One drive down a synthetic street, with its exact flow; `size` is (height, width) in px. Raises ValueError."""
    street = SyntheticStreet(seed=seed, size=size, length=frames)

    def frame_at(index: int) -> LabelledFrame:
        frame = street[index]
        return LabelledFrame(frame.image, frame.labels, index / street.rate_hz, frame.flow, frame.flow_valid)

    return LabelledVideo(f"synthetic street, seed {seed}", CAMVID_11, [_Clip(range(frames), frame_at)], frames)
