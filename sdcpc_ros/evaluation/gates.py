"""Thresholds that a report must meet: an evaluation as a gate of somebody's CI."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Measure:
    """A number of a report that can be a gate."""

    name: str
    path: tuple[str, ...]  #: where it stands in the report
    lower_bound: bool  #: the threshold is the least that is allowed, else the most
    share: bool  #: in 0..1
    description: str

    @property
    def option(self) -> str:
        return f"--{'min' if self.lower_bound else 'max'}-{self.name}"

    @property
    def destination(self) -> str:
        """Of the option, in what argparse gives."""
        return self.option.removeprefix("--").replace("-", "_")

    def value(self, report: dict[str, Any]) -> float | None:
        found: Any = report
        for key in self.path:
            found = found.get(key) if isinstance(found, dict) else None
        return None if found is None else float(found)


MEASURES = (
    Measure("miou", ("scores", "miou"), True, True, "mean IoU over the classes of the ground truth"),
    Measure("weighted-iou", ("scores", "weighted_iou"), True, True, "IoU weighted by pixels"),
    Measure("mvc8", ("scores", "mvc8"), True, True, "consistency over 8 frames"),
    Measure("mvc16", ("scores", "mvc16"), True, True, "consistency over 16 frames"),
    Measure("steady", ("scores", "steady"), True, True, "share of pixels that keep their label from frame to frame"),
    Measure("confidence", ("scores", "confidence"), True, True, "mean confidence of the network"),
    Measure("unusable", ("bag", "unusable"), False, False, "images that could not be used"),
    Measure("ms", ("timing", "ms_per_frame", "p95"), False, False, "95th percentile of ms a frame, image to labels"),
    Measure("dropped", ("live", "frames_dropped"), False, False, "with --live: frames without a mask"),
    Measure("latency", ("live", "latency_ms", "p95"), False, False, "with --live: 95th percentile of ms to the mask"),
    Measure("agreement", ("live", "agreement"), True, True, "with --live: share of pixels labelled as offline"),
)


@dataclass(frozen=True)
class Gate:
    """A measure and its threshold. Raises ValueError for a threshold that the measure cannot have."""

    measure: Measure
    threshold: float

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= (1 if self.measure.share else math.inf):
            allowed = "a share of 0 to 1 is" if self.measure.share else "zero or a positive number is"
            raise ValueError(f"{self.measure.option} is {self.threshold:g}; {allowed} needed")

    def missed(self, report: dict[str, Any]) -> str | None:
        """How a report misses the gate, in a sentence; None when it meets it. What is not known misses."""
        value, option = self.measure.value(report), f"{self.measure.option} {self.threshold:g}"
        if value is None:
            return f"{'.'.join(self.measure.path)} is not known, {option} asks for it"
        if value < self.threshold if self.measure.lower_bound else value > self.threshold:
            return f"{'.'.join(self.measure.path)} is {value:.6g}, {option} is missed"
        return None


def missed_gates(gates: Sequence[Gate], report: dict[str, Any]) -> list[str]:
    """A sentence for each gate that a report misses."""
    return [sentence for gate in gates if (sentence := gate.missed(report)) is not None]
