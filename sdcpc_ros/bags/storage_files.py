"""Finds and checks a bag's files before rosbags opens them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from sdcpc_ros.bags.errors import BagError
from sdcpc_ros.runtime.git_lfs import pointer_reason

_MCAP_MAGIC = b"\x89MCAP0\r\n"
STORAGE_SUFFIXES = (".mcap", ".db3")


def storage_of(path: Path) -> list[Path]:
    """The paths to open with rosbags. Raises BagError for the usual mistakes, with a clearer text than rosbags.

    A folder of mcap files needs no metadata.yaml, since each file describes itself.
    """
    if not path.exists():
        raise BagError(f"there is no bag at '{path}'")
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in STORAGE_SUFFIXES)
        _refuse_unreadable([path / "metadata.yaml", *files])
        if not (path / "metadata.yaml").is_file():
            if files and all(file.suffix == ".mcap" for file in files):
                return files
            hint = "`ros2 bag reindex` writes it again" if files else "and no .mcap or .db3 file either"
            raise BagError(f"'{path}' is no rosbag2 bag: the folder has no metadata.yaml ({hint})")
    elif path.suffix == ".bag":
        raise BagError(f"'{path}' is a ROS 1 bag; `rosbags-convert --src {path.name} --dst ...` makes a rosbag2 of it")
    elif path.suffix not in STORAGE_SUFFIXES:
        raise BagError(f"'{path}' is no rosbag2 bag: a folder with metadata.yaml, a .mcap or a .db3 file is needed")
    elif path.stat().st_size == 0:
        raise BagError(f"bag '{path}' is an empty file")
    else:
        _refuse_unreadable([path])
    return [path]


def _refuse_unreadable(files: Iterable[Path]) -> None:
    for file in files:
        reason = pointer_reason(file) or _unmerged_reason(file)
        if reason is not None:
            raise BagError(f"'{file}' cannot be read: {reason}")


def _unmerged_reason(file: Path) -> str | None:
    """Why a sqlite3 file is incomplete without the log beside it, which rosbags does not read; None if it is whole."""
    for log in (file.with_name(f"{file.name}-wal"), file.with_name(f"{file.name}-journal")):
        if log.is_file():
            with log.open("rb") as stream:
                if stream.read(1) not in (b"", b"\0"):  # SQLite empties a log, or its header, when it is merged
                    return (
                        f"{log.name} holds a part of the recording, as when a recorder is killed "
                        f"(`sqlite3 {file} .tables` merges the two)"
                    )
    return None


def cut_short_file(path: Path) -> Path | None:
    """The mcap file of a bag without the end of an mcap file, if any."""
    for file in sorted(path.glob("*.mcap")) if path.is_dir() else [path]:
        if file.suffix == ".mcap" and file.is_file():
            with file.open("rb") as stream:
                start = stream.read(len(_MCAP_MAGIC))
                stream.seek(max(0, file.stat().st_size - len(_MCAP_MAGIC)))
                if start == _MCAP_MAGIC and stream.read() != _MCAP_MAGIC:
                    return file
    return None
