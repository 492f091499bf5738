"""The page of a comparison, and its tables on the terminal with the intervals drawn as text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from sdcpc_ros.evaluation.comparison import Comparison, ComparisonSettings, Difference, GateResult, plot_groups
from sdcpc_ros.evaluation.html_report import configuration
from sdcpc_ros.evaluation.pages.rendering import Section, count_noun, footer_of, write_page
from sdcpc_ros.evaluation.pages.timeline import Strip, frame_times, timeline, with_values
from sdcpc_ros.evaluation.report_file import column

_PLOT_LETTERS = 29  # odd: zero is in the middle
_PLOT_FROM = 110  #: letters on a line
_STYLES = {"better": "green", "worse": "red"}
_SIDE_BY_SIDE = {"miou": "Mean IoU", "mvc8": "mVC8", "steady": "Steady pixels", "confidence": "Confidence"}


def write_comparison(
    path: str | Path, comparisons: Sequence[Comparison], gates: Sequence[GateResult], command: str = ""
) -> None:
    """Writes the page of comparisons with one baseline, and their gates; `command` reproduces it."""
    baseline = comparisons[0].baseline
    sections = []
    for each in comparisons:
        sections += _sections(each, [gate for gate in gates if gate.report == each.name])
    how = [("text", _method(comparisons[0].settings)), *([("code", command)] if command else [])]
    write_page(
        path,
        title=f"{baseline['bag']['name']}: comparison",
        kind="Comparison on a recording",
        name=baseline["bag"]["name"],
        facts=[
            ("camera", baseline["bag"]["camera"]),
            ("frames", str(len(baseline["frames"]["number"]))),
            ("baseline", f"{comparisons[0].baseline_name} ({baseline['model']['name']})"),
            ("ground truth", baseline["bag"]["truth"]),
        ],
        sections=[*sections, Section("How to read this", parts=how)],
        footer=footer_of({"versions": baseline["versions"]}),
    )


def _method(settings: ComparisonSettings) -> str:
    by_chance = 100 * (1 - settings.level)
    return (
        f"The intervals hold {100 * settings.level:g} % of {settings.replicates} draws from the frames (seed "
        f"{settings.seed}). Runs of consecutive frames are drawn, since neighbouring frames are alike, and the same "
        "ones for both sides. An interval without zero means better or worse beyond chance. Of many classes, about "
        f"{by_chance:.2g} in a hundred have such an interval by chance. Times also depend on other work of the "
        "machine, which the intervals do not include."
    )


def _sections(compared: Comparison, gates: list[GateResult]) -> list[Section]:
    baseline, model = compared.baseline, compared.report["model"]["name"]
    title = f"{compared.name} ({model}) against the baseline"
    sections = [Section(title, parts=[("lead", _summary(compared))], bare=True)]
    if gates:
        rows = [(each.gate.text, f"{each.value:+.2f}", "failed" if each.failed else "passed") for each in gates]
        table = {"head": ["condition that must not be met", "value", ""], "rows": rows}
        sections.append(Section("Gates", parts=[("grid", table)]))
    meaning = (
        "Bars are the intervals of the differences, on a scale of their own for scores, classes and times. Right of "
        f"zero is better. Drawn in runs of {count_noun(compared.block, 'frame')}."
    )
    differences = [
        _row(each, positions, begins_group=index == 0)
        for group in plot_groups(compared.differences.values())
        for index, (each, positions) in enumerate(group)
    ]
    sections.append(Section("Differences from the baseline", meaning, [("differences", differences)]))
    strips = [
        Strip({f"{title}: baseline": 100 * column(baseline, name), "this": 100 * column(compared.report, name)})
        for name, title in _SIDE_BY_SIDE.items()
    ]
    if strips := with_values(strips):
        chart = timeline(*frame_times(baseline), strips)
        sections.append(Section("Over time", "Both on the same frames.", [("timeline", chart)]))
    ours, theirs = ({**configuration(each), **each["versions"]} for each in (baseline, compared.report))
    pairs = [(name, ours.get(name, "–"), theirs.get(name, "–")) for name in dict.fromkeys([*ours, *theirs])]
    if different := [pair for pair in pairs if pair[1] != pair[2]]:
        table = {"head": ["", "baseline", "this"], "rows": different}
        sections.append(Section("What is set differently", parts=[("grid", table)]))
    return sections


def _summary(compared: Comparison) -> str:
    if compared.same_labels:
        return "Every label of every frame is the same as the baseline's."
    found = [compared.differences[name] for name in ("miou", "mvc8", "mvc16") if name in compared.differences]
    if not found:
        return "There is no ground truth to compare with; see the steady pixels."
    each_in_words = [
        f"{each.metric.title} {each.difference:+.2f} points ({each.interval}), "
        + (f"{each.verdict} beyond chance" if each.verdict in ("better", "worse") else each.verdict)
        for each in found
    ]
    return "; ".join(each_in_words) + "."


def _row(each: Difference, positions: tuple[float, ...], *, begins_group: bool) -> dict[str, Any]:
    left, at, right = (50 * (1 + position) for position in positions)
    return {
        "name": f"{each.metric.title}, {each.metric.unit}",
        "note": f"{each.metric.title}: {each.difference:+.2f}, {each.interval}, {each.verdict}",
        "cells": (*each.numbers, each.verdict),
        "left": f"{left:.2f}",
        "at": f"{at:.2f}",
        "width": f"{right - left:.2f}",
        "begins_group": begins_group,
    }


def interval_plot(low: float, value: float, high: float) -> str:
    """An interval as `  ├──●──┤ `, from -1 to 1 around a middle that is zero."""
    letters = ["·" if place == _PLOT_LETTERS // 2 else " " for place in range(_PLOT_LETTERS)]
    first, at, last = (round((end + 1) / 2 * (_PLOT_LETTERS - 1)) for end in (low, value, high))
    if low < high:
        letters[first : last + 1] = "─" * (last - first + 1)
        letters[first], letters[last] = "├", "┤"
    letters[at] = "●"
    return "".join(letters)


def comparison_table(comparison: Comparison, width: int) -> Table:
    """Scores, classes and times; with a plot if `width` letters are enough."""
    settings, baseline, plot = comparison.settings, comparison.baseline, width >= _PLOT_FROM
    table = Table(
        title=f"{escape(comparison.name)} against {escape(comparison.baseline_name)}",
        caption=f"{escape(baseline['bag']['name'])}, {len(baseline['frames']['number'])} frames; {settings.level:.0%} "
        f"intervals by bootstrap, {settings.replicates} draws of runs of {comparison.block} frames, "
        f"seed {settings.seed}" + ("; every label is the same" if comparison.same_labels else ""),
    )
    table.add_column("")
    for name in ("baseline", "this", "difference", "interval"):
        table.add_column(name, justify="right", no_wrap=True)
    if plot:
        table.add_column("worse ◂ zero ▸ better", no_wrap=True)
    table.add_column("")
    for group in plot_groups(comparison.differences.values()):
        for each, positions in group:
            style = _STYLES.get(each.verdict, "")
            table.add_row(
                Text(f"{each.metric.title} {each.metric.unit}"),
                *each.numbers,
                *([Text(interval_plot(*positions), style)] if plot else []),
                Text(each.verdict, style),
            )
        table.add_section()
    return table
