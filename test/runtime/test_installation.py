"""Where the package's files are looked for."""

from __future__ import annotations

import os
from pathlib import Path

from sdcpc_ros.runtime import installation
from sdcpc_ros.runtime.installation import install_advice, share_folders


def pretend_to_be_in(monkeypatch, prefix: Path) -> None:
    packages = prefix / "lib" / "python3.12" / "site-packages"
    monkeypatch.setattr(installation, "__file__", str(packages / "sdcpc_ros" / "runtime" / "installation.py"))


def test_the_source_tree_comes_first():
    root = Path(__file__).resolve().parents[2]
    in_source = Path(installation.__file__).is_relative_to(root / "sdcpc_ros")
    assert (share_folders()[0] == root) == in_source


def test_workspaces_come_before_what_pip_installed(monkeypatch, tmp_path):
    pretend_to_be_in(monkeypatch, tmp_path / "venv")
    workspaces = [str(tmp_path / "overlay"), "", str(tmp_path / "underlay")]
    monkeypatch.setenv("AMENT_PREFIX_PATH", os.pathsep.join(workspaces))
    prefixes = [tmp_path / "overlay", tmp_path / "underlay", tmp_path / "venv"]
    assert share_folders() == [prefix / "share" / "sdcpc_ros" for prefix in prefixes]


def test_without_a_workspace_only_what_pip_installed_is_left(monkeypatch, tmp_path):
    pretend_to_be_in(monkeypatch, tmp_path / ".local")
    monkeypatch.delenv("AMENT_PREFIX_PATH", raising=False)
    assert share_folders() == [tmp_path / ".local" / "share" / "sdcpc_ros"]


def test_advice_is_for_what_installed_the_package(monkeypatch, tmp_path):
    pretend_to_be_in(monkeypatch, tmp_path)
    assert install_advice("av.container") == "python3 -m pip install 'sdcpc_ros[bags]'"
    assert install_advice("onnxruntime.capi") == "python3 -m pip install 'sdcpc_ros[onnx]'"
    marker = tmp_path / "share" / "ament_index" / "resource_index" / "packages" / "sdcpc_ros"
    marker.parent.mkdir(parents=True)
    marker.touch()
    assert install_advice("av.container") == "python3 -m pip install av"  # pip has never heard of what colcon built
    assert install_advice("torch") == "python3 -m pip install torch, or your board's wheels (JetPack)"
    assert install_advice("of_somebody_else") is None


def test_what_needs_numpy_2_does_not_come_beside_a_ros_of_numpy_1(monkeypatch, tmp_path):
    pretend_to_be_in(monkeypatch, tmp_path)
    marker = tmp_path / "share" / "ament_index" / "resource_index" / "packages" / "sdcpc_ros"
    for made_by, numpy, advice in (
        ("pip", "1.26.4", "python3 -m pip install 'sdcpc_ros[rerun]'"),
        ("colcon", "2.3.0", "python3 -m pip install 'rerun-sdk>=0.32,<0.35'"),
        ("colcon", "1.26.4", "python3 -m venv rerun && rerun/bin/pip install 'SOURCE[bags,rerun]'"),
    ):
        if made_by == "colcon":
            marker.parent.mkdir(parents=True, exist_ok=True)
            marker.touch()
        monkeypatch.setattr(installation.metadata, "version", {"numpy": numpy}.__getitem__)
        assert install_advice("rerun").startswith(advice)


def test_where_apt_manages_python_a_virtual_environment_comes_first(monkeypatch, tmp_path):
    monkeypatch.setattr(installation.sysconfig, "get_path", lambda name: str(tmp_path))
    (tmp_path / "EXTERNALLY-MANAGED").touch()
    assert install_advice("safetensors") == "python3 -m pip install safetensors"  # the tests run in one
    monkeypatch.setattr(installation.sys, "prefix", installation.sys.base_prefix)
    assert install_advice("safetensors") == (
        "python3 -m venv --system-site-packages .venv && source .venv/bin/activate && "
        "python3 -m pip install safetensors"
    )
