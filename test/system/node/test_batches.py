"""Three cameras over DDS, two of one size, into a network slower than they are: who shares a pass, with what masks."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from sensor_msgs.msg import Image

from sdcpc_ros.model_files.checkpoint import load_checkpoint
from sdcpc_ros.streaming.segmenter import StreamingSegmenter

TROUBLED = str(Path(__file__).with_name("troubled_node.py"))
SIZES = {"left": (120, 160), "right": (120, 160), "rear": (120, 240)}
DELAY_S = 0.3


class Cameras:
    """Sends numbered pictures, one of each camera at a time, and keeps the masks that come back, by number."""

    def __init__(self, peer, image) -> None:
        self._peer, self._image = peer, image
        self._numbers = itertools.count(1)
        self._publishers = {camera: peer.publisher(f"/{camera}/image_raw") for camera in SIZES}
        self.masks: dict[str, dict[int, np.ndarray]] = {camera: {} for camera in SIZES}
        for camera in SIZES:
            peer.collect(peer.topic(f"{camera}/label/image_raw"), Image, self._keeper(camera))

    def send(self, white: str = "") -> None:
        number = next(self._numbers)
        assert number < 1500, f"too few masks or reports: {[len(masks) for masks in self.masks.values()]}"
        for camera, publisher in self._publishers.items():
            pixels = np.full((*SIZES[camera], 3), 255, np.uint8) if camera == white else picture(camera, number)
            publisher.publish(self._image(pixels, number / 10))
        self._peer.spin_for(0.05)

    def _keeper(self, camera: str):
        def keep(mask: Image) -> None:
            number = round((mask.header.stamp.sec + mask.header.stamp.nanosec * 1e-9) * 10)
            self.masks[camera][number] = np.frombuffer(mask.data, np.uint8).reshape(mask.height, mask.width)

        return keep


def picture(camera: str, number: int) -> np.ndarray:
    """Blocks, other ones in each picture of each camera."""
    height, width = SIZES[camera]
    generator = np.random.default_rng((number, sorted(SIZES).index(camera)))
    blocks = generator.integers(0, 256, (height // 20, width // 20, 3), np.uint8)
    return blocks.repeat(20, 0).repeat(20, 1)


@pytest.fixture(scope="module")
def cameras(start_node, peer, image, tiny_checkpoint):
    start_node(
        program=(TROUBLED, "--delay", str(DELAY_S), "--fail-on-white"),
        model=tiny_checkpoint,
        device="cpu",
        cameras=f"[{', '.join(SIZES)}]",
        max_gap=3600.0,
    )
    return Cameras(peer, image)


def test_cameras_of_one_size_share_a_pass_and_the_other_does_not(cameras, peer, tiny_checkpoint):
    while min(peer.count(camera, "processed") for camera in SIZES) < 2:
        cameras.send()
    assert peer.report("model")["largest batch"] == "1"  # what auto means on a CPU
    assert {peer.report(camera)["batch p50/largest (frames)"] for camera in SIZES} == {"1 / 1"}

    assert peer.set_parameter("max_batch", 3).successful
    while min(len(masks) for masks in cameras.masks.values()) < 8:
        cameras.send()
    peer.wait_until(lambda: peer.report("left").get("batch p50/largest (frames)", "").endswith("/ 2"), "a batch")
    assert peer.fresh_report("model")["largest batch"] == "3" and peer.report("model")["batches held up by"] == ""
    assert peer.report("right")["batch p50/largest (frames)"].endswith("/ 2")
    assert peer.report("rear")["batch p50/largest (frames)"] == "1 / 1"
    counts = sorted(len(masks) for masks in cameras.masks.values())
    assert counts[-1] <= 2 * counts[0] + 1  # none starves

    # The same frames, one by one. The node may have remembered two from before masks were heard.
    alone = StreamingSegmenter(load_checkpoint(tiny_checkpoint), max_gap_s=3600.0)
    for camera, masks in cameras.masks.items():
        for order, number in enumerate(sorted(masks)):
            expected = alone.segment(picture(camera, number), number / 10, stream=camera)
            assert order < 2 or (masks[number] == expected.labels).mean() >= 0.999, (camera, number)
        assert expected.references == 2


def test_a_fault_in_a_batch_is_its_own_cameras(cameras, peer):
    assert peer.set_parameter("max_batch", 3).successful
    before = {camera: peer.count(camera, "processed") for camera in SIZES}
    warned = []
    while not int(peer.report("model").get("failed batches", 0)):
        cameras.send(white="left")
        warned.append(peer.report("model").get("level"))
    peer.wait_until(lambda: peer.count("left", "lost to faults") > 0, "a fault")
    report = peer.report("model")
    assert report["level"] == DiagnosticStatus.WARN or DiagnosticStatus.WARN in warned
    assert "one by one for" in report["batches held up by"] and "injected fault: white" in report["batches held up by"]
    while min(peer.count(camera, "processed") - before[camera] for camera in SIZES) < 2:
        cameras.send()
    assert peer.count("right", "lost to faults") == peer.count("rear", "lost to faults") == 0
    assert peer.count("left", "resets: fault") > 0 and peer.count("right", "resets") == 0
