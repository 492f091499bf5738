"""Scores a segmenter on labelled video: as a stream, and on single frames with the same weights."""

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
from sdcpc_ros.evaluation.metrics import MVC_MODES
from sdcpc_ros.evaluation.scorer import Scorer
from sdcpc_ros.labels.label_set import LabelSet, LabelSetError

_STREAM = "evaluation"


class Segmenter(Protocol):
    """The interface that is scored; `sdcpc_ros.streaming.StreamingSegmenter` implements it."""

    @property
    def label_set(self) -> LabelSet: ...

    def segment(self, image: np.ndarray, stamp_s: float | None = ..., *, stream: str = ...) -> Any: ...

    def segment_single(self, image: np.ndarray) -> Any: ...

    def reset(self, stream: str | None = ...) -> None: ...


@dataclass(frozen=True)
class Scores:
    """The scores of one way to label a video. Shares are in 0..1, nan where nothing could be judged."""

    miou: float
    weighted_iou: float
    class_iou: dict[str, float]
    mvc8: float  #: the "clean" definition, see VideoConsistency
    mvc16: float
    mvc8_reference: float  #: as VSPW's script counts
    mvc16_reference: float
    tc: float  #: nan without flow
    ms_per_frame: float  #: median, from image to labels

    @classmethod
    def of(cls, scorer: Scorer, elapsed_ms: list[float]) -> Scores:
        """The totals of a scorer with all `mvc_modes`."""
        return cls(
            miou=scorer.confusion.miou(),
            weighted_iou=scorer.confusion.weighted_iou(),
            class_iou=dict(zip(scorer.label_set.class_names, scorer.confusion.iou().tolist())),
            mvc8=scorer.mvc[8, "clean"].value(),
            mvc16=scorer.mvc[16, "clean"].value(),
            mvc8_reference=scorer.mvc[8, "reference"].value(),
            mvc16_reference=scorer.mvc[16, "reference"].value(),
            tc=scorer.tc.value(),
            ms_per_frame=statistics.median(elapsed_ms) if elapsed_ms else math.nan,
        )

    def to_dict(self) -> dict[str, Any]:
        """For JSON: nan becomes None."""
        values = {**asdict(self), "class_iou": {name: _none_if_nan(iou) for name, iou in self.class_iou.items()}}
        return {key: _none_if_nan(value) for key, value in values.items()}


@dataclass(frozen=True)
class Evaluation:
    """The same weights on the same video, as a stream and frame by frame."""

    video: str
    clips: int
    frames: int
    labelled_frames: int  #: with ground truth
    streaming: Scores
    single_frame: Scores

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "streaming": self.streaming.to_dict(), "single_frame": self.single_frame.to_dict()}


class _TimedScorer:
    """Calls the segmenter, and scores and times its labels."""

    def __init__(self, label_set: LabelSet, segment: Callable[..., Any]) -> None:
        self.scorer, self._segment = Scorer(label_set, MVC_MODES), segment
        self._elapsed_ms: list[float] = []

    def update(self, frame: LabelledFrame, *arguments: Any, **options: Any) -> None:
        started = time.perf_counter()
        labels = self._segment(frame.image, *arguments, **options).labels
        self._elapsed_ms.append((time.perf_counter() - started) * 1e3)
        self.scorer.update(labels, frame.labels, flow=frame.flow, flow_valid=frame.flow_valid)

    def scores(self) -> Scores:
        return Scores.of(self.scorer, self._elapsed_ms)


def evaluate(
    segmenter: Segmenter,
    video: LabelledVideo,
    *,
    progress: Callable[[int, str], AbstractContextManager[Callable[[], None]]] | None = None,
    doing: str = "evaluating",
) -> Evaluation:
    """Scores `segmenter` on every labelled frame of every clip, in order; the stream gets the other frames too.

    `progress` gets the number of frames and `doing`, and returns a context manager whose value is called after each
    frame, as ProgressBar.
    Raises LabelSetError if the segmenter's classes are not those of the video.
    """
    if segmenter.label_set.class_names != video.label_set.class_names:
        raise LabelSetError(
            f"the model's classes are {_describe(segmenter.label_set)}; {video.name} has {_describe(video.label_set)}"
        )
    streaming = _TimedScorer(video.label_set, segmenter.segment)
    single_frame = _TimedScorer(video.label_set, segmenter.segment_single)
    with progress(video.frames, doing) if progress else nullcontext(lambda: None) as advance:
        for clip in video.clips:
            segmenter.reset(_STREAM)
            for frame in clip:
                streaming.update(frame, frame.stamp_s, stream=_STREAM)
                if frame.labels is None:
                    single_frame.scorer.interrupt()
                else:
                    single_frame.update(frame)
                advance()
            streaming.scorer.interrupt()
            single_frame.scorer.interrupt()
    segmenter.reset(_STREAM)
    return Evaluation(
        video=video.name,
        clips=len(video.clips),
        frames=video.frames,
        labelled_frames=single_frame.scorer.judged,
        streaming=streaming.scores(),
        single_frame=single_frame.scores(),
    )


def _none_if_nan(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def _describe(label_set: LabelSet) -> str:
    return f"'{label_set.name}' ({', '.join(label_set.class_names)})"
