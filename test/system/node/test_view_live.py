"""`sdcpc view --live` beside a running node: its file holds what the node published."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import rclpy
from rclpy.context import Context
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

import sdcpc_ros
from sdcpc_ros.labels.label_set import CAMVID_11

pytest.importorskip("rerun", reason="rerun-sdk is not installed: pip install '.[rerun]'")

from sdcpc_ros.consumers.live_view import LiveView

_FILE = Path(__file__).parents[2] / "viewing" / "reading.py"
_SPEC = importlib.util.spec_from_file_location("reading", _FILE)
_READING = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_READING)
NODE_NAME = "/robot/segmentation_node"
START_S = 100.0


@pytest.fixture
def view(start_process, monkeypatch):
    """Starts it with these arguments."""
    monkeypatch.setenv("PYTHONPATH", str(Path(sdcpc_ros.__file__).parents[1]), prepend=os.pathsep)

    def start(*arguments: object):
        return start_process(sys.executable, "-m", "sdcpc_ros.cli", "view", "--live", *map(str, arguments))

    return start


@pytest.mark.parametrize("named_by", ["LabelInfo", "model"])
def test_what_the_node_publishes_is_in_the_file(
    start_node, view, peer, image, street, tiny_checkpoint, tmp_path, named_by
):
    """Image, mask and confidence of one stamp together, the classes, and the reset of a camera that jumped back."""
    if named_by == "LabelInfo":
        pytest.importorskip("vision_msgs", reason="vision_msgs is not installed, and without it there is no LabelInfo")
    classes = ["--model", tiny_checkpoint] if named_by == "model" else []
    publisher = peer.node.create_publisher(
        Image, "/robot/eye/image_raw", QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    )
    sent: list[int] = []

    def send() -> None:
        stamp_s = START_S + 0.25 * len(sent) - (50 if len(sent) >= jump_at[0] else 0)
        sent.append(round(stamp_s * 1e9))
        publisher.publish(image(street(), stamp_s))

    jump_at = [10**9]
    timer = peer.node.create_timer(0.2, send)
    masks = peer.collect(f"{NODE_NAME}/eye/label/image_raw", Image)
    node = start_node(namespace="/robot", model=tiny_checkpoint, device="cpu", cameras="[eye]")
    peer.wait_until(lambda: masks, "a mask")
    file = tmp_path / "live.rrd"
    viewer = view("--node", NODE_NAME, "--camera", "eye", "-o", file, *classes)
    peer.wait_until(lambda: list(tmp_path.glob(".live.rrd.*/live.rrd")) or not viewer.is_alive(), "the recording")
    assert viewer.is_alive(), viewer.log()
    shown = len(masks)
    peer.wait_until(lambda: len(masks) > shown + 10, "masks")
    jump_at[0] = len(sent)
    peer.wait_until(lambda: peer.count("eye", "resets: backward") > 0, "the jump to be counted")
    counted = len(masks)
    peer.wait_until(lambda: len(masks) > counted + 15, "masks after the jump")
    assert viewer.stop(signal.SIGINT) == 0, viewer.log()
    peer.node.destroy_timer(timer)
    peer.node.destroy_publisher(publisher)

    recording = _READING.Recording(file)
    frames = recording.frames("/camera/labels", "SegmentationImage:buffer")
    assert frames == list(range(len(frames))) and len(frames) > 10
    stamps_ns = recording.stamps_ns("/camera/labels")
    assert set(stamps_ns) <= set(sent)
    by_stamp = {m.header.stamp.sec * 10**9 + m.header.stamp.nanosec: bytes(m.data) for m in masks}
    known = [row for row in recording.rows["/camera/labels"] if row["stamp"] in by_stamp]
    assert len(known) > 5
    assert all(bytes(row["SegmentationImage:buffer"][0]) == by_stamp[row["stamp"]] for row in known)
    assert recording.stamps_ns("/camera/confidence") == stamps_ns  # SIGINT ends the viewer between frames
    assert set(recording.frames("/camera/image", "EncodedImage:blob")) <= set(frames)
    assert recording.frames("/camera/image", "EncodedImage:blob")
    assert [name for name, _ in recording.classes().values()] == [*CAMVID_11.class_names, "unlabelled"]
    assert any(text.endswith("memory emptied: backward") for text in recording.log())
    assert f"{len(frames)} frames written to {file}" in viewer.log()
    assert node.stop() == 0


def test_other_classes_of_a_node_that_was_configured_again_are_noted(ros_domain):
    context = Context()
    rclpy.init(context=context)
    view = LiveView(NODE_NAME, "eye", CAMVID_11, context)
    notes: list[str] = []
    view.recording = SimpleNamespace(note=lambda _, text: notes.append(text))
    try:
        for names, noted in ((CAMVID_11.class_names, 0), (("background", "road"), 1), (("background", "road"), 1)):
            class_map = [SimpleNamespace(class_id=number, class_name=name) for number, name in enumerate(names)]
            view._on_label_info(SimpleNamespace(class_map=class_map))
            assert len(notes) == noted
    finally:
        view.destroy_node()
        rclpy.shutdown(context=context)


def test_a_node_that_is_not_there_is_named(view, module_ros_domain, tiny_checkpoint, tmp_path):
    viewer = view("--node", "nobody", "--model", tiny_checkpoint, "-o", tmp_path / "live.rrd")
    assert viewer.process.wait(90) == 1
    assert "sdcpc view: /nobody reports nothing in /diagnostics for /nobody/camera/label/image_raw" in viewer.log()
    assert "--node and --camera name them" in viewer.log() and "Traceback" not in viewer.log()
    assert not (tmp_path / "live.rrd").exists()
