"""Atomic writes: a file or folder appears under its name when it is complete, or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yields a path to write a file or folder to, which replaces `path` if the block ends without an exception.

    The temporary path has the name of `path`, in a hidden folder beside it. Raises OSError.
    """
    path = Path(path)
    with TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent, ignore_cleanup_errors=True) as folder:
        temporary = Path(folder) / path.name
        yield temporary
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        temporary.replace(path)


def remove_leftovers(path: Path) -> None:
    """Removes what a killed process has left of its writes to `path`."""
    for folder in path.parent.glob(f".{path.name}.*"):
        shutil.rmtree(folder, ignore_errors=True)
