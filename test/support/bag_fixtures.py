"""Bags, and other input, small enough to make for every test."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import numpy as np
import pytest

from sdcpc_ros.bags.messages import (
    CAMERA_INFO,
    IMAGE,
    RawMessage,
    serialise_camera_info,
    serialise_compressed,
    serialise_image,
)
from sdcpc_ros.bags.writer import BagWriter
from sdcpc_ros.model_files.checkpoint import load_checkpoint
from sdcpc_ros.replay.bag_evaluation import Model
from sdcpc_ros.replay.image_bags import StreetBag, write_street_bag
from sdcpc_ros.streaming.segmenter import StreamingSegmenter

SIZE = (6, 8)
START_NS = 1_700_000_000_000_000_000
PERIOD_NS = 100_000_000


def camera_messages(frames: int, camera: str = "/camera") -> list[RawMessage]:
    """A camera drive at 10 Hz: CameraInfo, image and ground truth of each frame under one stamp; frame i is all i."""
    messages = []
    for index in range(frames):
        time_ns = START_NS + index * PERIOD_NS
        image, labels = np.full((*SIZE, 3), index, np.uint8), np.full(SIZE, index % 11, np.uint8)
        info = serialise_camera_info(SIZE, np.eye(3), time_ns, "optical")
        messages += [
            RawMessage(f"{camera}/camera_info", CAMERA_INFO, time_ns, info),
            RawMessage(f"{camera}/image_raw", IMAGE, time_ns, serialise_image(image, "rgb8", time_ns, "optical")),
            RawMessage(f"{camera}/ground_truth", IMAGE, time_ns, serialise_image(labels, "mono8", time_ns, "optical")),
        ]
    return messages


def write_all(bag: BagWriter, messages: Iterable[RawMessage]) -> None:
    for message in messages:
        bag.write(message)


def serialise_jpeg(image: np.ndarray, stamp_ns: int, frame_id: str) -> bytes:
    """A sensor_msgs/CompressedImage of an (H, W, 3) uint8 RGB image, as CDR."""
    encoded, jpeg = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    assert encoded
    return serialise_compressed(jpeg.tobytes(), "rgb8; jpeg compressed bgr8", stamp_ns, frame_id)


def picture(index: int, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    """An RGB image: bright at the left, dark at the right, and a little brighter with every frame."""
    ramp = np.linspace(220, 20, size[1], dtype=np.float32)[None, :, None] + 4 * index
    return np.broadcast_to(ramp, (*size, 3)).astype(np.uint8)


@pytest.fixture(name="camera_messages")
def camera_messages_fixture() -> Callable[..., list[RawMessage]]:
    return camera_messages


@pytest.fixture
def write_bag(tmp_path: Path) -> Callable[..., Path]:
    """Writes messages to a bag in the test's folder and returns its path."""

    def write(messages: list[RawMessage], name: str = "drive", storage: str = "mcap") -> Path:
        with BagWriter(tmp_path / name, storage=storage) as bag:
            write_all(bag, messages)
        return tmp_path / name

    return write


@pytest.fixture
def drive(write_bag: Callable[..., Path]) -> Path:
    """A drive of five frames, mcap."""
    return write_bag(camera_messages(5))


STREET = StreetBag(seed=3, size=(64, 96), length=18, rate_hz=15.0)


@pytest.fixture(scope="session")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eighteen frames of a small street with its ground truth, mcap: what a network can be run on. Read only."""
    path = tmp_path_factory.mktemp("bags") / "street"
    write_street_bag(path, STREET)
    return path


@pytest.fixture(scope="session")
def tiny_model(tiny_checkpoint: Path) -> Model:
    """Of random weights, milliseconds a frame."""
    return Model(StreamingSegmenter(load_checkpoint(tiny_checkpoint)), tiny_checkpoint.stem, "0" * 64)


@pytest.fixture(scope="session")
def recurrent_model(recurrent_checkpoint: Path) -> Model:
    """The same weights, but what a frame is labelled depends on all frames before it."""
    return Model(StreamingSegmenter(load_checkpoint(recurrent_checkpoint)), "recurrent", "1" * 64)
