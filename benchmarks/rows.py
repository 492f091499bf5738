"""Rows of the tables: one comparison each, as JSON and as rich shows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.markup import escape
from rich.table import Table


@dataclass(frozen=True)
class Row:
    """One comparison: ours against a peer, in the same run.

    A row without a ratio was not measured; `note` says why.
    """

    name: str
    ours_ms: float | None = None  #: median
    peer_ms: float | None = None  #: median
    ratio: float | None = None  #: ours / peer, the median over rounds; below 1 is better
    low: float | None = None  #: 10th percentile of the ratio over rounds
    high: float | None = None  #: 90th percentile
    target: float | None = None  #: the ratio is to be at most this
    ours_mib: float | None = None  #: peak memory beyond the inputs, MiB
    peer_mib: float | None = None
    ours_gflop: float | None = None  #: arithmetic that ours has to do, 10^9 operations, a multiply-add being two
    peer_gflop: float | None = None
    ours_mb: float | None = None  #: bytes that ours has to move at least once, 10^6: inputs, weights and outputs
    peer_mb: float | None = None
    note: str = ""

    @property
    def verdict(self) -> str:
        """`holds` or `missed`, where there is a target and a ratio."""
        if self.target is None or self.ratio is None:
            return ""
        return "holds" if self.ratio <= self.target else "missed"

    def cells(self) -> list[tuple[str, str]]:
        """(heading, text) of every column, in order; empty where this row has nothing to say."""
        spread = "" if self.low is None or self.high is None else f"{short(self.low)}..{short(self.high)}"
        target = "" if self.target is None else f"{short(self.target)} {self.verdict}".rstrip()
        sides = {unit: (getattr(self, f"ours_{unit}"), getattr(self, f"peer_{unit}")) for unit in _PAIRS.values()}
        return [
            (NAME, self.name),
            ("ratio", short(self.ratio)),
            ("low..high", spread),
            ("target", target),
            *((heading, _pair(*sides[unit])) for heading, unit in _PAIRS.items()),
            (NOTE, self.note),
        ]

    def to_json(self, question: str, device: str, command: str) -> dict[str, Any]:
        return {
            "question": question,
            **{name: _rounded(value) for name, value in asdict(self).items()},
            "verdict": self.verdict,
            "device": device,
            "command": command,
        }


NAME, NOTE = "ours / peer", "note"  # columns of words
#: Figures that are shown side by side, ours / peer.
_PAIRS = {"ms": "ms", "peak MiB": "mib", "GFLOP": "gflop", "MB": "mb"}


def filled_columns(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Headings, and the cells of each row under them; columns that no row fills are left out."""
    cells = [row.cells() for row in rows]
    used = [column for column in range(len(cells[0])) if any(row[column][1] for row in cells)]
    return [cells[0][column][0] for column in used], [[row[column][1] for column in used] for row in cells]


def to_table(title: str, rows: Sequence[Row]) -> Table:
    """All rows of a question, at least one."""
    table = Table(title=title, title_justify="left", title_style="bold")
    headings, lines = filled_columns(rows)
    for heading in headings:
        if heading in (NAME, NOTE):
            table.add_column(heading, overflow="fold", min_width=32 if heading == NAME else 16)
        else:
            table.add_column(heading, justify="right", no_wrap=True)
    for row, line in zip(rows, lines):
        table.add_row(*map(escape, line), style={"holds": "green", "missed": "red"}.get(row.verdict))
    return table


def _pair(ours: float | None, peer: float | None) -> str:
    return "" if ours is None and peer is None else f"{short(ours) or '-'} / {short(peer) or '-'}"


def short(value: float | None) -> str:
    """Three figures; nothing of nothing."""
    if value is None:
        return ""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _rounded(value: Any) -> Any:
    return float(f"{value:.5g}") if isinstance(value, float) else value
