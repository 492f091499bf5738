"""Score a segmenter on labelled video: as a stream, and one frame at a time with the same weights."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from sdcpc_ros.evaluation.labelled_video import LabelledFrame, LabelledVideo
from sdcpc_ros.evaluation.metrics import MVC_MODES, ConfusionMatrix, TemporalConsistency, VideoConsistency
from sdcpc_ros.label_set import LabelSet, LabelSetError

_STREAM = "evaluation"


class Segmenter(Protocol):
    """What is scored; `sdcpc_ros.streaming.StreamingSegmenter` is one."""

    @property
    def label_set(self) -> LabelSet: ...

    def segment(self, image: np.ndarray, stamp_s: float | None = ..., *, stream: str = ...) -> Any: ...

    def segment_single(self, image: np.ndarray) -> Any: ...

    def reset(self, stream: str | None = ...) -> None: ...


@dataclass(frozen=True)
class Scores:
    """One way of labelling a video, scored. Shares are in 0..1, nan where there was nothing to judge."""

    miou: float
    weighted_iou: float
    class_iou: dict[str, float]
    mvc8: float  # the "clean" definition, see VideoConsistency
    mvc16: float
    mvc8_reference: float  # as VSPW's script counts
    mvc16_reference: float
    tc: float  # nan without flow
    ms_per_frame: float  # median, from image to labels

    def to_dict(self) -> dict[str, Any]:
        """For JSON: nan becomes None."""
        values = asdict(self)
        values["class_iou"] = {name: _none_if_nan(value) for name, value in self.class_iou.items()}
        return {key: _none_if_nan(value) for key, value in values.items()}


def _none_if_nan(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


class Scorer:
    """Gathers the scores of one sequence of predictions, frame by frame.

    Only frames with labels are judged, and only where they follow each other can consistency be: windows of mVC and
    pairs of TC that hold a frame without labels are left out.
    """

    def __init__(self, label_set: LabelSet) -> None:
        self.label_set = label_set
        self.confusion = ConfusionMatrix(len(label_set))
        self._mvc = {(n, mode): VideoConsistency(n, mode) for n in (8, 16) for mode in MVC_MODES}
        self._tc = TemporalConsistency(len(label_set))
        self._last: tuple[LabelledFrame, np.ndarray] | None = None
        self._elapsed_ms: list[float] = []

    def update(self, frame: LabelledFrame, prediction: np.ndarray, elapsed_ms: float) -> None:
        """The next frame of the clip, its prediction (H, W) uint8, and how long that took."""
        self._elapsed_ms.append(elapsed_ms)
        if frame.labels is None:
            self.interrupt()
            return
        self.confusion.update(frame.labels, prediction)
        for consistency in self._mvc.values():
            consistency.update(frame.labels, prediction)
        if self._last is not None:
            last_frame, last_prediction = self._last
            if last_frame.flow is not None:
                self._tc.update(last_prediction, prediction, last_frame.flow, last_frame.flow_valid)
        self._last = frame, prediction

    def interrupt(self) -> None:
        """The next frame does not follow the last: it is of another clip, or there was one that cannot be judged."""
        for consistency in self._mvc.values():
            consistency.end_video()
        self._last = None

    def scores(self) -> Scores:
        return Scores(
            miou=self.confusion.miou(),
            weighted_iou=self.confusion.weighted_iou(),
            class_iou=dict(zip(self.label_set.class_names, self.confusion.iou().tolist())),
            mvc8=self._mvc[8, "clean"].value(),
            mvc16=self._mvc[16, "clean"].value(),
            mvc8_reference=self._mvc[8, "reference"].value(),
            mvc16_reference=self._mvc[16, "reference"].value(),
            tc=self._tc.value(),
            ms_per_frame=statistics.median(self._elapsed_ms) if self._elapsed_ms else math.nan,
        )


@dataclass(frozen=True)
class Evaluation:
    """The same weights on the same video, as a stream and frame by frame."""

    video: str
    clips: int
    frames: int
    labelled_frames: int  # those that are judged
    streaming: Scores
    single_frame: Scores

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "streaming": self.streaming.to_dict(), "single_frame": self.single_frame.to_dict()}


def evaluate(
    segmenter: Segmenter,
    video: LabelledVideo,
    *,
    progress: Callable[[int], AbstractContextManager[Callable[[], None]]] | None = None,
) -> Evaluation:
    """Score `segmenter` on every labelled frame of every clip, in order; the stream passes through the others too.

    `progress` gets the number of frames and gives a context manager that yields what to call after each.
    Raises LabelSetError when the segmenter's classes are not those of the video.
    """
    if segmenter.label_set.class_names != video.label_set.class_names:
        raise LabelSetError(
            f"the model's classes are {_described(segmenter.label_set)}; {video.name} has {_described(video.label_set)}"
        )
    streaming, single_frame = Scorer(video.label_set), Scorer(video.label_set)
    labelled_frames = 0
    with progress(video.frames) if progress else nullcontext(lambda: None) as advance:
        for clip in video.clips:
            segmenter.reset(_STREAM)
            for frame in clip:
                prediction, elapsed_ms = _timed(segmenter.segment, frame.image, frame.stamp_s, stream=_STREAM)
                streaming.update(frame, prediction, elapsed_ms)
                if frame.labels is None:
                    single_frame.interrupt()
                else:
                    labelled_frames += 1
                    prediction, elapsed_ms = _timed(segmenter.segment_single, frame.image)
                    single_frame.update(frame, prediction, elapsed_ms)
                advance()
            streaming.interrupt()
            single_frame.interrupt()
    segmenter.reset(_STREAM)
    return Evaluation(
        video=video.name,
        clips=len(video.clips),
        frames=video.frames,
        labelled_frames=labelled_frames,
        streaming=streaming.scores(),
        single_frame=single_frame.scores(),
    )


def _timed(segment: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[np.ndarray, float]:
    started = time.perf_counter()
    labels = segment(*args, **kwargs).labels
    return labels, (time.perf_counter() - started) * 1e3


def _described(label_set: LabelSet) -> str:
    return f"'{label_set.name}' ({', '.join(label_set.class_names)})"
