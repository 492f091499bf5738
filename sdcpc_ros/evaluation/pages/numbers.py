"""Formats numbers."""

from __future__ import annotations

_NARROW_GAP = "\u202f"  # a narrow space without a line break


def percent(share: float | None, digits: int = 1) -> str:
    """A share in 0..1 as `43.2 %`; a dash where there is none."""
    return "–" if share is None else f"{100 * share:.{digits}f}{_NARROW_GAP}%"


def milliseconds(value: float | None) -> str:
    """Three digits at the most."""
    return "–" if value is None else f"{value:.{0 if abs(value) >= 100 else 1}f}{_NARROW_GAP}ms"


def seconds(value: float) -> str:
    """`9.9 s`, `12 min 30 s`, `2 h 05 min`."""
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def count_noun(count: int, noun: str, plural: str | None = None) -> str:
    """`1 frame`, `12 frames`."""
    return f"{count} {noun if count == 1 else plural or noun + 's'}"
