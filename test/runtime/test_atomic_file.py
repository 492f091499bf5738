"""Files and folders appear whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from sdcpc_ros.runtime.atomic_file import atomic_path, remove_leftovers


def test_a_file_is_replaced_only_when_the_block_ends_well(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    with atomic_path(path) as temporary:
        temporary.write_text("one")
        assert not path.exists() and temporary.name == path.name
    with pytest.raises(KeyboardInterrupt), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "one" and list(tmp_path.iterdir()) == [path]


def test_a_folder_replaces_a_folder(tmp_path: Path) -> None:
    path = tmp_path / "bag"
    for name in ("first", "second"):
        with atomic_path(path, folder=True) as temporary:
            temporary.mkdir()
            (temporary / name).touch()
    assert [file.name for file in path.iterdir()] == ["second"] and list(tmp_path.iterdir()) == [path]


def test_a_file_never_replaces_a_folder(tmp_path: Path) -> None:
    path = tmp_path / "results"
    path.mkdir()
    (path / "thesis.txt").touch()
    with pytest.raises(IsADirectoryError, match="Is a directory"), atomic_path(path):
        raise AssertionError("refused before anything is written")
    assert [file.name for file in path.iterdir()] == ["thesis.txt"]


def test_an_interrupted_write_leaves_the_folder_that_was_there(tmp_path: Path) -> None:
    path = tmp_path / "bag"
    path.mkdir()
    (path / "first").touch()
    with pytest.raises(KeyboardInterrupt), atomic_path(path, folder=True) as temporary:
        temporary.mkdir()
        raise KeyboardInterrupt
    assert [file.name for file in path.iterdir()] == ["first"] and list(tmp_path.iterdir()) == [path]


def test_an_interrupt_in_the_clean_up_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(TemporaryDirectory, "cleanup", interrupt)
        with atomic_path(tmp_path / "a.png") as temporary:
            temporary.write_text("whole")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("a.png", "whole")]


def test_a_device_is_written_to_and_stays_one(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with atomic_path(pipe) as temporary:
        temporary.write_text("report")
    assert os.read(reader, 100) == b"report" and pipe.is_fifo()
    os.close(reader)


def test_leftovers_of_a_killed_process_are_removed_and_nothing_else(tmp_path: Path) -> None:
    for name in (".bag.x1", ".bag.x2", ".bagger.x", "bag"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    remove_leftovers(tmp_path / "bag")
    assert sorted(file.name for file in tmp_path.iterdir()) == [".bagger.x", "bag"]
