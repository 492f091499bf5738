"""Compares two or more evaluations of one recording, with confidence intervals of the differences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sdcpc_ros.evaluation.bootstrap import FrameMetrics, Metric, block_length, resampled_sums
from sdcpc_ros.evaluation.gates import Gate
from sdcpc_ros.evaluation.report_file import ReportError, counts, label_set_of

COMPARISON_FORMAT = "sdcpc comparison 1"
_LEAST_FRAMES = 16  # for an interval


@dataclass(frozen=True)
class ComparisonSettings:
    """Options of the bootstrap. Raises ReportError for a value out of range."""

    replicates: int = 2000
    level: float = 0.95  #: the share of the draws in an interval
    block: int | None = None  #: frames that are drawn together; None: chosen from the data
    seed: int = 0

    def __post_init__(self) -> None:
        if self.replicates < 100:
            raise ReportError(f"{self.replicates} draws are too few for an interval; at least 100 are needed")
        if not 0.5 <= self.level < 1:
            raise ReportError(f"the level is {self.level}; 0.5 up to, but not, 1 is allowed")
        if self.block is not None and self.block < 1:
            raise ReportError(f"the block is {self.block} frames; at least 1 is needed")
        if self.seed < 0:
            raise ReportError(f"the seed is {self.seed}; zero or a positive integer is needed")


@dataclass(frozen=True)
class Difference:
    """A metric of a report beside the baseline's. Values are percent, differences percent points; of "ms" ms."""

    metric: Metric
    baseline: float
    value: float
    low: float | None  #: ends of the interval of the difference; None with too few frames
    high: float | None

    @property
    def difference(self) -> float:
        return self.value - self.baseline

    @property
    def verdict(self) -> str:
        """By the interval: better, worse, higher, lower, same or undecided."""
        if self.low == self.high == 0:
            return "same"
        if self.low is None or self.high is None or self.low <= 0 <= self.high:
            return "undecided"
        down, up = {1: ("worse", "better"), -1: ("better", "worse"), 0: ("lower", "higher")}[self.metric.better]
        return up if self.low > 0 else down

    @property
    def interval(self) -> str:
        return "–" if self.low is None or self.high is None else f"{self.low:+.2f} to {self.high:+.2f}"

    @property
    def numbers(self) -> tuple[str, str, str, str]:
        """Baseline, value, difference and interval as text."""
        return f"{self.baseline:.2f}", f"{self.value:.2f}", f"{self.difference:+.2f}", self.interval

    def to_dict(self) -> dict[str, Any]:
        names = ("baseline", "value", "difference", "low", "high")
        numbers = {name: getattr(self, name) for name in names}
        rounded = {name: None if number is None else round(number, 4) for name, number in numbers.items()}
        return {"unit": self.metric.unit, **rounded, "verdict": self.verdict}


@dataclass(frozen=True)
class Comparison:
    """A report against a baseline of the same recording: all differences, by metric."""

    baseline_name: str
    baseline: dict[str, Any]
    name: str
    report: dict[str, Any]
    differences: dict[str, Difference]
    settings: ComparisonSettings
    block: int  #: frames drawn together

    @property
    def same_labels(self) -> bool:
        """Whether every label of every frame is the baseline's."""
        digests = [each.get("labels_sha256") for each in (self.baseline, self.report)]
        return digests[0] is not None and digests[0] == digests[1]


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
        return f"{self.report}: {self.gate.name} is {self.value:+.2f} against the baseline: fails '{self.gate.text}'"


def compare(
    names: Sequence[str], reports: Sequence[dict[str, Any]], settings: ComparisonSettings | None = None
) -> list[Comparison]:
    """Compares checked reports with the first. Raises ReportError unless all are of the same frames and truth."""
    if len(reports) < 2:
        raise ReportError("at least two reports are needed to compare")
    for name, report in zip(names, reports):
        _check_same_frames(names[0], reports[0], name, report)
    settings = settings or ComparisonSettings()
    return [_compare(names[0], reports[0], name, report, settings) for name, report in zip(names[1:], reports[1:])]


def comparison_report(comparisons: Sequence[Comparison], gates: Sequence[GateResult] = ()) -> dict[str, Any]:
    """For JSON: comparisons with one baseline, and their gates."""

    def model(report: dict[str, Any]) -> dict[str, str]:
        return {"name": report["model"]["name"], "sha256": report["model"]["sha256"]}

    baseline, settings = comparisons[0].baseline, comparisons[0].settings
    return {
        "format": COMPARISON_FORMAT,
        "bag": baseline["bag"]["name"],
        "camera": baseline["bag"]["camera"],
        "frames": len(baseline["frames"]["number"]),
        "baseline": {"name": comparisons[0].baseline_name, "model": model(baseline)},
        "bootstrap": {
            "kind": "circular blocks of frames, paired, percentile intervals",
            "replicates": settings.replicates,
            "level": settings.level,
            "seed": settings.seed,
        },
        "compared": [
            {
                "name": each.name,
                "model": model(each.report),
                "block_frames": each.block,
                "same_labels": each.same_labels,
                "metrics": {name: difference.to_dict() for name, difference in each.differences.items()},
            }
            for each in comparisons
        ],
        "gates": [
            {"gate": each.gate.text, "report": each.report, "value": round(each.value, 4), "failed": each.failed}
            for each in gates
        ],
    }


def check_gates(comparisons: Sequence[Comparison], gates: Sequence[Gate]) -> list[GateResult]:
    """Checks every gate on every report except the baseline.

    A gate names METRIC, or METRIC.low or METRIC.high for an end of the interval, in percent points (`ms` in ms).
    Raises ReportError for a metric that the reports lack.
    """
    results = []
    for each in comparisons:
        for gate in gates:
            metric, part = gate.name, "difference"
            if metric not in each.differences and metric.endswith((".low", ".high")):
                metric, _, part = metric.rpartition(".")
            if metric not in each.differences:
                there = f"there is no '{metric}' in these reports; {', '.join(each.differences)} are there"
                raise ReportError(f"--fail-if '{gate.text}': {there}")
            value = getattr(each.differences[metric], part)
            if value is None:
                raise ReportError(f"--fail-if '{gate.text}': there are too few frames for an interval")
            results.append(GateResult(gate, each.name, float(value)))
    return results


def plot_groups(differences: Iterable[Difference]) -> list[list[tuple[Difference, list[float]]]]:
    """Scores, IoU by class, and times, each with the low end, the value and the high end of its difference.

    Each group has one scale from -1, worse, to 1, better. Without an interval, both ends are the value.
    """
    groups: dict[str, list[tuple[Difference, list[float]]]] = {}
    for each in differences:
        sign, value = -1 if each.metric.better < 0 else 1, each.difference
        low, high = sorted(sign * (value if end is None else end) for end in (each.low, each.high))
        kind = "iou" if each.metric.name.startswith("iou.") else each.metric.unit
        groups.setdefault(kind, []).append((each, [low, sign * value, high]))
    for group in groups.values():
        reach = max(abs(position) for _, positions in group for position in positions) or 1.0
        for _, positions in group:
            positions[:] = [position / reach for position in positions]
    return list(groups.values())


def _compare(
    baseline_name: str, baseline: dict[str, Any], name: str, report: dict[str, Any], settings: ComparisonSettings
) -> Comparison:
    ours, theirs = FrameMetrics(baseline), FrameMetrics(report)
    totals = np.stack([ours.totals(), theirs.totals()], axis=1)
    known = np.flatnonzero(~np.isnan(totals).any(axis=1))
    influence = theirs.influence() - ours.influence()
    frames = len(influence)
    block = min(settings.block or max((block_length(influence[:, each]) for each in known), default=1), frames)
    ends = np.full((len(totals), 2), np.nan)
    if frames >= _LEAST_FRAMES:
        columns = np.concatenate([ours.columns, theirs.columns], axis=1)
        drawn = resampled_sums(columns, block=block, replicates=settings.replicates, seed=settings.seed)
        our_sums, their_sums = np.split(drawn, 2, axis=1)
        differences = theirs.values(their_sums) - ours.values(our_sums)
        tail = (1 - settings.level) / 2
        for each in known:
            values = differences[~np.isnan(differences[:, each]), each]  # a class may be in none of the drawn frames
            if values.size:
                ends[each] = np.quantile(values, (tail, 1 - tail))
    found = {}
    for each in known:
        metric, (low, high) = ours.metrics[each], ends[each].tolist()
        interval = (None, None) if np.isnan(low) else (low, high)
        found[metric.name] = Difference(metric, *totals[each].tolist(), *interval)
    return Comparison(baseline_name, baseline, name, report, found, settings, block)


def _check_same_frames(first_name: str, first: dict[str, Any], name: str, report: dict[str, Any]) -> None:
    """Raises ReportError, naming what differs, unless both judge the same images by the same truth."""

    def refuse(what: str) -> ReportError:
        return ReportError(f"'{name}' cannot be compared with '{first_name}': {what}")

    ours, theirs = (label_set_of(each).class_names for each in (first, report))
    if ours != theirs:
        raise refuse(f"its classes are {', '.join(theirs)}; those of the other are {', '.join(ours)}")
    if first["bag"]["camera"] != report["bag"]["camera"]:
        raise refuse(f"it is of {report['bag']['camera']}, the other of {first['bag']['camera']}")
    stamps, other_stamps = (np.array(each["frames"]["stamp_ns"], np.int64) for each in (first, report))
    if len(stamps) != len(other_stamps):
        raise refuse(f"it holds {len(other_stamps)} frames, the other {len(stamps)}")
    if (stamps != other_stamps).any():
        at = int(np.argmax(stamps != other_stamps))
        raise refuse(
            f"they are of different recordings: frame {at} is stamped {other_stamps[at] / 1e9:.3f} s in it, "
            f"{stamps[at] / 1e9:.3f} s in the other"
        )
    truth, other_truth = counts(first, "truth"), counts(report, "truth")
    if (truth != other_truth).any():
        at, index = (int(place) for place in np.argwhere(truth != other_truth)[0])
        raise refuse(
            f"their ground truths differ: of {ours[index]} there are {other_truth[at, index]} pixels in frame {at} of "
            f"it, {truth[at, index]} in the other"
        )
