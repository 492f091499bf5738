"""Gates: conditions on numbers that decide the exit status of a command, for continuous integration."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
_GATE = re.compile(r"\s*(?P<name>[^<>=]+?)\s*(?P<operator><=|>=|<|>)\s*(?P<number>[-+]?(\d+\.?\d*|\.\d+))\s*")


@dataclass(frozen=True)
class Gate:
    """A condition that fails the command if a number meets it."""

    text: str  #: as the user wrote it
    name: str  #: of the number: a path in a report, as "scores.miou", or a metric of a comparison
    operator: str  #: a key of _OPERATORS
    threshold: float

    @classmethod
    def parse(cls, text: str) -> Gate:
        """Reads "miou<-0.5". Raises ValueError for text that is not such a condition."""
        match = _GATE.fullmatch(text)
        if match is None or not math.isfinite(float(match["number"])):
            raise ValueError(
                f"'{text}' is no condition; METRIC<NUMBER (or >, <=, >=) is needed, as in 'miou<-0.5' or 'miou.high<0'"
            )
        return cls(text.strip(), match["name"], match["operator"], float(match["number"]))

    def fails(self, value: float) -> bool:
        return _OPERATORS[self.operator](value, self.threshold)


@dataclass(frozen=True)
class Measure:
    """A number of a report for which there is a gate option."""

    name: str
    path: str  #: in the report
    is_share: bool  #: in 0..1, and the threshold is the least allowed value; else it is the largest
    description: str

    @property
    def option(self) -> str:
        return f"--{'min' if self.is_share else 'max'}-{self.name}"

    @property
    def destination(self) -> str:
        """The option's attribute in argparse's namespace."""
        return self.option.removeprefix("--").replace("-", "_")

    def gate(self, threshold: float) -> Gate:
        """Raises ValueError for a threshold that the measure cannot have."""
        if not 0 <= threshold <= (1 if self.is_share else math.inf):
            allowed = "a share of 0 to 1 is" if self.is_share else "zero or a positive number is"
            raise ValueError(f"{self.option} is {threshold:g}; {allowed} needed")
        return Gate(f"{self.option} {threshold:g}", self.path, "<" if self.is_share else ">", threshold)


MEASURES = (
    Measure("miou", "scores.miou", True, "mean IoU over the classes of the ground truth"),
    Measure("weighted-iou", "scores.weighted_iou", True, "IoU weighted by pixels"),
    Measure("mvc8", "scores.mvc8", True, "consistency over 8 frames"),
    Measure("mvc16", "scores.mvc16", True, "consistency over 16 frames"),
    Measure("steady", "scores.steady", True, "share of pixels that keep their label from frame to frame"),
    Measure("confidence", "scores.confidence", True, "mean confidence of the network"),
    Measure("unusable", "bag.unusable", False, "images that could not be used"),
    Measure("ms", "timing.ms_per_frame.p95", False, "95th percentile of ms a frame, image to labels"),
    Measure("dropped", "live.frames_dropped", False, "with --live: frames without a mask"),
    Measure("latency", "live.latency_ms.p95", False, "with --live: 95th percentile of ms to the mask"),
    Measure("agreement", "live.agreement", True, "with --live: share of pixels labelled as offline"),
)


def value_at(report: Any, path: str) -> Any:
    """The entry of a report at a path such as "scores.miou"; None without."""
    for key in path.split("."):
        report = report.get(key) if isinstance(report, dict) else None
    return report


def missed_gates(gates: Sequence[Gate], report: dict[str, Any]) -> list[str]:
    """A sentence for each gate that a report misses. An unknown number misses its gate."""
    sentences = []
    for gate in gates:
        value = value_at(report, gate.name)
        if value is None:
            sentences.append(f"{gate.name} is not known, {gate.text} is missed")
        elif gate.fails(float(value)):
            sentences.append(f"{gate.name} is {float(value):.6g}, {gate.text} is missed")
    return sentences
