"""Files and folders appear whole or not at all."""

from __future__ import annotations

from pathlib import Path

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
        with atomic_path(path) as temporary:
            temporary.mkdir()
            (temporary / name).touch()
    assert [file.name for file in path.iterdir()] == ["second"] and list(tmp_path.iterdir()) == [path]


def test_leftovers_of_a_killed_process_are_removed_and_nothing_else(tmp_path: Path) -> None:
    for name in (".bag.x1", ".bag.x2", ".bagger.x", "bag"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    remove_leftovers(tmp_path / "bag")
    assert sorted(file.name for file in tmp_path.iterdir()) == [".bagger.x", "bag"]
