"""Git LFS pointers: the short text files that stand in a checkout for large files that were not fetched."""

from __future__ import annotations

from pathlib import Path

_BEGINNING = b"version https://git-lfs.github.com/spec/"


def is_pointer(content: bytes) -> bool:
    """Whether these bytes, or the first 40 of them at least, are those of a pointer."""
    return content.startswith(_BEGINNING)


def pointer_reason(path: str | Path) -> str | None:
    """A clause that says that a file is a pointer and how to get the file itself; None if it is none, or no file."""
    try:
        with Path(path).open("rb") as file:
            content = file.read(len(_BEGINNING))
    except OSError:
        return None
    return "it is a Git LFS pointer, not the file itself; `git lfs pull` fetches it" if is_pointer(content) else None
