"""Gates on the differences of a comparison: `miou<-0.5` fails a model that loses half a point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sdcpc_ros.evaluation.comparison import Comparison, Difference
from sdcpc_ros.evaluation.gates import Gate
from sdcpc_ros.evaluation.report_file import ReportError

_ENDS = (".low", ".high")


@dataclass(frozen=True)
class GateResult:
    """One gate on one report."""

    gate: Gate
    report: str
    value: float

    @property
    def failed(self) -> bool:
        return self.gate.fails(self.value)

    @property
    def sentence(self) -> str:
        """For a failed gate."""
        return (
            f"{self.report}: {self.gate.name} is {self.value:+.2f} against the baseline, which "
            f"--fail-if '{self.gate.text}' does not let pass"
        )

    def to_dict(self) -> dict[str, Any]:
        return {"gate": self.gate.text, "report": self.report, "value": round(self.value, 4), "failed": self.failed}


def check_gates(comparison: Comparison, gates: Sequence[Gate]) -> list[GateResult]:
    """Checks every gate on every report except the baseline.

    A gate names METRIC, or METRIC.low or METRIC.high for an end of the interval, in percent points (`ms` in ms).
    Raises ReportError for a metric that the reports lack.
    """
    return [
        GateResult(gate, each.name, _value(gate, each.differences)) for each in comparison.compared for gate in gates
    ]


def _value(gate: Gate, differences: Mapping[str, Difference]) -> float:
    metric, end = gate.name, ""
    if metric not in differences and metric.endswith(_ENDS):
        metric, _, end = metric.rpartition(".")
    if metric not in differences:
        raise ReportError(
            f"--fail-if '{gate.text}': there is no '{metric}' in these reports; {', '.join(differences)} are there"
        )
    value = getattr(differences[metric], end or "difference")
    if value is None:
        raise ReportError(f"--fail-if '{gate.text}': there are too few frames for an interval")
    return float(value)
