"""Images with the exact quirks of common drivers, through the node and through `sdcpc evaluate-bag`.

The messages are made here; field by field they are what the drivers publish.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pytest
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image

from sdcpc_ros import cli
from sdcpc_ros.bags.messages import IMAGE, RawMessage
from sdcpc_ros.bags.reader import BagReader
from sdcpc_ros.bags.writer import BagWriter
from sdcpc_ros.datasets.synthetic_street import SyntheticStreet
from sdcpc_ros.labels.label_set import CAMVID_11
from sdcpc_ros.replay.node_process import LABEL_TOPIC

SIZE, FRAMES, START_NS, PERIOD_NS = (64, 96), 5, 1_700_000_000_000_000_000, 100_000_000


def as_it_is(image: np.ndarray) -> np.ndarray:
    return image


def to_bgra(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(image, cv2.COLOR_RGB2BGRA)


def to_yuyv(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(image, cv2.COLOR_RGB2YUV_YUY2)


def to_nv12(image: np.ndarray) -> np.ndarray:
    """(H * 3 / 2, W): luma, then rows of chroma pairs."""
    height, width = image.shape[:2]
    planar = cv2.cvtColor(image, cv2.COLOR_RGB2YUV_I420).reshape(-1)
    luma, chroma = planar[: height * width], planar[height * width :].reshape(2, -1)
    return np.concatenate([luma, chroma.T.reshape(-1)]).reshape(height * 3 // 2, width)


@dataclass(frozen=True)
class Driver:
    """How a driver fills an Image."""

    topic: str
    encoding: str
    frame_id: str
    pixels: Callable[[np.ndarray], np.ndarray] = as_it_is
    seen: Callable[[np.ndarray], np.ndarray] = as_it_is  # the RGB image that its pixels hold
    start_ns: int = START_NS
    period_ns: int = PERIOD_NS
    others: dict[str, str] = field(default_factory=dict)  # topic -> encoding of what else is in its bags


DRIVERS = {
    "realsense": Driver(
        "/camera/camera/color/image_raw",
        "rgb8",
        "camera_color_optical_frame",
        others={"/camera/camera/aligned_depth_to_color/image_raw": "16UC1"},
    ),
    "usb_cam": Driver(
        "/image_raw",
        "yuv422_yuy2",
        "default_cam",
        to_yuyv,
        lambda image: cv2.cvtColor(to_yuyv(image), cv2.COLOR_YUV2RGB_YUY2),
    ),
    "zed": Driver(
        "/zed/zed_node/rgb/image_rect_color",
        "bgra8",
        "zed_left_camera_optical_frame",
        to_bgra,
        others={"/zed/zed_node/depth/depth_registered": "32FC1"},
    ),
    "oak": Driver(
        "/oak/rgb/image_raw",
        "nv12",
        "oak_rgb_camera_optical_frame",
        to_nv12,
        lambda image: cv2.cvtColor(to_nv12(image), cv2.COLOR_YUV2RGB_NV12),
    ),
    "gscam": Driver("/camera/image_raw", "rgb8", "", start_ns=0, period_ns=0),  # without use_gst_timestamps or a clock
    "carla": Driver(
        "/carla/ego_vehicle/rgb_front/image",
        "bgra8",
        "ego_vehicle/rgb_front",
        to_bgra,
        start_ns=1_450_000_021,  # simulated time
        others={"/carla/ego_vehicle/semantic_segmentation_front/image": "bgra8"},
    ),
}


@pytest.fixture(scope="module")
def drive() -> list[tuple[np.ndarray, np.ndarray]]:
    """Images and their class ids."""
    street = SyntheticStreet(seed=2, size=SIZE, length=FRAMES, rate_hz=10.0)
    return [street[index] for index in range(FRAMES)]


def message_of(driver: Driver, index: int, pixels: np.ndarray, encoding: str) -> Image:
    """Height and width are the picture's, whatever rows its encoding has."""
    height, width = SIZE
    rows = np.ascontiguousarray(pixels).reshape(pixels.shape[0], -1).view(np.uint8)
    message = Image(height=height, width=width, encoding=encoding, step=rows.shape[1])
    message.data.frombytes(rows.tobytes())
    stamp_ns = driver.start_ns + index * driver.period_ns
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, 10**9)
    message.header.frame_id = driver.frame_id
    return message


def other_pixels(encoding: str, labels: np.ndarray) -> np.ndarray:
    if encoding == "bgra8":
        return to_bgra(CAMVID_11.palette()[labels])
    return np.full(SIZE, 1500, np.uint16 if encoding == "16UC1" else np.float32)


def write_bag(path: Path, driver: Driver, drive: list[tuple[np.ndarray, np.ndarray]]) -> Path:
    with BagWriter(path) as bag:
        for index, (image, labels) in enumerate(drive):
            pictures = {driver.topic: (driver.pixels(image), driver.encoding)}
            pictures |= {topic: (other_pixels(kind, labels), kind) for topic, kind in driver.others.items()}
            for topic, (pixels, encoding) in pictures.items():
                data = serialize_message(message_of(driver, index, pixels, encoding))
                bag.write(RawMessage(topic, IMAGE, START_NS + index * PERIOD_NS, data))
    return path


@pytest.fixture(scope="module")
def node(start_node, tiny_checkpoint):
    topics = {f"{name}__image_topic": driver.topic for name, driver in DRIVERS.items()}
    return start_node(model=tiny_checkpoint, device="cpu", cameras=f"[{', '.join(DRIVERS)}]", **topics)


@pytest.fixture(scope="module")
def first_labels(drive, tiny_checkpoint) -> dict[str, np.ndarray]:
    """Driver -> what the segmenter makes of its first image."""
    from sdcpc_ros import StreamingSegmenter

    segmenter = StreamingSegmenter(tiny_checkpoint, device="cpu")
    return {name: segmenter.segment(driver.seen(drive[0][0]), stream=name).labels for name, driver in DRIVERS.items()}


@pytest.mark.parametrize("name", DRIVERS)
def test_the_node_segments_it(node, peer, drive, first_labels, name):
    driver = DRIVERS[name]
    masks = peer.collect(peer.topic(f"{name}/label/image_raw"), Image)
    for index, (image, _) in enumerate(drive):
        sent = message_of(driver, index, driver.pixels(image), driver.encoding)
        mask = peer.exchange(driver.topic, sent, masks)
        assert (mask.header, mask.height, mask.width) == (sent.header, *SIZE)
        if index == 0:
            labels = np.frombuffer(mask.data, np.uint8).reshape(SIZE)
            assert (labels == first_labels[name]).mean() > 0.999  # thread counts may differ
    report = peer.fresh_report(name)
    assert (report["rejected"], report["resets"], report["lost to faults"]) == ("0", "0", "0")


@pytest.mark.parametrize("name", DRIVERS)
def test_evaluate_bag_takes_it(drive, first_labels, tiny_checkpoint, tmp_path, name):
    driver = DRIVERS[name]
    bag = write_bag(tmp_path / name, driver, drive)
    options = ["--model", str(tiny_checkpoint), "--device", "cpu", "--labelled-bag"]
    command = ["evaluate-bag", str(bag), *options, "-o", str(tmp_path / "out")]
    if name == "carla":
        command += ["--truth", "/carla/ego_vehicle/semantic_segmentation_front/image"]
    assert cli.main(command) == 0
    report = json.loads((tmp_path / "out" / name / "report.json").read_text())
    assert (report["bag"]["camera"], report["bag"]["unusable"], report["resets"]) == (driver.topic, 0, [])
    assert report["scores"]["frames"] == FRAMES
    assert report["scores"]["judged_frames"] == (FRAMES if name == "carla" else 0)
    if name == "carla":
        truth = np.concatenate([labels.ravel() for _, labels in drive])
        counts = np.array(report["confusion"]).sum(axis=1) + np.array(report["unlabelled"])
        assert counts.tolist() == np.bincount(truth[truth != 255], minlength=11).tolist()
    with BagReader(tmp_path / "out" / name / "labelled_bag") as labelled:
        masks = [labelled.deserialise(message) for message in labelled.messages(LABEL_TOPIC)]
    assert [(mask.header.frame_id, mask.height, mask.width) for mask in masks] == [(driver.frame_id, *SIZE)] * FRAMES
    stamps_ns = [mask.header.stamp.sec * 10**9 + mask.header.stamp.nanosec for mask in masks]
    assert stamps_ns == [driver.start_ns + index * driver.period_ns for index in range(FRAMES)]
    assert (masks[0].data.reshape(SIZE) == first_labels[name]).mean() > 0.999  # thread counts may differ
