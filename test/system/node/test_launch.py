"""The launch file under the real `ros2 launch`, on the built package."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest
from ament_index_python.packages import get_package_share_directory
from rclpy.qos import DurabilityPolicy
from sensor_msgs.msg import Image

ARGUMENTS = [
    "namespace",
    "params_file",
    "model",
    "label_map",
    "cameras",
    "image_topic",
    "transport",
    "use_sim_time",
    "backend",
    "precision",
    "device",
    "autostart",
    "rviz",
    "log_level",
]


def test_every_argument_is_described(start_launch, module_ros_domain):
    process = start_launch("--show-args")
    assert process.process.wait(60) == 0
    blocks = dict(block.split("':", 1) for block in process.log().split("\n    '")[1:])
    assert list(blocks) == ARGUMENTS
    for name, block in blocks.items():
        assert len(block.split("(default:")[0].split()) > 3, f"{name} is not described"


def test_it_starts_a_node_that_segments(start_launch, peer, image, street, tiny_checkpoint):
    launch = start_launch(
        f"model:={tiny_checkpoint}",
        "device:=cpu",
        "namespace:=robot",
        "cameras:=front,rear",
        "use_sim_time:=true",
    )
    node = "/robot/segmentation_node"
    masks = peer.collect(f"{node}/front/label/image_raw", Image)
    sent = image(street(), 3.5)
    assert peer.exchange("/robot/front/image_raw", sent, masks).header == sent.header
    assert peer.node.get_publishers_info_by_topic(f"{node}/rear/label/image_raw")
    if importlib.util.find_spec("vision_msgs"):
        from vision_msgs.msg import LabelInfo

        late = peer.collect(f"{node}/front/label/label_info", LabelInfo, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        peer.wait_until(lambda: late, "the label info, sent before this subscription")
        assert [(c.class_id, c.class_name) for c in late[0].class_map][:2] == [(0, "sky"), (1, "building")]
        assert len(late[0].class_map) == 11
        # A bag that begins again is told again.
        peer.exchange("/robot/front/image_raw", image(street(), 1.0), masks)
        peer.wait_until(lambda: len(late) == 2, "the label info after a seek")
        assert late[1].header.stamp.sec == 1
    assert launch.stop() == 0
    assert "process has finished cleanly" in launch.log() and "Traceback" not in launch.log()


def test_class_statistics_are_published_where_the_messages_are_built(
    start_launch, peer, image, street, tiny_checkpoint
):
    class_statistics = pytest.importorskip(
        "sdcpc_ros.msg", reason="the package's messages are not built"
    ).ClassStatistics
    start_launch(f"model:={tiny_checkpoint}", "device:=cpu", "image_topic:=/some/image", "cameras:=eye")
    answers = peer.collect("/segmentation_node/eye/class_statistics", class_statistics)
    statistics = peer.exchange("/some/image", image(street(), 2.0), answers)
    assert list(statistics.class_ids) == sorted(set(statistics.class_ids))
    assert sum(statistics.pixel_share) == pytest.approx(1, abs=1e-5)
    assert all(1 / 11 - 0.01 <= value <= 1 for value in statistics.mean_confidence)


def test_the_fast_dds_profile_is_set_unless_the_user_has_one(start_launch, peer, monkeypatch, tiny_checkpoint):
    def profile_of_node() -> list[str]:
        launch = start_launch("autostart:=false", "namespace:=profile")
        launch.wait_for_log("process started with pid [")
        pid = launch.log().rpartition("process started with pid [")[2].split("]")[0]
        variables = Path(f"/proc/{pid}/environ").read_text().split("\0")
        launch.stop()
        return [value for value in variables if value.startswith("FASTRTPS_DEFAULT_PROFILES_FILE=")]

    monkeypatch.delenv("FASTRTPS_DEFAULT_PROFILES_FILE", raising=False)
    shipped = Path(get_package_share_directory("sdcpc_ros")) / "config" / "fastdds_profile.xml"
    assert shipped.is_file() and profile_of_node() == [f"FASTRTPS_DEFAULT_PROFILES_FILE={shipped}"]
    monkeypatch.setenv("FASTRTPS_DEFAULT_PROFILES_FILE", os.devnull)
    assert profile_of_node() == [f"FASTRTPS_DEFAULT_PROFILES_FILE={os.devnull}"]


def test_one_image_topic_for_two_cameras_is_refused(start_launch, module_ros_domain):
    process = start_launch("cameras:=left,right", "image_topic:=/image")
    assert process.process.wait(60) != 0
    assert "image_topic goes with one camera, but cameras names 2" in process.log()


def test_a_node_that_dies_is_started_again(start_launch, peer, image, street, tiny_checkpoint, note_fault):
    launch = start_launch(f"model:={tiny_checkpoint}", "device:=cpu")
    launch.wait_for_log("is ready")
    os.kill(int(launch.log().rpartition("process started with pid [")[2].split("]")[0]), 9)
    peer.wait_until(lambda: launch.log().count("is ready") == 2, "the second start")
    masks = peer.collect("/segmentation_node/camera/label/image_raw", Image)
    assert peer.exchange("/camera/image_raw", image(street()), masks)
    note_fault("kill -9 under launch", sent=1, counted={"starts": launch.log().count("is ready")}, served=len(masks))
