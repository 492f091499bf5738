"""Where the package's files are looked for."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from sdcpc_ros.installation import share_folders


def test_the_source_tree_comes_first_then_workspaces_then_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("AMENT_PREFIX_PATH", os.pathsep.join([str(tmp_path / "overlay"), str(tmp_path / "underlay")]))
    folders = share_folders()
    installed = [
        Path(prefix) / "share" / "sdcpc_ros" for prefix in (tmp_path / "overlay", tmp_path / "underlay", sys.prefix)
    ]
    assert folders[-3:] == installed
    assert all((folder / "config" / "segment.yaml").is_file() for folder in folders[:-3])


def test_without_a_workspace_only_the_environment_is_left(monkeypatch):
    monkeypatch.delenv("AMENT_PREFIX_PATH", raising=False)
    assert share_folders()[-1] == Path(sys.prefix) / "share" / "sdcpc_ros"
    assert Path("share/sdcpc_ros") not in share_folders()
