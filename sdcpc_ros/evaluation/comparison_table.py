"""The table of a comparison on the terminal, with the intervals drawn as text."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from sdcpc_ros.evaluation.comparison import Compared, Comparison, Difference

_PLOT_LETTERS = 29  # odd: zero is in the middle
_PLOT_FROM = 110  #: letters on a line
_STYLES = {"better": "green", "worse": "red"}


def comparison_tables(comparison: Comparison, width: int) -> RenderableType:
    """A table for each report: scores, classes, times; with the plot if `width` letters are enough."""
    return Group(*(_table(comparison, each, plot=width >= _PLOT_FROM) for each in comparison.compared))


def interval_plot(difference: Difference, reach: float) -> str:
    """The interval as `  ├──●──┤ `, from -reach to +reach around a middle that is zero."""
    letters = ["·" if place == _PLOT_LETTERS // 2 else " " for place in range(_PLOT_LETTERS)]

    def place(value: float) -> int:
        share = max(-1.0, min(1.0, value / reach)) if reach else 0.0
        return round((share + 1) / 2 * (_PLOT_LETTERS - 1))

    if difference.low is not None and difference.high is not None:
        first, last = place(difference.low), place(difference.high)
        letters[first : last + 1] = "─" * (last - first + 1)
        letters[first], letters[last] = "├", "┤"
    letters[place(difference.difference)] = "●"
    return "".join(letters)


def _table(comparison: Comparison, compared: Compared, plot: bool) -> Table:
    settings = comparison.settings
    table = Table(
        title=f"{escape(compared.name)} against {escape(comparison.baseline_name)}",
        caption=f"{escape(comparison.baseline['bag']['name'])}, {comparison.frames} frames; {settings.level:.0%} "
        f"intervals by bootstrap, {settings.replicates} draws of runs of {compared.block} frames, seed {settings.seed}"
        + ("; every label is the same" if compared.same_labels else ""),
    )
    table.add_column("")
    for name in ("baseline", "this", "difference", "interval"):
        table.add_column(name, justify="right", no_wrap=True)
    if plot:
        table.add_column("worse ◂ zero ▸ better", no_wrap=True)
    table.add_column("")
    shares = [each for each in compared.differences.values() if each.unit == "%"]
    classes = [each for each in shares if each.metric.startswith("iou.")]
    others = [each for each in shares if not each.metric.startswith("iou.")]
    for group in (others, classes):
        reach = _reach(group)
        for each in group:
            _add(table, each, reach if plot else None)
        table.add_section()
    for each in compared.differences.values():
        if each.unit != "%":
            _add(table, each, _reach([each]) if plot else None)
    return table


def _add(table: Table, each: Difference, reach: float | None) -> None:
    interval = "–" if each.low is None or each.high is None else f"{each.low:+.2f} to {each.high:+.2f}"
    style = _STYLES.get(each.verdict, "")
    # The interval of a time is mirrored, so that better is always on the right.
    shown = each if each.better >= 0 else _mirrored(each)
    table.add_row(
        Text(f"{each.title} {each.unit}"),
        *(f"{each.baseline:.2f}", f"{each.value:.2f}", f"{each.difference:+.2f}", interval),
        *([] if reach is None else [Text(interval_plot(shown, reach), style)]),
        Text(each.verdict, style),
    )


def _mirrored(each: Difference) -> Difference:
    low, high = (None, None) if each.low is None or each.high is None else (-each.high, -each.low)
    return replace(each, baseline=each.value, value=each.baseline, low=low, high=high)


def _reach(differences: Iterable[Difference]) -> float:
    return max((abs(end) for each in differences for end in (each.low, each.high, each.difference) if end), default=1.0)
