"""What a live run amounted to: speed, drops and latency from its timing, quality from the labelled bag it left."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sdcpc_ros.bags.errors import BagError
from sdcpc_ros.evaluation.stream_scores import StreamScores
from sdcpc_ros.label_set import LabelSet


@dataclass
class LiveTiming:
    """When each camera frame went out and when its mask came back, by stamp; system clock, ns."""

    published_ns: dict[int, int] = field(default_factory=dict)
    arrived_ns: dict[int, int] = field(default_factory=dict)

    @property
    def dropped(self) -> int:
        """Frames for which no mask came back."""
        return len(self.published_ns) - len(self._answered())

    def latencies_ms(self) -> np.ndarray:
        """From just before a frame was published to the arrival of its mask here, for every frame that got one."""
        return np.array([(self.arrived_ns[s] - self.published_ns[s]) / 1e6 for s in self._answered()])

    def latency_ns(self, stamp_ns: int) -> int | None:
        """Of one frame; None when it was not published, or got no mask."""
        if stamp_ns not in self.published_ns or stamp_ns not in self.arrived_ns:
            return None
        return self.arrived_ns[stamp_ns] - self.published_ns[stamp_ns]

    def jitter_ms(self) -> np.ndarray:
        """How much the latency changed from each mask to the next: what masks come earlier or later than evenly."""
        return np.abs(np.diff(self.latencies_ms()))

    def input_rate_hz(self) -> float:
        return _rate_hz(list(self.published_ns.values()))

    def frame_rate_hz(self) -> float:
        """Masks per second, from the first to the last."""
        return _rate_hz([self.arrived_ns[stamp] for stamp in self._answered()])

    def _answered(self) -> list[int]:
        return [stamp for stamp in self.published_ns if stamp in self.arrived_ns]


def _rate_hz(times_ns: list[int]) -> float:
    span_ns = max(times_ns) - min(times_ns) if times_ns else 0
    return (len(times_ns) - 1) * 1e9 / span_ns if span_ns else math.nan


class LiveQuality:
    """Quality of the masks against the bag's ground truth, over the frames that got one.

    mVC windows run over consecutive *labelled* frames: a dropped frame is left out, not counted as a change, so that a
    window of 8 spans more time when frames are dropped.
    """

    def __init__(self, label_set: LabelSet) -> None:
        self.label_set = label_set
        self._scores = StreamScores(label_set)

    def update(self, labels: np.ndarray, truth: np.ndarray | None, confidence: np.ndarray | None) -> None:
        """The next labelled frame. Raises BagError when mask and truth cannot be compared."""
        number = len(self._scores.log)
        try:
            self._scores.update(labels, truth, confidence, number=number, stamp_ns=0, references=0, reset=None)
        except ValueError as error:
            raise BagError(f"the bag's ground truth does not go with the masks of the node: {error}") from error

    def summary(self) -> dict[str, Any]:
        """Shares in 0..1, None where there was nothing to judge."""
        scores = self._scores.scores()
        return {
            **{name: scores[name] for name in ("judged_frames", "miou", "weighted_iou", "mvc8", "mvc16")},
            "iou": {entry["name"]: entry["iou"] for entry in self._scores.classes()},
            "mean_confidence": scores["confidence"],
        }


def timing_summary(timing: LiveTiming) -> dict[str, Any]:
    latencies = timing.latencies_ms()
    return {
        "frames_published": len(timing.published_ns),
        "frames_labelled": int(latencies.size),
        "frames_dropped": timing.dropped,
        "input_rate_hz": _number(timing.input_rate_hz()),
        "frame_rate_hz": _number(timing.frame_rate_hz()),
        "latency_ms": _percentiles(latencies),
        "jitter_ms": _percentiles(timing.jitter_ms()),
    }


def _percentiles(values: np.ndarray) -> dict[str, float | None]:
    percentiles = np.percentile(values, (50, 95, 100)).tolist() if values.size else [math.nan] * 3
    return {name: _number(value) for name, value in zip(("p50", "p95", "max"), percentiles)}


def _number(value: float) -> float | None:
    """JSON has no nan."""
    return None if math.isnan(value) else float(value)
