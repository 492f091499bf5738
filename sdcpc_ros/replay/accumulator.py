"""Accumulates the results of an evaluation, frame by frame."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

import numpy as np

from sdcpc_ros.evaluation.extreme_frames import ExtremeFrames, ReportPictures
from sdcpc_ros.evaluation.pictures import shrink
from sdcpc_ros.evaluation.scorer import Scorer
from sdcpc_ros.replay.segmented_frames import SegmentedFrame, Unusable

_LISTED_PROBLEMS = 100  # all are counted
_BACKDROP_WIDTH = 640


@dataclass
class EvaluationAccumulator:
    """Memory does not depend on the number of frames, except for the rows of the log and a time for each frame."""

    scorer: Scorer
    worst: ExtremeFrames = field(default_factory=lambda: ExtremeFrames(lowest=True))
    best: ExtremeFrames = field(default_factory=lambda: ExtremeFrames(lowest=False))
    backdrop: np.ndarray | None = None
    problems: list[str] = field(default_factory=list)
    unusable: int = 0
    elapsed_ms: array[float] = field(default_factory=lambda: array("f"))
    network_s: float = 0.0

    def add(self, frame: SegmentedFrame | Unusable) -> None:
        """Adds the next frame. Raises ValueError if its truth and its labels cannot be compared."""
        if isinstance(frame, Unusable):
            self.unusable += 1
            if len(self.problems) < _LISTED_PROBLEMS:
                self.problems.append(frame.problem)
            return
        source, result = frame.source, frame.segmentation
        self.scorer.update(
            result.labels,
            source.truth,
            result.confidence,
            number=source.number,
            stamp_ns=source.stamp_ns,
            references=result.references,
            reset=frame.reset,
        )
        log = self.scorer.log
        value = log.miou[-1] if source.truth is not None else None if self.scorer.judged else log.confidence[-1]
        if value is not None:
            for extremes in (self.worst, self.best):
                extremes.offer(value, source.number, source.stamp_ns, source.image, result.labels, source.truth)
        if self.backdrop is None:
            self.backdrop = shrink(source.image, _BACKDROP_WIDTH)
        self.elapsed_ms.append(frame.elapsed_ms)
        self.network_s += result.stage_ms["network"] / 1e3

    def pictures(self) -> ReportPictures:
        flicker = self.scorer.flicker.rate()
        return ReportPictures(self.worst.frames(), self.best.frames(), flicker, self.backdrop)
