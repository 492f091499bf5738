"""Words for numbers and errors."""

from __future__ import annotations


def count_noun(count: int, noun: str, plural: str | None = None) -> str:
    """`1 frame`, `12 frames`."""
    return f"{count} {noun if count == 1 else plural or noun + 's'}"


def error_sentence(error: Exception) -> str:
    """The text of an error; of an operating system's error without its number."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: '{error.filename}'" if error.filename else error.strerror
    return str(error)
