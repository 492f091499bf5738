"""The page of a comparison: one HTML file without scripts or links."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sdcpc_ros.evaluation.comparison import Compared, Comparison, ComparisonSettings, Difference
from sdcpc_ros.evaluation.comparison_gates import GateResult
from sdcpc_ros.evaluation.pages.forest import Interval, forest
from sdcpc_ros.evaluation.pages.numbers import count_noun
from sdcpc_ros.evaluation.pages.rendering import HALF_PX, PAGE_PX, DrawnChart, render, write_page
from sdcpc_ros.evaluation.pages.time_sections import frame_times
from sdcpc_ros.evaluation.pages.timeline import Line, Strip, timeline
from sdcpc_ros.evaluation.report_file import column

_SIDE_BY_SIDE = (("Mean IoU", "miou"), ("mVC8", "mvc8"), ("Steady pixels", "steady"), ("Confidence", "confidence"))


def write_comparison(path: str | Path, comparison: Comparison, gates: list[GateResult], command: str = "") -> None:
    """Writes the page of a comparison with its gates; `command` reproduces it."""
    baseline, settings = comparison.baseline, comparison.settings
    page = render(
        "comparison.html.jinja",
        {
            "title": f"{baseline['bag']['name']}: comparison",
            "name": baseline["bag"]["name"],
            "facts": [
                ("camera", baseline["bag"]["camera"]),
                ("frames", str(comparison.frames)),
                ("baseline", f"{comparison.baseline_name} ({baseline['model']['name']})"),
                ("ground truth", baseline["bag"]["truth"]),
            ],
            "sections": [
                _section(comparison, each, index, [gate for gate in gates if gate.report == each.name])
                for index, each in enumerate(comparison.compared)
            ],
            "method": _method(settings),
            "command": command,
            "footer": f"Made by sdcpc_ros {baseline['versions'].get('sdcpc_ros', '')}.",
        },
    )
    write_page(path, page)


def _method(settings: ComparisonSettings) -> str:
    by_chance = 100 * (1 - settings.level)
    return (
        f"The intervals hold {100 * settings.level:g} % of {settings.replicates} draws from the frames (seed "
        f"{settings.seed}). Runs of consecutive frames are drawn, since neighbouring frames are alike, and the same "
        "ones for both sides. An interval without zero means better or worse beyond chance. Of many classes, about "
        f"{by_chance:.2g} in a hundred have such an interval by chance. Times also depend on other work of the "
        "machine, which the intervals do not include."
    )


def _section(comparison: Comparison, compared: Compared, index: int, gates: list[GateResult]) -> dict[str, Any]:
    differences = list(compared.differences.values())
    shares = [each for each in differences if each.unit == "%" and not each.metric.startswith("iou.")]
    classes = [each for each in differences if each.metric.startswith("iou.")]
    return {
        "name": compared.name,
        "model": compared.report["model"]["name"],
        "summary": _summary(compared),
        "gates": [
            (result.gate.text, f"{result.value:+.2f}", "failed" if result.failed else "passed") for result in gates
        ],
        "metrics": _chart(f"metrics{index}", "Differences of the scores", shares),
        "classes": _chart(f"classes{index}", "Differences of IoU by class", classes),
        "rows": [_row(each) for each in differences],
        "timeline": _timeline(comparison, compared, index),
        "settings": _settings_that_differ(comparison.baseline, compared.report),
        "block": count_noun(compared.block, "frame"),
    }


def _summary(compared: Compared) -> str:
    if compared.same_labels:
        return "Every label of every frame is the same as the baseline's."
    sentences = []
    for name in ("miou", "mvc8", "mvc16"):
        each = compared.differences.get(name)
        if each is None:
            continue
        if each.verdict in ("better", "worse"):
            verdict = f"{each.verdict} beyond chance ({each.low:+.2f} to {each.high:+.2f})"
        elif each.low is None or each.high is None:
            verdict = "with too few frames for an interval"
        else:
            verdict = f"within chance ({each.low:+.2f} to {each.high:+.2f})"
        sentences.append(f"{each.title} {each.difference:+.2f} points, {verdict}")
    return (
        "; ".join(sentences) + "." if sentences else "There is no ground truth to compare with; see the steady pixels."
    )


def _chart(name: str, title: str, differences: list[Difference]) -> DrawnChart | None:
    if not differences:
        return None
    intervals = [Interval(each.title, each.difference, each.low, each.high, each.verdict) for each in differences]
    values = "; ".join(f"{each.name} {each.value:+.2f}" for each in intervals)
    return DrawnChart.of(
        name,
        lambda unique, width: forest(unique, f"{title}, percent points: {values}.", intervals, "percent points", width),
        HALF_PX,
    )


def _row(each: Difference) -> tuple[str, ...]:
    interval = "–" if each.low is None or each.high is None else f"{each.low:+.2f} to {each.high:+.2f}"
    values = (f"{each.baseline:.2f}", f"{each.value:.2f}", f"{each.difference:+.2f}", interval)
    return (f"{each.title}, {each.unit}", *values, each.verdict)


def _timeline(comparison: Comparison, compared: Compared, index: int) -> DrawnChart | None:
    times, axis_name = frame_times(comparison.baseline)
    strips = []
    for title, name in _SIDE_BY_SIDE:
        ours, theirs = (100 * column(each, name) for each in (comparison.baseline, compared.report))
        if not (ours != ours).all() and not (theirs != theirs).all():
            strips.append(Strip([Line(f"{title}: baseline", ours), Line("this", theirs)]))
    if not strips:
        return None
    return DrawnChart.of(
        f"time{index}",
        lambda name, width: timeline(name, "Both over time.", times, axis_name, strips, width),
        PAGE_PX,
    )


def _settings_that_differ(baseline: dict[str, Any], report: dict[str, Any]) -> list[tuple[str, str, str]]:
    def flat(each: dict[str, Any]) -> dict[str, str]:
        model = {"model": each["model"]["name"], "model's SHA-256": each["model"]["sha256"]}
        return {name: str(value) for name, value in {**model, **each["settings"], **each["versions"]}.items()}

    ours, theirs = flat(baseline), flat(report)
    names = [*ours, *(name for name in theirs if name not in ours)]
    pairs = [(name, ours.get(name, "–"), theirs.get(name, "–")) for name in names]
    return [pair for pair in pairs if pair[1] != pair[2]]
