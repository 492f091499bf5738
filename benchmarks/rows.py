"""Rows of the tables: one comparison each, as JSON and as rich shows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

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
        """`met` or `missed`, where there is a target and a ratio."""
        if self.target is None or self.ratio is None:
            return ""
        return "met" if self.ratio <= self.target else "missed"

    def to_json(self, question: str, device: str, command: str) -> dict[str, Any]:
        return {
            "question": question,
            **{name: _rounded(value) for name, value in asdict(self).items()},
            "verdict": self.verdict,
            "device": device,
            "command": command,
        }


#: Figures that are shown side by side, ours / peer.
_PAIRS = {"ms": "ms", "peak MiB": "mib", "GFLOP": "gflop", "MB": "mb"}


def to_table(title: str, rows: Sequence[Row]) -> Table:
    """All rows of a question; columns that no row fills are left out."""
    pairs = {
        heading: [(getattr(row, f"ours_{unit}"), getattr(row, f"peer_{unit}")) for row in rows]
        for heading, unit in _PAIRS.items()
    }
    pairs = {heading: values for heading, values in pairs.items() if any(value != (None, None) for value in values)}
    notes = any(row.note for row in rows)
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("ours / peer", overflow="fold", min_width=32)
    for heading in ("ratio", "low..high", "target", *pairs):
        table.add_column(heading, justify="right", no_wrap=True)
    if notes:
        table.add_column("note", overflow="fold", min_width=16)
    for number, row in enumerate(rows):
        spread = "" if row.low is None or row.high is None else f"{_short(row.low)}..{_short(row.high)}"
        target = "" if row.target is None else f"{_short(row.target)} {row.verdict}"
        cells = [row.name, _short(row.ratio), spread, target]
        cells += [_pair(*values[number]) for values in pairs.values()]
        style = {"met": "green", "missed": "red"}.get(row.verdict)
        table.add_row(*cells, *([row.note] if notes else []), style=style)
    return table


def _pair(ours: float | None, peer: float | None) -> str:
    return "" if ours is None and peer is None else f"{_short(ours) or '-'} / {_short(peer) or '-'}"


def _short(value: float | None) -> str:
    """Three figures."""
    if value is None:
        return ""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _rounded(value: Any) -> Any:
    return float(f"{value:.5g}") if isinstance(value, float) else value
