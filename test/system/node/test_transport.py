"""Compressed and raw cameras are taken as they are published: by the name, by the graph, and after remapping."""

from __future__ import annotations

import array

import cv2
import pytest
from sensor_msgs.msg import CameraInfo, CompressedImage, Image


@pytest.fixture(scope="module")
def compressed(street):
    """Makes a JPEG CompressedImage with this stamp."""

    def make(stamp_s: int) -> CompressedImage:
        message = CompressedImage(format="rgb8; jpeg compressed bgr8")
        message.header.frame_id, message.header.stamp.sec = "front_optical", stamp_s
        message.data = array.array("B", cv2.imencode(".jpg", street(seed=5))[1].tobytes())
        return message

    return make


def test_a_compressed_topic_is_taken_by_its_name(start_node, peer, compressed, tiny_checkpoint):
    topic = "/front/image_raw/compressed"
    node = start_node(model=tiny_checkpoint, device="cpu", camera__image_topic=topic)
    node.wait_for_log(f"subscribes to {topic} (sensor_msgs/msg/CompressedImage) and /front/camera_info")
    masks = peer.collect(peer.topic("camera/label/image_raw"), Image)
    assert peer.exchange(topic, compressed(10), masks)
    report = peer.fresh_report("camera")
    assert (report["transport"], report["camera_info topic"]) == ("compressed", "/front/camera_info")
    assert node.stop() == 0


@pytest.mark.parametrize("first", ["camera", "node"])
def test_a_type_that_the_name_does_not_tell_is_taken_from_the_graph(
    start_node, peer, compressed, image, street, tiny_checkpoint, first
):
    """Whoever starts first; and a driver that starts again with the other type is followed."""
    topic = f"/usb_{first}/picture"
    masks = peer.collect(peer.topic("camera/label/image_raw"), Image)
    if first == "camera":
        peer.node.create_publisher(CompressedImage, f"{topic}_unrelated", 1)
        early = peer.node.create_publisher(CompressedImage, topic, 1)
    node = start_node(model=tiny_checkpoint, device="cpu", camera__image_topic=topic)
    if first == "node":
        node.wait_for_log(f"subscribes to {topic} (sensor_msgs/msg/Image)")
        early = peer.node.create_publisher(CompressedImage, topic, 1)
    peer.wait_until(lambda: early.get_subscription_count() > 0, "the node's subscription of CompressedImage")
    assert peer.exchange(topic, compressed(20), masks)
    for publisher in (early, peer._publishers.pop(topic)):
        peer.node.destroy_publisher(publisher)
    assert peer.exchange(topic, image(street(), 21.0), masks)
    assert f"{topic} is published as sensor_msgs/msg/Image: subscribed again" in node.log()
    assert peer.fresh_report("camera")["transport"] == "raw"
    assert node.stop() == 0


def remapped(*rules: str) -> tuple[str, ...]:
    options = [word for rule in rules for word in ("-r", rule)]
    return ("-m", "sdcpc_ros.nodes.segmentation_node", "--ros-args", *options, "--")


def test_a_remapped_image_topic_takes_its_camera_info_along(start_node, peer, compressed, tiny_checkpoint):
    topic = "/cam0/color/compressed"
    program = remapped(f"camera/image_raw:={topic}")
    node = start_node(program=program, model=tiny_checkpoint, device="cpu")
    masks = peer.collect(peer.topic("camera/label/image_raw"), Image)
    infos = peer.collect(peer.topic("camera/label/camera_info"), CameraInfo)
    publisher, info = peer.publisher("/cam0/camera_info", CameraInfo), CameraInfo(height=120, width=160)
    stamps = iter(range(30, 1000))

    def came() -> bool:
        publisher.publish(info)
        peer.spin_for(0.1)
        return bool(peer.exchange(topic, compressed(next(stamps)), masks) and infos)

    peer.wait_until(came, "the scaled camera_info")
    assert node.stop() == 0


def test_a_camera_info_topic_that_is_chosen_stays(start_node, peer, tiny_checkpoint):
    """By a remapping rule or a parameter."""
    rules = ("left/image_raw:=/cam0/color", "left/camera_info:=/calibration0", "right/image_raw:=/cam1/color")
    parameters = {"cameras": "[left, right]", "right__camera_info_topic": "/calibration1"}
    node = start_node(program=remapped(*rules), model=tiny_checkpoint, device="cpu", **parameters)
    for number in (0, 1):
        node.wait_for_log(f"subscribes to /cam{number}/color (sensor_msgs/msg/Image) and /calibration{number};")
    assert node.stop() == 0
