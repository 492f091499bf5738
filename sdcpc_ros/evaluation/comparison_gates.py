"""Gates on a comparison, as a continuous integration writes them: `miou<-0.5` fails a model that lost half a point."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sdcpc_ros.evaluation.comparison import Comparison, Difference
from sdcpc_ros.evaluation.report_file import ReportError

_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
_GATE = re.compile(r"\s*(?P<name>[^<>=]+?)\s*(?P<operator><=|>=|<|>)\s*(?P<number>[-+]?(\d+\.?\d*|\.\d+))\s*")
_ENDS = (".low", ".high")


@dataclass(frozen=True)
class Gate:
    """A condition on the difference from the baseline that must not be met.

    METRIC, METRIC.low or METRIC.high, an operator, and percent points (ms for `ms`). `.low` and `.high` are the ends of
    the interval: `miou.high<0` fails what is worse beyond chance.
    """

    text: str
    name: str
    operator: str
    threshold: float

    @classmethod
    def parsed(cls, text: str) -> Gate:
        """Raises ReportError for what is no such condition."""
        match = _GATE.fullmatch(text)
        if match is None or not math.isfinite(float(match["number"])):
            raise ReportError(
                f"'{text}' is no condition; METRIC<NUMBER (or >, <=, >=) is needed, as in 'miou<-0.5' or 'miou.high<0'"
            )
        return cls(text.strip(), match["name"], match["operator"], float(match["number"]))

    def value(self, differences: Mapping[str, Difference]) -> float:
        """What the gate looks at. Raises ReportError for a metric that is not there."""
        metric, end = self.name, ""
        if metric not in differences and metric.endswith(_ENDS):
            metric, _, end = metric.rpartition(".")
        if metric not in differences:
            raise ReportError(
                f"--fail-if '{self.text}': there is no '{metric}' in these reports; {', '.join(differences)} are there"
            )
        found = differences[metric]
        value = found.difference if not end else getattr(found, end)
        if value is None:
            raise ReportError(f"--fail-if '{self.text}': there are too few frames for an interval")
        return float(value)

    def fails(self, value: float) -> bool:
        return _OPERATORS[self.operator](value, self.threshold)


@dataclass(frozen=True)
class GateResult:
    """One gate on one report."""

    gate: Gate
    report: str
    value: float

    @property
    def failed(self) -> bool:
        return self.gate.fails(self.value)

    def to_dict(self) -> dict[str, Any]:
        return {"gate": self.gate.text, "report": self.report, "value": round(self.value, 4), "failed": self.failed}


def judged(comparison: Comparison, gates: Sequence[Gate]) -> list[GateResult]:
    """Every gate on every report but the baseline. Raises ReportError for a gate on what the reports do not hold."""
    return [GateResult(gate, each.name, gate.value(each.differences)) for each in comparison.compared for gate in gates]
