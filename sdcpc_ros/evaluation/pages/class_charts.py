"""Charts about classes: IoU bars, and the confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.patches import Rectangle

from sdcpc_ros.evaluation.pages.numbers import percent
from sdcpc_ros.evaluation.pages.svg import ACCENT, CARD, INK, LINE, NAME_LETTERS, Chart, shorten

_ROW_PX = 26
_CENTRED: dict[str, Any] = {"ha": "center", "va": "center_baseline"}
_LEAST_SHARE_DRAWN = 0.002  # of a row of the confusion matrix
_MOST_NUMBERED = 19  # classes: with more, the cells are too small to write in


@dataclass(frozen=True)
class Bar:
    """A class with its value in 0..1."""

    name: str
    colour: tuple[int, int, int]
    value: float
    note: str  #: tooltip


def class_bars(name: str, description: str, bars: Sequence[Bar], width: float) -> Markup:
    """Horizontal bars from 0 to 100 %, in the order given, each behind a swatch of its class's colour."""
    longest = max((len(shorten(bar.name)) for bar in bars), default=0)
    name_width = min(7.2 * longest + 6, width * 0.36)
    height = _ROW_PX * len(bars) + 4
    with Chart(name, description, width, height) as chart:
        axes = chart.axes(0, 0, width, height)
        axes.set(xlim=(0, width), ylim=(height, 0))
        axes.axis("off")
        left, right = name_width + 26, width - 46
        for index, bar in enumerate(bars):
            middle = index * _ROW_PX + _ROW_PX / 2 + 2
            swatch = tuple(value / 255 for value in bar.colour)
            axes.add_artist(Rectangle((name_width + 6, middle - 6), 12, 12, facecolor=swatch, edgecolor=LINE))
            axes.text(name_width - 2, middle, shorten(bar.name), ha="right", va="center_baseline")
            axes.add_artist(Rectangle((left, middle - 6), right - left, 12, facecolor=LINE, edgecolor="none"))
            length = max(0.0, min(1.0, bar.value)) * (right - left)
            filled = axes.add_artist(Rectangle((left, middle - 6), length, 12, facecolor=ACCENT, edgecolor="none"))
            axes.text(width, middle, f"{100 * bar.value:.1f}", ha="right", va="center_baseline")
            # The tooltip covers the whole row.
            row = axes.add_artist(Rectangle((0, middle - _ROW_PX / 2), width, _ROW_PX, facecolor=LINE, alpha=0))
            chart.tip(row, bar.note)
            filled.set_zorder(2)
        return chart.svg()


def confusion_chart(
    name: str, class_names: Sequence[str], matrix: np.ndarray, unlabelled: np.ndarray, width: float
) -> Markup:
    """Each true class's pixels (a row) by the class they were given, in shares of the row; rows without pixels are left
    out. A last column holds those left unlabelled, where there are any. `matrix` (C, C), `unlabelled` (C,): pixels."""
    counts, columns = matrix, list(class_names)
    if unlabelled.any():
        counts, columns = np.column_stack([matrix, unlabelled]), [*columns, "no label"]
    rows = np.flatnonzero(counts.sum(axis=1))
    shares = counts[rows] / counts[rows].sum(axis=1, keepdims=True)
    letters = 9 if width < 500 else NAME_LETTERS
    longest = max((min(letters, len(each)) for each in columns), default=1)
    size = 10.0 if width < 500 else 12.0
    margin = longest * size * 0.62 + 10
    cell = min(64.0, (width - margin - 2) / len(columns))
    if cell < 9:  # more classes than there is room for names at the top
        size = max(3.0, cell * 0.8)
    numbered = len(columns) <= _MOST_NUMBERED
    height = margin + 8 + cell * len(rows)
    with Chart(name, "Confusion matrix, each row in shares of a true class's pixels.", width, height) as chart:
        axes = chart.axes(0, 0, width, height)
        axes.set(xlim=(0, width), ylim=(height, 0))
        axes.axis("off")
        for column, text in enumerate(columns):
            x = margin + (column + 0.5) * cell
            axes.text(x, margin - 4, shorten(text, letters), rotation=90, ha="center", va="bottom", size=size)
        for line, true_class in enumerate(rows.tolist()):
            top = margin + line * cell
            text = shorten(class_names[true_class], letters)
            axes.text(margin - 6, top + cell / 2, text, ha="right", va="center_baseline", size=size)
            for column in np.flatnonzero(shares[line] >= _LEAST_SHARE_DRAWN).tolist():
                share, x = float(shares[line, column]), margin + column * cell
                # Alpha grows faster than the share, so that 5 % are visible.
                patch = Rectangle((x, top), cell, cell, facecolor=ACCENT, edgecolor="none", alpha=share**0.6)
                axes.add_artist(patch)
                chart.tip(patch, f"{class_names[true_class]} taken for {columns[column]}: {percent(share)}")
                if numbered and share >= 0.01:
                    colour = CARD if share > 0.45 else INK
                    middle, size = (x + cell / 2, top + cell / 2), min(12.0, cell * 0.42)
                    number = axes.text(*middle, f"{100 * share:.0f}", color=colour, size=size, **_CENTRED)
                    chart.tip(number, f"{class_names[true_class]} taken for {columns[column]}: {percent(share)}")
        grid = [margin + column * cell for column in range(len(columns) + 1)]
        axes.vlines(grid, margin, margin + cell * len(rows), colors=LINE, linewidth=0.7)
        lines = [margin + line * cell for line in range(len(rows) + 1)]
        axes.hlines(lines, margin, grid[-1], colors=LINE, linewidth=0.7)
        return chart.svg()


def largest_confusions(class_names: Sequence[str], matrix: np.ndarray, count: int = 5) -> list[dict[str, Any]]:
    """The pairs of classes most mixed up: {truth, given, share of the true class's pixels}, the largest first."""
    totals = matrix.sum(axis=1, keepdims=True)
    shares = np.divide(matrix, totals, out=np.zeros(matrix.shape), where=totals > 0)
    np.fill_diagonal(shares, 0)
    order = np.argsort(-shares, axis=None, kind="stable")[:count]
    pairs = [divmod(int(flat), len(class_names)) for flat in order]
    return [
        {"truth": class_names[row], "given": class_names[column], "share": float(shares[row, column])}
        for row, column in pairs
        if shares[row, column] > 0
    ]
