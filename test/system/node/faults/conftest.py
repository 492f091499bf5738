"""Two cameras of one node, one raw and one compressed, and what every fault is judged by."""

from __future__ import annotations

import array
import itertools
import os
from collections import Counter
from collections.abc import Mapping
from typing import Any

import cv2
import pytest
from sensor_msgs.msg import CompressedImage, Image

#: What /diagnostics counts of a camera; of these, sums of others.
COUNTS = ("received", "processed", "dropped", "rejected", "lost to faults", "resets")
SUMS = ("dropped", "rejected", "resets")


class Target:
    """The node under attack: after each fault it lives, has counted it, and serves the next good frame."""

    FRONT, REAR = "/front/image_raw", "/rear/image_raw/compressed"

    def __init__(self, process, peer, image, street) -> None:
        self.process, self.peer = process, peer
        self._image, self._street = image, street
        self._stamps = itertools.count(1000)
        cameras = ("front", "rear")
        self.served = self._noted_served = 0  # good frames that were answered
        self._noted: dict[str, Counter[str]] = {camera: Counter() for camera in cameras}
        self.masks = {camera: peer.collect(peer.topic(f"{camera}/label/image_raw"), Image) for camera in cameras}

    def good_image(self, stamp_s: float | None = None, **fields: Any) -> Image:
        stamp_s = next(self._stamps) if stamp_s is None else stamp_s
        return self._image(fields.pop("pixels", self._street()), stamp_s, **fields)

    def good_compressed(self) -> CompressedImage:
        message = CompressedImage(format="jpeg")
        message.header.stamp.sec = next(self._stamps)
        message.data = array.array("B", cv2.imencode(".jpg", self._street())[1].tobytes())
        return message

    def serves(self, camera: str = "front", message: Any = None) -> Image:
        """Asserts that a good frame of the camera is answered, by a living node, and returns the mask."""
        if message is None:
            message = self.good_image() if camera == "front" else self.good_compressed()
        mask = self.peer.exchange(self.FRONT if camera == "front" else self.REAR, message, self.masks[camera])
        assert self.process.is_alive() and mask.step == mask.width
        self.served += 1
        return mask

    def send_until_counted(self, message: Any, camera: str, key: str) -> int:
        """Sends a message, or its bytes, until the camera's count has risen, and returns how often: best effort."""
        kind = Image if camera == "front" else CompressedImage
        publisher = self.peer.publisher(self.FRONT if camera == "front" else self.REAR, kind)
        before, sent = self.peer.count(camera, key), 0

        def counted() -> bool:
            nonlocal sent
            publisher.publish(message)
            sent += 1
            self.peer.spin_for(0.2)
            return self.peer.count(camera, key) > before

        self.peer.wait_until(counted, f"a count of {key}")
        return sent

    def note(self, fault: str, *, sent: int, camera: str = "front", counted: Mapping[str, int] | None = None) -> None:
        """Notes a fault with what was counted of it, by default all that the camera's counts rose by since the last.

        To be called last. Without a report to write it does nothing, for it waits for a fresh one of the node's.
        """
        if not os.environ.get("SDCPC_FAULT_REPORT"):
            return
        if counted is None:
            report = self.peer.fresh_report(camera)
            now = Counter({key: int(value) for key, value in report.items() if key.startswith(COUNTS)})
            counted = {key: count for key, count in (now - self._noted[camera]).items() if key not in SUMS}
            self._noted[camera] = now
        self.note_fault(fault, sent=sent, counted=counted, served=self.served - self._noted_served)
        self._noted_served = self.served

    def balance(self, camera: str) -> dict[str, Any]:
        """A report in which every image that came is accounted for."""

        def balanced() -> dict[str, Any] | None:
            report = self.peer.report(camera)
            done = sum(int(report.get(key, 0)) for key in ("processed", "dropped", "rejected", "lost to faults"))
            return report if report and int(report["received"]) == done else None

        return self.peer.wait_until(balanced, f"counts of {camera} that add up: {self.peer.report(camera)}")


@pytest.fixture(scope="module")
def attacked(start_node, peer, image, street, tiny_checkpoint, tmp_path_factory) -> Target:
    """Its model is a file of its own, which a test may damage."""
    model = tmp_path_factory.mktemp("model") / "mine.safetensors"
    model.write_bytes(tiny_checkpoint.read_bytes())
    process = start_node(model=model, device="cpu", cameras="[front, rear]", rear__transport="compressed")
    target = Target(process, peer, image, street)
    target.model = model
    return target


@pytest.fixture
def target(attacked: Target, note_fault) -> Target:
    """The module's node, for one test to note its fault of."""
    attacked.note_fault = note_fault
    return attacked
