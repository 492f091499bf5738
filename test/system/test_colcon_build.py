"""The package as colcon builds it, against the ROS of this environment."""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path

import build_package
import pytest

from sdcpc_ros.labels.label_set import CAMVID_11

ROOT = build_package.ROOT
PYTHON_FOLDER = f"lib/python{sysconfig.get_python_version()}/site-packages"

pytestmark = pytest.mark.timeout(600)


def test_the_python_package_and_its_messages_are_one(installed: Path, sourced) -> None:
    code = """
import sdcpc_ros, sdcpc_ros.nodes.segmentation_node
from rclpy.serialization import deserialize_message, serialize_message
from sdcpc_ros.msg import ClassStatistics
sent = ClassStatistics(class_ids=[3, 8], pixel_share=[0.75, 0.25], mean_confidence=[1.0, 0.5])
received = deserialize_message(serialize_message(sent), ClassStatistics)
print(sdcpc_ros.__file__, received == sent)
"""
    printed = sourced.run(sys.executable, "-c", code)
    assert printed.split() == [str(installed / PYTHON_FOLDER / "sdcpc_ros" / "__init__.py"), "True"]


def test_every_module_and_shared_file_is_installed(installed: Path) -> None:
    modules = {path.relative_to(ROOT) for path in (ROOT / "sdcpc_ros").rglob("*.py")}
    assert not {module for module in modules if not (installed / PYTHON_FOLDER / module).is_file()}
    shared = [path for folder in ("config", "launch", "models") for path in (ROOT / folder).rglob("*.*")]
    wanted = {path.relative_to(ROOT) for path in shared if "__pycache__" not in path.parts}
    assert not {path for path in wanted if not (installed / "share" / "sdcpc_ros" / path).is_file()}


def test_the_executables_are_where_ros2_run_looks(installed: Path, sourced) -> None:
    executables = installed / "lib" / "sdcpc_ros"
    scripts = {path.name for path in (ROOT / "scripts").iterdir()}
    assert {path.name for path in executables.iterdir() if os.access(path, os.X_OK)} == scripts
    assert sourced.run(sys.executable, str(executables / "sdcpc"), "--help").startswith("usage: sdcpc")


def test_the_command_is_on_the_path_once_the_workspace_is_sourced(installed: Path, sourced) -> None:
    assert sourced.run("bash", "-c", "command -v sdcpc").strip() == str(installed / "bin" / "sdcpc")
    assert sourced.run(sys.executable, str(installed / "bin" / "sdcpc"), "--help").startswith("usage: sdcpc")


def test_what_is_missing_is_to_be_had_from_pip(sourced) -> None:
    """Not as an extra of sdcpc_ros, which pip does not know where colcon built it."""
    block = "import sys; sys.modules['rosbags'] = None"
    code = f"{block}\nfrom sdcpc_ros.cli import main\nprint(main(['evaluate-bag', 'a']))"
    printed = sourced.run("bash", "-c", '"$0" -c "$1" 2>&1', sys.executable, code)
    assert printed == "sdcpc evaluate-bag: no Python package 'rosbags'; to get it: python3 -m pip install rosbags\n1\n"


@pytest.mark.usefixtures("ros_domain")
def test_the_installed_node_publishes_the_built_messages(outputs_of_node, tiny_checkpoint: Path) -> None:
    answer = outputs_of_node(f"model:={tiny_checkpoint}")
    assert answer["frame_id"] == "optical_frame"
    assert answer["label_info"] == [[number, name] for number, name in enumerate(CAMVID_11.class_names)]
    assert sorted(map(int, answer["pixel_share"])) == answer["ids"]
    assert sum(answer["pixel_share"].values()) == pytest.approx(1, abs=1e-4)
