"""Pages of results: verdicts, tables in Markdown, and charts."""

from __future__ import annotations

import datetime
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import torch
from matplotlib.figure import Figure

from benchmarks.measure import device_name


@dataclass(frozen=True)
class Verdict:
    """A rule, what was measured, and whether it held."""

    rule: str
    measured: str
    holds: bool


def provenance(command: str) -> str:
    """When, on what and by which command a page came about."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    day = datetime.date.today()
    return f"{day}, {device_name(device)}, {os.cpu_count()} processors; `{command}`; written by it."


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Its lines."""
    lines = [columns, ["---"] * len(columns), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def verdict_table(verdicts: Sequence[Verdict]) -> list[str]:
    """Lines of Markdown."""
    rows = [(v.rule, v.measured, "holds" if v.holds else "**broken**") for v in verdicts]
    return markdown_table(("rule", "measured", ""), rows)


def write_line_charts(path: Path, x: Sequence[float], charts: Mapping[str, Sequence[float]], x_name: str) -> None:
    """An SVG of one chart below the other, with values over `x`; values that are not finite leave gaps."""
    with mpl.rc_context({"svg.fonttype": "none"}):
        figure = Figure(figsize=(9, 2 * len(charts)), layout="constrained")
        axes = figure.subplots(len(charts), sharex=True, squeeze=False)[:, 0]
        for axis, (name, values) in zip(axes, charts.items()):
            axis.plot(x, values)
            axis.set_title(name, loc="left")
            axis.set_ylim(bottom=0)
            axis.grid(alpha=0.3)
        axes[-1].set_xlabel(x_name)
        figure.savefig(path, format="svg", metadata={"Date": None})
