"""The consumers as processes, on the masks of a node of the built package, in the same sourced environment."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import rclpy
from sensor_msgs.msg import Image

from sdcpc_ros.consumers.dynamic_object_mask import DynamicObjectMask
from sdcpc_ros.labels.label_set import CAMVID_11

NAMESPACE = "/segmentation_node/camera"
IMAGES = "/camera/image_raw"
_stamps = itertools.count(100)

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def node(start_sourced, tiny_checkpoint):
    node = start_sourced("segmentation_node", "-p", f"model:={tiny_checkpoint}", "-p", "device:=cpu")
    node.wait_for_log("is ready")
    return node


@pytest.fixture(scope="module")
def start_sourced(sourced, start_command, module_ros_domain):
    """Starts an executable of the built package with these ROS arguments."""

    def start(name: str, *ros_arguments: str):
        return start_command(*sourced.executable(name, "--ros-args", *ros_arguments))

    return start


def test_the_nav2_layers_rules_hold_from_the_first_mask_through_a_seek(node, start_sourced, peer, image, street):
    checker = start_sourced(
        *("mask_checker", "-r", f"__ns:={NAMESPACE}", "-p", "masks:=12"),
        *("-p", "class_names:=[road, pedestrian, car]"),
    )
    masks, picture = peer.collect(peer.topic("camera/label/image_raw"), Image), street()
    confidence = peer.topic("camera/confidence/image_raw")
    peer.wait_until(lambda: peer.node.count_subscribers(confidence), "the checker")
    publisher = peer.publisher(IMAGES)
    while checker.is_alive():
        stamp = next(_stamps)
        # The bag begins again. The checker must have seen a mask from before the jump: discovery takes each subscriber
        # its own time, and a checker that first sees what follows the jump has no jump to check.
        seeks = len(masks) >= 6 and "the first mask has arrived" in checker.log()
        publisher.publish(image(picture, stamp - 90.0 if seeks else stamp))
        peer.spin_for(0.1)
        assert stamp < 1000, checker.log()
    assert checker.process.wait() == 0, checker.log()
    assert "2 LabelInfo: every rule holds" in checker.log() and "ERROR" not in checker.log()


def test_masks_that_the_layer_would_misread_are_named(node, start_sourced, peer, image):
    checker = start_sourced("mask_checker", "-r", "__ns:=/fake", "-p", "masks:=3")
    publisher = peer.publisher("/fake/label/image_raw")
    while checker.is_alive():
        stamp = next(_stamps)
        publisher.publish(image(np.zeros((4, 8), np.uint8), stamp, "mono8", width=6))
        peer.spin_for(0.1)
        assert stamp < 10_000, checker.log()
    assert checker.process.wait() == 1
    for words in (
        "label has a step of 8 bytes for a width of 6: its rows are padded",
        "label holds 32 bytes; 6 x 4 pixels are as many",
        "no LabelInfo came before the first mask",
        "no confidence came with the stamp of a mask",
    ):
        assert words in checker.log()


def test_what_moves_is_masked_out_for_slam(node, start_sourced, peer, image, street):
    labels = peer.collect(f"{NAMESPACE}/label/image_raw", Image)
    seen = peer.exchange(IMAGES, image(street(seed=3), next(_stamps)), labels)
    dynamic = int(np.bincount(np.frombuffer(seen.data, np.uint8)).argmax())  # whatever this network sees most of
    name = CAMVID_11.class_names[dynamic]
    masker = start_sourced(
        *("dynamic_object_mask", "-r", f"__ns:={NAMESPACE}", "-p", "dilation:=0"),
        *("-p", f"dynamic_classes:=[{name}, unicorn]"),
    )
    masker.wait_for_log(f"ignored: {name}")
    masks = peer.collect(f"{NAMESPACE}/feature_mask/image_raw", Image)
    sent = image(street(seed=3), next(_stamps))
    mask = peer.exchange(IMAGES, sent, masks)
    label = next(label for label in labels if label.header == mask.header)
    assert (mask.encoding, mask.step, mask.header) == ("mono8", label.width, sent.header)
    moves = np.frombuffer(label.data, np.uint8) == dynamic
    assert 0 < moves.mean() < 1, "the picture shows nothing, or nothing else"
    assert np.array_equal(np.frombuffer(mask.data, np.uint8), np.where(moves, 0, 255))


def test_without_a_label_info_the_classes_may_be_given(start_sourced, peer, image):
    start_sourced(
        *("dynamic_object_mask", "-r", "__ns:=/given", "-p", "dilation:=1"),
        *("-p", "class_names:=[road, car]", "-p", "dynamic_classes:=[car]"),
    )
    labels = np.zeros((5, 5), np.uint8)
    labels[2, 2] = 1
    masks = peer.collect("/given/feature_mask/image_raw", Image)
    publisher = peer.node.create_publisher(Image, "/given/label/image_raw", 5)

    def came() -> list:
        publisher.publish(image(labels, 5.0, "mono8"))
        peer.spin_for(0.2)
        return masks

    peer.wait_until(came, "a feature mask")
    mask = np.frombuffer(masks[0].data, np.uint8).reshape(5, 5)
    assert (mask == 0).sum() == 5 and mask[2, 1] == mask[1, 2] == mask[2, 3] == mask[3, 2] == 0


def test_ids_end_with_their_label_info(module_ros_domain):
    """A node that is configured again may have another label map."""
    rclpy.init(args=["--ros-args", "-p", "class_names:=[road, car]"])
    node = DynamicObjectMask()
    try:
        for classes, is_known in (({"car": 300}, True), ({"tree": 1}, False), ({"car": 2}, True)):
            class_map = [SimpleNamespace(class_name=name, class_id=number) for name, number in classes.items()]
            node._on_label_info(SimpleNamespace(class_map=class_map))
            assert (node._masker is not None) == is_known
    finally:
        node.destroy_node()
        rclpy.shutdown()


def test_classes_that_no_mask_has_end_it_with_a_sentence(start_sourced):
    process = start_sourced("dynamic_object_mask", "-p", "class_names:=[road]", "-p", "dynamic_classes:=[unicorn]")
    assert process.process.wait(60) == 1
    assert "error: none of the dynamic classes (unicorn) is among those of the masks (road)" in process.log()


@pytest.mark.parametrize(("value", "words"), [("-1", "dilation"), ("wide", "dilation")])
def test_a_bad_parameter_ends_it_with_a_sentence(start_sourced, value, words):
    process = start_sourced("dynamic_object_mask", "-p", "class_names:=[car]", "-p", f"dilation:={value}")
    assert process.process.wait(60) == 1
    assert "error: " in process.log() and words in process.log() and "Traceback" not in process.log()
