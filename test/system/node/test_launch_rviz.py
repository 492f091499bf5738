"""`rviz:=true` under the real `ros2 launch`: what RViz is given to show."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from ament_index_python.packages import PackageNotFoundError, get_package_share_directory


@pytest.fixture
def shown(start_launch, module_ros_domain, monkeypatch, tmp_path) -> Callable[..., dict[str, str]]:
    """Launches with a stand-in for rviz2 that keeps the layout it is started with; name -> topic of each display."""
    executable = tmp_path / "lib" / "rviz2" / "rviz2"
    index = tmp_path / "share" / "ament_index" / "resource_index" / "packages" / "rviz2"
    for file, text in ((executable, '#!/bin/sh\ncp "$2" "$(dirname "$0")/$1"\n'), (index, "")):
        file.parent.mkdir(parents=True)
        file.write_text(text)
    executable.chmod(0o755)
    monkeypatch.setenv("AMENT_PREFIX_PATH", os.pathsep.join([str(tmp_path), os.environ.get("AMENT_PREFIX_PATH", "")]))

    def run(*arguments: str | Path) -> dict[str, str]:
        launch = start_launch(*arguments)
        launch.wait_for_log("[rviz2")
        launch.wait_for_log("process has finished cleanly")
        layout = yaml.safe_load((executable.parent / "-d").read_text())
        displays = layout["Visualization Manager"]["Displays"]
        return {display["Name"]: display["Topic"]["Value"] for display in displays}

    return run


def test_the_camera_of_the_arguments_is_shown(shown):
    node = "/robot/segmentation_node/front"
    assert shown("rviz:=true", "namespace:=robot", "cameras:=front", "autostart:=false") == {
        "Camera": "/robot/front/image_raw",
        "Overlay": f"{node}/overlay/image_raw",
        "Label": f"{node}/label/color",
    }


def test_every_camera_of_the_parameter_file_is_shown(shown, tmp_path):
    """In a namespace that a parent launch file pushes, with topics of every kind."""
    parameters = tmp_path / "robot.yaml"
    parameters.write_text(
        "/**/segmentation_node:\n"
        "  ros__parameters:\n"
        "    autostart: false\n"
        "    cameras: [left, right, rear]\n"
        "    left: {image_topic: /oak/left/image_rect}\n"
        "    right: {transport: compressed}\n"
        "    rear: {image_topic: usb/image_raw}\n"
        "/other_node: {ros__parameters: {cameras: [nose]}}\n"
    )
    parent = tmp_path / "parent.launch.py"
    parent.write_text(
        "from launch import LaunchDescription\n"
        "from launch.actions import GroupAction, IncludeLaunchDescription\n"
        "from launch_ros.actions import PushRosNamespace\n"
        "from launch_ros.substitutions import FindPackageShare\n"
        "from launch.substitutions import PathJoinSubstitution\n"
        "def generate_launch_description():\n"
        "    file = PathJoinSubstitution([FindPackageShare('sdcpc_ros'), 'launch', 'segment.launch.py'])\n"
        f"    given = {{'rviz': 'True', 'params_file': {str(parameters)!r}}}.items()\n"
        "    include = IncludeLaunchDescription(file, launch_arguments=given)\n"
        "    return LaunchDescription([GroupAction([PushRosNamespace('robot'), include])])\n"
    )
    node = "/robot/segmentation_node"
    assert shown(parent) == {
        "Camera": "/oak/left/image_rect",
        "Overlay": f"{node}/left/overlay/image_raw",
        "Label": f"{node}/left/label/color",
        "right Camera": "/robot/right/image_raw/compressed",
        "right Overlay": f"{node}/right/overlay/image_raw",
        "right Label": f"{node}/right/label/color",
        "rear Camera": "/robot/usb/image_raw",
        "rear Overlay": f"{node}/rear/overlay/image_raw",
        "rear Label": f"{node}/rear/label/color",
    }


def test_without_rviz_it_says_so_and_starts_nothing(start_launch, module_ros_domain):
    try:
        get_package_share_directory("rviz2")
    except PackageNotFoundError:
        process = start_launch("rviz:=true", "autostart:=false")
        assert process.process.wait(60) != 0
        assert "rviz:=true needs the package rviz2, which is not installed" in process.log()
        assert "process started" not in process.log()
    else:
        pytest.skip("rviz2 is installed")
