"""The package as colcon builds it, for the tests that need what only a build brings: messages, executables."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import build_package
import pytest

#: vision_msgs/LabelInfo, where it is not installed: the same names and fields, which is all that goes over the wire.
_VISION_MSGS = {
    "package.xml": """<?xml version="1.0"?>
<package format="3">
  <name>vision_msgs</name>
  <version>4.1.1</version>
  <description>LabelInfo and no more, for tests.</description>
  <maintainer email="maintainers@example.org">sdcpc_ros maintainers</maintainer>
  <license>Apache-2.0</license>
  <buildtool_depend>ament_cmake</buildtool_depend>
  <depend>std_msgs</depend>
  <member_of_group>rosidl_interface_packages</member_of_group>
  <export><build_type>ament_cmake</build_type></export>
</package>
""",
    "CMakeLists.txt": """cmake_minimum_required(VERSION 3.16)
project(vision_msgs)
find_package(ament_cmake REQUIRED)
find_package(rosidl_default_generators REQUIRED)
find_package(std_msgs REQUIRED)
rosidl_generate_interfaces(${PROJECT_NAME} "msg/LabelInfo.msg" "msg/VisionClass.msg" DEPENDENCIES std_msgs)
ament_package()
""",
    "msg/LabelInfo.msg": "std_msgs/Header header\nvision_msgs/VisionClass[] class_map\nfloat32 threshold\n",
    "msg/VisionClass.msg": "uint16 class_id\nstring class_name\n",
}


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The install folder of a colcon build, with LabelInfo in it where vision_msgs is not installed."""
    missing = build_package.missing_tools()
    if missing:
        pytest.skip(f"a colcon build needs {', '.join(missing)}")
    pytest.importorskip("ament_package", reason="no ROS to build against")
    output = tmp_path_factory.mktemp("colcon")
    extra = [] if importlib.util.find_spec("vision_msgs") else ["--with", str(_write_vision_msgs(output / "extra"))]
    command = [sys.executable, build_package.__file__, "--output", str(output), *extra]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return output / "install"


def _write_vision_msgs(folder: Path) -> Path:
    for name, text in _VISION_MSGS.items():
        path = folder / "vision_msgs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder / "vision_msgs"


class Sourced:
    """How to run a command in a shell that has sourced the built package, as people do."""

    def __init__(self, install: Path) -> None:
        self._setup = str(install / "setup.bash")

    def command(self, *command: str) -> list[str]:
        # The ROS wheels set up the library path at the start of a process tree; without the mark a new tree begins.
        script = 'unset _ROS_WHEELS_BOOTSTRAP_COMPLETE; source "$0" && exec "$@"'
        return ["bash", "-c", script, self._setup, *command]

    def executable(self, name: str, *arguments: str) -> list[str]:
        """An executable of the package, as `ros2 run` starts it."""
        program = Path(self._setup).parent / "lib" / "sdcpc_ros" / name
        return self.command(sys.executable, str(program), *arguments)

    def run(self, *command: str) -> str:
        """What the command printed; it must succeed. Nothing that it started outlives a test which runs out of time."""
        with subprocess.Popen(
            self.command(*command),
            cwd=Path(self._setup).parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                printed, errors = process.communicate()
            except BaseException:
                os.killpg(process.pid, signal.SIGKILL)
                raise
        assert process.returncode == 0, printed + errors
        return printed


@pytest.fixture(scope="session")
def sourced(installed: Path) -> Sourced:
    return Sourced(installed)


@pytest.fixture
def outputs_of_node(installed: Path, sourced: Sourced, ros_domain: int) -> Callable[..., dict[str, Any]]:
    """Starts the installed node with these parameters ("name:=value") on the CPU and returns what outputs_peer.py
    prints of it."""
    peer, node = Path(__file__).with_name("outputs_peer.py"), installed / "lib" / "sdcpc_ros" / "segmentation_node"

    def run(*settings: str) -> dict[str, Any]:
        return json.loads(sourced.run(sys.executable, str(peer), str(node), "device:=cpu", *settings))

    return run
