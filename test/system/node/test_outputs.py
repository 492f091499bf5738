"""What a camera publishes, in a real node with a real subscriber: encodings, thresholds, nothing that nobody wants."""

from __future__ import annotations

import itertools
import sys
from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import rclpy
from builtin_interfaces.msg import Time
from rclpy.lifecycle import LifecycleNode, LifecycleState
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from sdcpc_ros.labels.label_map import read_label_map
from sdcpc_ros.labels.label_set import CAMVID_11
from sdcpc_ros.nodes import camera_outputs, topics
from sdcpc_ros.nodes.camera_outputs import CameraOutputs
from sdcpc_ros.nodes.parameters import NodeParameters, declarations_for
from sdcpc_ros.streaming.overlay import OverlayPainter

IMAGE = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
LABELS = (np.arange(48, dtype=np.uint8) % 11).reshape(6, 8)
CONFIDENCE = np.linspace(0, 255, 48).astype(np.uint8).reshape(6, 8)
_numbers = itertools.count()  # the peer keeps listening to the cameras of earlier tests
HEADER = Header(stamp=Time(sec=7, nanosec=8), frame_id="eye")


@pytest.fixture(scope="module")
def node(module_ros_domain):
    context = rclpy.context.Context()
    rclpy.init(context=context, domain_id=module_ros_domain)
    node = LifecycleNode("publishing", context=context)
    yield node
    node.destroy_node()
    rclpy.shutdown(context=context)


@pytest.fixture
def make_outputs(node):
    made = []

    def make(encoding: str = "mono8", entries: tuple[str, ...] = ()) -> CameraOutputs:
        label_map = read_label_map(entries, CAMVID_11, encoding)
        made.append(CameraOutputs(node, f"eye_{next(_numbers)}", CAMVID_11, label_map))
        node.on_activate(LifecycleState("inactive", 2))  # what enables the publishers
        return made[-1]

    yield make
    for outputs in made:
        outputs.destroy()


@pytest.fixture
def settings() -> NodeParameters:
    return NodeParameters.from_values({name: d.default for name, d in declarations_for(["camera"]).items()})


@pytest.fixture
def publish(peer, make_outputs, settings):
    """Publishes one frame and returns what came of it on a topic of the camera."""

    def publish(topic, message_type, encoding="mono8", camera_info=None, label_map=(), **changes):
        outputs = make_outputs(encoding, label_map)
        messages = peer.collect(f"/publishing/{outputs._camera_name}/{topic}", message_type)
        parameters = replace(settings, label_encoding=encoding, **changes)

        def came() -> bool:
            outputs.publish(HEADER, IMAGE, LABELS, CONFIDENCE, camera_info, parameters)
            peer.spin_for(0.05)
            return bool(messages)

        peer.wait_until(came, topic)
        assert messages[0].header == HEADER
        return messages[0]

    return publish


@pytest.mark.parametrize("encoding", ["mono8", "8UC1", "16UC1", "16SC1"])
def test_labels_are_written_in_the_encoding_asked_for(publish, encoding):
    mask = publish("label/image_raw", Image, encoding, confidence_threshold=0.5)
    dtype, unlabelled = {"16UC1": ("<u2", 65535), "16SC1": ("<i2", -1)}.get(encoding, ("u1", 255))
    assert (mask.encoding, mask.step, mask.is_bigendian) == (encoding, 8 * np.dtype(dtype).itemsize, 0)
    labels = np.frombuffer(mask.data, dtype).reshape(6, 8)
    assert np.array_equal(labels, np.where(CONFIDENCE < 127.5, unlabelled, LABELS.astype(int)))


@pytest.mark.parametrize("encoding", ["mono8", "8UC1", "16UC1", "16SC1"])
def test_the_compressed_mask_decodes_to_the_mask(publish, encoding):
    compressed = publish("label/image_raw/compressed", CompressedImage, encoding, confidence_threshold=0.5)
    assert compressed.format == f"{encoding}; png compressed"
    mask = cv2.imdecode(np.frombuffer(compressed.data, np.uint8), cv2.IMREAD_UNCHANGED)
    unlabelled = 65535 if encoding.startswith("16") else 255  # 16SC1: the same bits as -1
    assert mask.dtype == (np.uint16 if encoding.startswith("16") else np.uint8)
    assert np.array_equal(mask, np.where(CONFIDENCE < 127.5, unlabelled, LABELS.astype(int)))


def test_overlay_and_confidence_are_those_of_the_frame(publish):
    overlay = publish("overlay/image_raw", Image, overlay_opacity=0.25)
    expected = OverlayPainter(CAMVID_11).paint(IMAGE, LABELS, 0.25)
    assert np.array_equal(np.frombuffer(overlay.data, np.uint8).reshape(6, 8, 3), expected)
    confidence = publish("confidence/image_raw", Image)
    assert np.array_equal(np.frombuffer(confidence.data, np.uint8).reshape(6, 8), CONFIDENCE)


def test_the_mask_in_colours_is_that_of_the_label_set(publish):
    colours = publish("label/color", Image, confidence_threshold=0.5)
    assert (colours.encoding, colours.step) == ("rgb8", 8 * 3)
    labels = np.where(CONFIDENCE < 127.5, 255, LABELS)
    shown = np.frombuffer(colours.data, np.uint8).reshape(6, 8, 3)
    assert np.array_equal(shown, CAMVID_11.palette()[labels])
    assert not shown[labels == 255].any()  # black where there is no label


#: Every third class is of interest.
MAP = ("sky: 1", "road: 1", "sign_symbol: 40", "pedestrian: 7", "default: 0", "unlabelled: 0")
_MAPPED = np.array([{0: 1, 3: 1, 6: 40, 9: 7}.get(index, 0) for index in range(11)])[LABELS]


@pytest.mark.parametrize(("encoding", "dtype"), [("mono8", "u1"), ("16SC1", "<i2")])
def test_a_label_map_says_the_ids(publish, encoding, dtype):
    mask = publish("label/image_raw", Image, encoding, label_map=MAP, confidence_threshold=0.5)
    expected = np.where(CONFIDENCE < 127.5, 0, _MAPPED)
    assert np.array_equal(np.frombuffer(mask.data, dtype).reshape(6, 8), expected)


def test_colours_follow_the_label_map(publish):
    colours = publish("label/color", Image, label_map=MAP)
    shown = np.frombuffer(colours.data, np.uint8).reshape(6, 8, 3)
    assert not shown[_MAPPED == 0].any()
    assert (shown[_MAPPED == 1] == CAMVID_11.colours[0]).all()
    overlay = publish("overlay/image_raw", Image, label_map=MAP)
    painted = np.frombuffer(overlay.data, np.uint8).reshape(6, 8, 3)
    assert np.array_equal(painted[_MAPPED == 0], IMAGE[_MAPPED == 0])
    assert not np.array_equal(painted[_MAPPED == 40], IMAGE[_MAPPED == 40])


def test_statistics_follow_the_label_map(make_outputs):
    found = make_outputs(entries=MAP).statistics(LABELS, CONFIDENCE)
    assert found["class_ids"] == [0, 1, 7, 40]
    for number, share, mean in zip(found["class_ids"], found["pixel_share"], found["mean_confidence"]):
        assert share == pytest.approx((number == _MAPPED).mean())
        assert mean == pytest.approx(CONFIDENCE[number == _MAPPED].mean() / 255)
    assert found["class_ids"] != make_outputs().statistics(LABELS, CONFIDENCE)["class_ids"] == list(range(11))


def test_a_label_info_has_the_threshold_of_the_masks_after_it(make_outputs, settings, monkeypatch):
    """Late subscribers get the last one."""
    sent: list[tuple[str, float]] = []
    outputs = make_outputs()
    vision_msgs = SimpleNamespace(LabelInfo=SimpleNamespace, VisionClass=SimpleNamespace)
    monkeypatch.setitem(sys.modules, "vision_msgs.msg", vision_msgs)
    for topic, note in (
        (topics.LABEL_INFO, lambda info: sent.append(("info", info.threshold))),
        (topics.LABEL, lambda mask: sent.append(("mask", threshold))),
    ):
        monkeypatch.setitem(outputs._publishers, topic, SimpleNamespace(publish=note))
    for threshold in (0.0, 0.5, 0.5, 0.25):
        outputs.publish(HEADER, IMAGE, LABELS, CONFIDENCE, None, replace(settings, confidence_threshold=threshold))
    assert sent == [("mask", 0), ("info", 0.5), ("mask", 0.5), ("mask", 0.5), ("info", 0.25), ("mask", 0.25)]


def test_camera_info_is_scaled_to_the_mask(publish):
    info = CameraInfo(height=12, width=16)
    info.k[0] = 10.0
    answer = publish("label/camera_info", CameraInfo, camera_info=info)
    assert (answer.height, answer.width, answer.k[0]) == (6, 8, 5.0)


def test_confidence_is_only_needed_when_somebody_wants_something_of_it(peer, make_outputs, settings):
    outputs = make_outputs()
    assert not outputs.needs_confidence(settings)
    assert outputs.needs_confidence(replace(settings, confidence_threshold=0.1))
    peer.collect(f"/publishing/{outputs._camera_name}/confidence/image_raw", Image)
    peer.wait_until(lambda: outputs.needs_confidence(settings), "the subscription")


def test_an_overlay_that_nobody_wants_is_not_painted(make_outputs, settings, monkeypatch):
    outputs = make_outputs()
    monkeypatch.setattr(camera_outputs, "compressed_mask", lambda *_: pytest.fail("encoded for nobody"))
    for way in ("paint", "colours"):
        monkeypatch.setattr(OverlayPainter, way, lambda *_: pytest.fail("painted for nobody"))
    outputs.publish(HEADER, IMAGE, LABELS, None, None, settings)


def test_the_publishers_go_with_destroy(node, make_outputs):
    outputs = make_outputs()
    topic = f"/publishing/{outputs._camera_name}/label/image_raw"
    assert node.count_publishers(topic) == 1
    outputs.destroy()
    assert node.count_publishers(topic) == 0


def test_a_failure_half_way_leaves_no_publisher_behind(node):
    overlay = "/publishing/eye_failing/overlay/image_raw"
    arguments = ["--ros-args", "-p", f"qos_overrides.{overlay}.publisher.reliability:=perhaps"]
    failing = LifecycleNode("publishing", context=node.context, cli_args=arguments)
    with pytest.raises(Exception, match="perhaps"):
        CameraOutputs(failing, "eye_failing", CAMVID_11, read_label_map((), CAMVID_11, "mono8"))
    assert node.count_publishers("/publishing/eye_failing/label/image_raw") == 0
    failing.destroy_node()
