"""What an evaluation gathers while the frames pass; it can be laid down half way, and taken up again."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sdcpc_ros.bags.segmented_frames import SegmentedFrame, Unusable
from sdcpc_ros.evaluation.extreme_frames import ExtremeFrames
from sdcpc_ros.evaluation.pictures import shrink
from sdcpc_ros.evaluation.stream_scores import StreamScores

_PROBLEMS_TOLD = 100  # of a broken camera's thousands; all are counted
_BACKDROP_WIDTH = 640
_PLAIN = ("problems", "unusable", "network_s", "wall_s", "resumed_at")
_PARTS = ("scores", "worst", "best")


@dataclass
class Observed:
    """Memory does not depend on the number of frames, but for the rows of the log and a time for each."""

    scores: StreamScores
    worst: ExtremeFrames = field(default_factory=lambda: ExtremeFrames(lowest=True))
    best: ExtremeFrames = field(default_factory=lambda: ExtremeFrames(lowest=False))
    backdrop: np.ndarray | None = None
    problems: list[str] = field(default_factory=list)
    unusable: int = 0
    elapsed_ms: array[float] = field(default_factory=lambda: array("f"))
    network_s: float = 0.0
    wall_s: float = 0.0  #: of the runs before this one, up to where each was gone on from
    resumed_at: list[int] = field(default_factory=list)  #: images that a run went on with after a stop

    def take(self, frame: SegmentedFrame | Unusable) -> None:
        """The next frame. Raises ValueError when its truth and its labels cannot be compared."""
        if isinstance(frame, Unusable):
            self.unusable += 1
            if len(self.problems) < _PROBLEMS_TOLD:
                self.problems.append(frame.problem)
            return
        source, result = frame.source, frame.segmentation
        self.scores.update(
            result.labels,
            source.truth,
            result.confidence,
            number=source.number,
            stamp_ns=source.stamp_ns,
            references=result.references,
            reset=frame.reset,
        )
        log = self.scores.log
        value = log.miou[-1] if source.truth is not None else None if self.scores.judged else log.confidence[-1]
        if value is not None:
            for extremes in (self.worst, self.best):
                extremes.offer(value, source.number, source.stamp_ns, source.image, result.labels, source.truth)
        if self.backdrop is None:
            self.backdrop = shrink(source.image, _BACKDROP_WIDTH)
        self.elapsed_ms.append(frame.elapsed_ms)
        self.network_s += result.stage_ms["network"] / 1e3

    def state(self, wall_s: float) -> dict[str, Any]:
        """All of it, as arrays and plain values, for `restore`; `wall_s` in all runs so far."""
        return {
            **{name: getattr(self, name) for name in _PLAIN},
            **{name: getattr(self, name).state() for name in _PARTS},
            "backdrop": self.backdrop,
            "elapsed_ms": np.array(self.elapsed_ms, np.float32),
            "wall_s": wall_s,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from where another evaluation of the same classes stood."""
        for name in _PLAIN:
            setattr(self, name, state[name])
        for name in _PARTS:
            getattr(self, name).restore(state[name])
        self.backdrop = state["backdrop"]
        self.elapsed_ms = array("f", state["elapsed_ms"].tobytes())
