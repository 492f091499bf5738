"""The worker's path from image messages to published masks, with stand-ins for publishers and the network."""

from __future__ import annotations

import array
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="no ROS 2 in this environment")

from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from sdcpc_ros.images.decoding import BadImage, ImageFormat
from sdcpc_ros.nodes.batch_processor import BatchProcessor, largest_batch
from sdcpc_ros.nodes.camera_stream import CameraStream, ReceivedImage
from sdcpc_ros.nodes.parameters import NodeParameters, declarations_for
from sdcpc_ros.streaming.segmenter import Segmentation

NAMES = ["left", "right", "rear"]
PARAMETERS = NodeParameters.from_values(
    {name: declaration.default for name, declaration in declarations_for(NAMES).items()}
    | {"cameras": NAMES, "max_batch": 2}
)
SIZE = (40, 48)


class PaperCamera:
    """Notes what is published and reported, in order."""

    camera_info = None

    def __init__(self, name: str) -> None:
        self.stream, self.outputs, self.events = CameraStream(name), self, []

    def needs_confidence(self, parameters):
        return self.stream.name == "rear"

    def publish(self, header, image, labels, confidence, camera_info, parameters):
        self.events.append(("mask", header.stamp.sec, image.shape[:2], labels, parameters.overlay_opacity))

    def report_reset(self, image, cause, parameters):
        self.events.append((cause, image.stamp_ns))

    def report_lost(self, message, error):
        self.events.append((type(error), message.header.stamp.sec * 10**9))


class PaperSegmenter:
    """Labels each frame with its stream's name; sees images at half their size."""

    device, max_gap_s = "cpu", None

    def __init__(self):
        self.batches, self.asked, self.error, self.resets = [], [], None, {}

    def network_size(self, size):
        return size[0] // 2, size[1] // 2

    def batch_size(self, size, waiting, most):
        if self.error:
            raise self.error
        self.asked.append((size, waiting, most))
        return min(waiting, most)

    def segment_batch(self, frames, most):
        if self.error:
            raise self.error
        assert most == 2
        self.batches.append(frames)
        return [
            ValueError("poison") if frame.image.min() == 255 else self._segmentation(frame.stream) for frame in frames
        ]

    def _segmentation(self, stream):
        return Segmentation(f"mask of {stream}", None, 0, self.resets.get(stream), {"network": 3.0}, 2)


@pytest.fixture
def cameras():
    return {name: PaperCamera(name) for name in NAMES}


@pytest.fixture
def segmenter():
    return PaperSegmenter()


@pytest.fixture
def declared():
    return SimpleNamespace(current=PARAMETERS)


@pytest.fixture
def processor(cameras, segmenter, declared):
    return BatchProcessor(cameras, segmenter, declared)


def image(stamp: int, value: int = 7) -> ReceivedImage:
    header = Header(frame_id="eye")
    header.stamp.sec = stamp
    data = array.array("B", np.full((*SIZE, 3), value, np.uint8).tobytes())
    message = Image(header=header, height=SIZE[0], width=SIZE[1], encoding="rgb8", step=SIZE[1] * 3, data=data)
    return ReceivedImage(message, ImageFormat(*SIZE, "rgb8"), stamp * 10**9, 0.0)


def batch(cameras, **images):
    return [(cameras[name].stream, received) for name, received in images.items()]


@pytest.mark.parametrize(
    ("device", "max_batch", "largest"),
    [("cpu", 0, 1), ("cuda", 0, 3), ("cuda:1", 0, 3), ("cpu", 2, 2), ("cpu", 64, 3), ("cuda", 1, 1)],
)
def test_the_largest_batch_is_max_batch_or_follows_from_the_device(device, max_batch, largest):
    assert largest_batch(replace(PARAMETERS, max_batch=max_batch), device) == largest


def test_images_of_one_network_size_may_share_a_batch(processor, segmenter):
    assert processor.batch_key(image(1)) == (20, 24)
    assert processor.batch_size((20, 24), 3) == 2 and segmenter.asked == [((20, 24), 3, 2)]


def test_each_camera_gets_its_own_mask(processor, cameras, segmenter):
    processor.process(batch(cameras, left=image(1), rear=image(2)))
    (frames,) = segmenter.batches
    assert [(f.stream, f.stamp_s, f.frame_id, f.encoding, f.confidence) for f in frames] == [
        ("left", 1.0, "eye", "rgb8", False),
        ("rear", 2.0, "eye", "rgb8", True),
    ]
    for name, stamp in (("left", 1), ("rear", 2)):
        assert cameras[name].events == [("mask", stamp, SIZE, f"mask of {name}", 0.5)]
        status = cameras[name].stream.status()
        assert (status.counts["processed"], status.batch) == (1, (2, 2))
        assert set(status.stage_ms) == {"decode", "network", "publish", "total"}
    assert cameras["right"].events == []


def test_a_reset_is_reported_before_its_mask(processor, cameras, segmenter):
    segmenter.resets = {"left": "backward"}
    processor.process(batch(cameras, left=image(1), rear=image(2)))
    assert cameras["left"].events == [("backward", 10**9), ("mask", 1, SIZE, "mask of left", 0.5)]
    assert len(cameras["rear"].events) == 1


def test_parameters_act_on_the_next_batch(processor, cameras, segmenter, declared):
    processor.process(batch(cameras, left=image(1)))
    assert segmenter.max_gap_s == PARAMETERS.max_gap
    declared.current = replace(PARAMETERS, max_gap=7.0, overlay_opacity=0.25)
    processor.process(batch(cameras, left=image(2)))
    assert segmenter.max_gap_s == 7.0 and cameras["left"].events[-1][-1] == 0.25


def test_output_at_network_size_keeps_the_source_size_for_the_time_rules(processor, cameras, segmenter, declared):
    declared.current = replace(PARAMETERS, output_size="network")
    processor.process(batch(cameras, left=image(1)))
    (frame,) = segmenter.batches[0]
    assert frame.image.shape == (20, 24, 3) and frame.source_size == SIZE
    assert cameras["left"].events == [("mask", 1, (20, 24), "mask of left", 0.5)]


def test_an_image_that_cannot_be_decoded_costs_itself_only(processor, cameras, segmenter):
    compressed = CompressedImage(header=image(1).message.header, format="jpeg")
    broken = ReceivedImage(compressed, ImageFormat(*SIZE, "jpeg"), 10**9, 0.0)
    processor.process(batch(cameras, left=broken, rear=image(2)))
    assert [frame.stream for frame in segmenter.batches[0]] == ["rear"]
    assert cameras["left"].events == [(BadImage, 10**9)] and cameras["left"].stream.status().counts == {}
    assert [event[0] for event in cameras["rear"].events] == ["mask"]


def test_a_frame_that_the_network_fails_on_costs_itself_only(processor, cameras):
    processor.process(batch(cameras, left=image(1, value=255), rear=image(2)))
    assert cameras["left"].events == [(ValueError, 10**9)]
    assert [event[0] for event in cameras["rear"].events] == ["mask"]


def test_a_failure_to_publish_costs_its_own_image_only(processor, cameras, monkeypatch):
    monkeypatch.setattr(cameras["left"], "publish", lambda *_: 1 / 0)
    processor.process(batch(cameras, left=image(1), rear=image(2)))
    assert cameras["left"].events == [(ZeroDivisionError, 10**9)]
    assert [event[0] for event in cameras["rear"].events] == ["mask"]


def test_no_error_ends_the_thread(processor, cameras, segmenter):
    segmenter.error = RuntimeError("can't start new thread")
    assert processor.batch_size((20, 24), 3) == 1
    processor.process(batch(cameras, left=image(1), rear=image(2)))
    assert cameras["left"].events == [(RuntimeError, 10**9)]
    assert cameras["rear"].events == [(RuntimeError, 2 * 10**9)]
