"""The page of a comparison, and its tables on the terminal with the intervals drawn as text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from sdcpc_ros.evaluation.comparison import Comparison, GateResult, plot_groups
from sdcpc_ros.evaluation.html_report import configuration
from sdcpc_ros.evaluation.pages.rendering import write_page
from sdcpc_ros.evaluation.pages.timeline import Strip, frame_times, timeline
from sdcpc_ros.evaluation.report_file import column
from sdcpc_ros.runtime.wording import count_noun

_PLOT_LETTERS = 29  # odd: zero is in the middle
_PLOT_FROM = 110  #: letters on a line
_STYLES = {"better": "green", "worse": "red"}
_SIDE_BY_SIDE = {"miou": "Mean IoU", "mvc8": "mVC8", "steady": "Steady pixels", "confidence": "Confidence"}


def write_comparison(
    path: str | Path, comparisons: Sequence[Comparison], gates: Sequence[GateResult], command: str = ""
) -> None:
    """Writes the page of comparisons with one baseline, and their gates; `command` reproduces it."""
    compared = [_values(each, [gate for gate in gates if gate.report == each.name]) for each in comparisons]
    write_page(path, "comparison.html.jinja", first=comparisons[0], compared=compared, command=command)


def _values(compared: Comparison, gates: Sequence[GateResult]) -> dict[str, Any]:
    """A comparison for templates/comparison.html.jinja."""
    baseline, report = compared.baseline, compared.report
    strips = [
        Strip({f"{title}: baseline": 100 * column(baseline, name), "this": 100 * column(report, name)})
        for name, title in _SIDE_BY_SIDE.items()
    ]
    ours, theirs = ({**configuration(each), **each["versions"]} for each in (baseline, report))
    pairs = [(name, ours.get(name, "–"), theirs.get(name, "–")) for name in dict.fromkeys([*ours, *theirs])]
    return {
        "name": compared.name,
        "model": report["model"]["name"],
        "same_labels": compared.same_labels,
        "block": compared.block,
        "headline": [compared.differences[name] for name in ("miou", "mvc8", "mvc16") if name in compared.differences],
        "gates": [(each.gate.text, f"{each.value:+.2f}", "failed" if each.failed else "passed") for each in gates],
        "groups": plot_groups(compared.differences.values()),
        "chart": timeline(*frame_times(baseline), strips),
        "different": [pair for pair in pairs if pair[1] != pair[2]],
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
        caption=f"{escape(baseline['bag']['name'])}, {count_noun(len(baseline['frames']['number']), 'frame')}; "
        f"{settings.level:.0%} "
        f"intervals by bootstrap, {settings.replicates} draws of runs of {count_noun(comparison.block, 'frame')}, "
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
