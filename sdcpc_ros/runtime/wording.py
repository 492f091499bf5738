"""Words that depend on a number."""

from __future__ import annotations


def count_noun(count: int, noun: str, plural: str | None = None) -> str:
    """`1 frame`, `12 frames`."""
    return f"{count} {noun if count == 1 else plural or noun + 's'}"
