"""The table of a comparison on the terminal, with the intervals drawn as text."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from sdcpc_ros.evaluation.comparison import Compared, Comparison, plot_groups

_PLOT_LETTERS = 29  # odd: zero is in the middle
_PLOT_FROM = 110  #: letters on a line
_STYLES = {"better": "green", "worse": "red"}


def comparison_tables(comparison: Comparison, width: int) -> RenderableType:
    """A table for each report: scores, classes, times; with the plot if `width` letters are enough."""
    return Group(*(_table(comparison, each, plot=width >= _PLOT_FROM) for each in comparison.compared))


def interval_plot(low: float, value: float, high: float) -> str:
    """An interval as `  ├──●──┤ `, from -1 to 1 around a middle that is zero."""
    letters = ["·" if place == _PLOT_LETTERS // 2 else " " for place in range(_PLOT_LETTERS)]
    first, at, last = (round((end + 1) / 2 * (_PLOT_LETTERS - 1)) for end in (low, value, high))
    if low < high:
        letters[first : last + 1] = "─" * (last - first + 1)
        letters[first], letters[last] = "├", "┤"
    letters[at] = "●"
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
    for group in plot_groups(compared.differences.values()):
        for each, positions in group:
            style = _STYLES.get(each.verdict, "")
            table.add_row(
                Text(f"{each.title} {each.unit}"),
                *(f"{each.baseline:.2f}", f"{each.value:.2f}", f"{each.difference:+.2f}", each.interval),
                *([Text(interval_plot(*positions), style)] if plot else []),
                Text(each.verdict, style),
            )
        table.add_section()
    return table
