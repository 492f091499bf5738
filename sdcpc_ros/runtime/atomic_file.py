"""Atomic writes: a file or folder appears under its name when it is complete, or not at all."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory


@contextmanager
def atomic_path(path: str | Path, *, folder: bool = False) -> Iterator[Path]:
    """Yields a path to write a file, or a folder, to, which replaces `path` if the block ends without an exception.

    The temporary path has the name of `path`, in a hidden folder beside it. A device, such as /dev/stdout, is written
    to directly. Raises OSError, and IsADirectoryError at once if a file would replace a folder.
    """
    path = Path(path)
    if path.is_dir() and not folder:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if path.exists() and (path.parent == Path("/dev") or not (path.is_file() or folder)):
        yield path
        return
    try:
        with TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent, ignore_cleanup_errors=True) as beside:
            temporary = Path(beside) / path.name
            yield temporary
            if path.is_dir() and not path.is_symlink():
                path.rename(Path(beside) / f"{path.name}.replaced")  # deleted when the new folder is there
            temporary.replace(path)
    except KeyboardInterrupt:  # it may have come while the temporary folder was made or deleted
        remove_leftovers(path)
        raise


def remove_leftovers(path: Path) -> None:
    """Removes what a killed process has left of its writes to `path`."""
    for folder in path.parent.glob(f".{path.name}.*"):
        shutil.rmtree(folder, ignore_errors=True)
