"""Arguments of the launch file as people spell them, under the real `ros2 launch`, on the built package."""

from __future__ import annotations

import array
from pathlib import Path

import cv2
import pytest
from rcl_interfaces.srv import GetParameters
from rclpy.parameter import parameter_value_to_python
from sensor_msgs.msg import CompressedImage, Image

#: A launch file that includes ours as others do.
_PARENT = """
from launch import LaunchDescription
from launch.actions import GroupAction, IncludeLaunchDescription
from launch.substitutions import PathJoinSubstitution
from launch_ros.actions import SetParameter
from launch_ros.substitutions import FindPackageShare

def generate_launch_description():
    file = PathJoinSubstitution([FindPackageShare("sdcpc_ros"), "launch", "segment.launch.py"])
    include = IncludeLaunchDescription(file, launch_arguments={arguments!r}.items())
    return LaunchDescription([GroupAction([{before}include])])
"""


@pytest.fixture
def parent(tmp_path: Path):
    def write(before: str = "", **arguments: str) -> Path:
        file = tmp_path / "parent.launch.py"
        file.write_text(_PARENT.format(arguments=arguments, before=before))
        return file

    return write


def parameters(peer, *names: str) -> list:
    """What the running node says its parameters are."""
    answer = peer.call(GetParameters, "get_parameters", GetParameters.Request(names=list(names)))
    return [parameter_value_to_python(value) for value in answer.values]


@pytest.mark.parametrize(("given", "taken"), [("True", True), ("False", False), ("1", True), ("off", False)])
def test_booleans_are_spelled_as_launch_takes_them(start_launch, peer, given, taken):
    start_launch(f"use_sim_time:={given}", "autostart:=False", f"rviz:={'False' if taken else 'no'}")
    assert parameters(peer, "use_sim_time", "autostart") == [taken, False]
    assert peer.state() == "unconfigured"


def test_booleans_of_a_launch_file_that_includes_ours(start_launch, parent, peer):
    start_launch(parent(use_sim_time="True", autostart="False", rviz="False"))
    assert parameters(peer, "use_sim_time", "autostart") == [True, False]


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        ("use_sim_time:=maybe", "use_sim_time is 'maybe'; allowed: true or false"),
        ("rviz:=ja", "rviz is 'ja'; allowed: true or false"),
        ("transport:=theora", "transport is 'theora'; allowed: auto, raw, compressed"),
        ("log_level:=loud", "log_level is 'loud'; allowed: debug, info, warn, error, fatal"),
        ("params_file:=/nope.yaml", "the parameter file '/nope.yaml' cannot be read: no such file"),
        ("params_file:=/", "the parameter file '/' cannot be read: it is a folder"),
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence(start_launch, module_ros_domain, argument, sentence):
    launch = start_launch("autostart:=false", argument)
    assert launch.process.wait(60) != 0
    assert sentence in launch.log()
    assert "process started" not in launch.log()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("/**: [unclosed", "cannot be read as YAML: while parsing a flow sequence"),
        ("cameras: [front]\n", "has no 'ros__parameters'; needed: a node's name or '/**'"),
    ],
)
def test_a_file_that_is_no_parameter_file_starts_nothing(start_launch, module_ros_domain, tmp_path, text, sentence):
    file = tmp_path / "broken.yaml"
    file.write_text(text)
    launch = start_launch(f"params_file:={file}")
    assert launch.process.wait(60) != 0
    assert f"the parameter file '{file}' {sentence}" in launch.log()
    assert "process started" not in launch.log()


def test_a_file_that_only_ros_refuses_is_not_tried_for_ever(start_launch, module_ros_domain, tmp_path):
    """YAML, and parameters, but a list of two types, which ROS does not have."""
    file = tmp_path / "mixed.yaml"
    file.write_text("/**:\n  ros__parameters:\n    class_names: [road, 7]\n")
    launch = start_launch(f"params_file:={file}", "autostart:=false")
    launch.process.wait(60)
    assert "error: ROS does not let the node start" in launch.log()
    assert launch.log().count("process started") == 1


def test_a_parameter_file_in_the_home_folder(start_launch, peer, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "robot.yaml").write_text("/**: {ros__parameters: {max_gap: 7.5, autostart: false}}\n")
    start_launch("params_file:=~/robot.yaml")
    assert parameters(peer, "max_gap") == [7.5]


def test_a_compressed_image_topic_works_by_itself(start_launch, peer, street, tiny_checkpoint):
    topic = "/front/image_raw/compressed"
    start_launch(f"model:={tiny_checkpoint}", "device:=cpu", f"image_topic:={topic}")
    masks = peer.collect("/segmentation_node/camera/label/image_raw", Image)
    picture = CompressedImage(format="png", data=array.array("B", cv2.imencode(".png", street())[1].tobytes()))
    assert peer.exchange(topic, picture, masks)


def test_the_transport_is_that_of_every_camera(start_launch, peer, tmp_path):
    chosen = tmp_path / "cameras.yaml"
    chosen.write_text("/**: {ros__parameters: {cameras: [left, right], left: {transport: raw}}}\n")
    launch = start_launch(f"params_file:={chosen}", "transport:=compressed", "autostart:=false")
    assert parameters(peer, "left.transport", "right.transport") == ["compressed", "compressed"]
    assert launch.stop() == 0
    start_launch("cameras:=nose", "transport:=raw", "autostart:=false")
    assert parameters(peer, "nose.transport") == ["raw"]


def test_a_label_map_is_a_list_a_preset_or_a_file(start_launch, peer, tmp_path):
    for given, taken in (
        ("road: 1, car: 2,default: 0", ["road: 1", "car: 2", "default: 0"]),
        ("nav2", ["nav2"]),
        (f"{tmp_path}/map.yaml", [f"{tmp_path}/map.yaml"]),
    ):
        launch = start_launch(f"label_map:={given}", "autostart:=false")
        assert parameters(peer, "label_map") == [taken]
        assert launch.stop() == 0


def test_what_a_parent_sets_beats_the_default_file_and_not_a_chosen_one(start_launch, parent, peer, tmp_path):
    before = "SetParameter('max_gap', 3.5), SetParameter('use_sim_time', True), "
    launch = start_launch(parent(before, autostart="False"))
    assert parameters(peer, "max_gap", "use_sim_time", "overlay_opacity") == [3.5, True, 0.5]
    assert launch.stop() == 0
    chosen = tmp_path / "chosen.yaml"
    chosen.write_text("/**: {ros__parameters: {max_gap: 9.5, autostart: false}}\n")
    start_launch(parent(before, params_file=str(chosen)))
    assert parameters(peer, "max_gap", "use_sim_time") == [9.5, True]


def test_the_log_level_is_the_nodes_alone(start_launch, peer):
    launch = start_launch("log_level:=DEBUG", "autostart:=false", "namespace:=/robot/")
    launch.wait_for_log("parameters: ")
    assert "[robot.segmentation_node]: parameters: " in launch.log()
    assert "[rcl" not in launch.log() and "[rmw" not in launch.log()
