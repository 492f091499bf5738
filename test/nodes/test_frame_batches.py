"""Which frames go together and what becomes of each, with cameras and segmenters made of paper."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

pytest.importorskip("rclpy", reason="no ROS 2 in this environment")

from sdcpc_ros.nodes.camera_stream import CameraStream, Frame
from sdcpc_ros.nodes.frame_batches import FrameBatches, largest_batch
from sdcpc_ros.nodes.parameters import NodeParameters, declarations_for

NAMES = ["left", "right", "rear"]
PARAMETERS = NodeParameters.from_values(
    {name: declaration.default for name, declaration in declarations_for(NAMES).items()} | {"cameras": NAMES}
)


class PaperCamera:
    """Prepares what it is given, unless `bad`."""

    def __init__(self, name: str) -> None:
        self.name, self.bad, self.outcomes = name, False, []

    def prepare(self, frame):
        return None if self.bad else SimpleNamespace(request=f"{self.name} {frame.stamp_ns}")

    def finish(self, prepared, outcome):
        self.outcomes.append((prepared.request, outcome))


class PaperSegmenter:
    device = "cpu"

    def __init__(self):
        self.batches, self.asked, self.error = [], [], None

    def network_size(self, size):
        return size[0] // 2, size[1] // 2

    def batch_size(self, size, waiting, most):
        if self.error:
            raise self.error
        self.asked.append((size, waiting, most))
        return min(waiting, most)

    def segment_batch(self, requests, most):
        if self.error:
            raise self.error
        assert most == 2
        self.batches.append(requests)
        return [f"mask of {request}" for request in requests]


@pytest.fixture
def cameras():
    return {name: PaperCamera(name) for name in NAMES}


@pytest.fixture
def segmenter():
    return PaperSegmenter()


@pytest.fixture
def batches(cameras, segmenter):
    return FrameBatches(cameras, segmenter, lambda: replace(PARAMETERS, max_batch=2))


def batch(*names: str):
    return [(CameraStream(name, max_gap_s=1.0), frame(stamp)) for stamp, name in enumerate(names)]


def frame(stamp: int) -> Frame:
    return Frame(object(), stamp, "eye", (8, 10), "rgb8", 0.0)


@pytest.mark.parametrize(
    ("device", "max_batch", "largest"),
    [("cpu", 0, 1), ("cuda", 0, 3), ("cuda:1", 0, 3), ("cpu", 2, 2), ("cpu", 64, 3), ("cuda", 1, 1)],
)
def test_the_largest_batch_is_what_is_asked_for_or_follows_from_the_device(device, max_batch, largest):
    assert largest_batch(replace(PARAMETERS, max_batch=max_batch), device) == largest


def test_frames_are_alike_by_what_the_network_sees(batches, segmenter):
    assert batches.kind(frame(1)) == (4, 5)
    assert batches.size((4, 5), 3) == 2 and segmenter.asked == [((4, 5), 3, 2)]


def test_each_camera_gets_its_own_mask(batches, cameras, segmenter):
    batches.process(batch("left", "rear"))
    assert segmenter.batches == [["left 0", "rear 1"]]
    assert cameras["left"].outcomes == [("left 0", "mask of left 0")]
    assert cameras["rear"].outcomes == [("rear 1", "mask of rear 1")] and cameras["right"].outcomes == []


def test_a_frame_that_cannot_be_prepared_keeps_the_others_from_nothing(batches, cameras, segmenter):
    cameras["left"].bad = True
    batches.process(batch("left", "rear"))
    assert segmenter.batches == [["rear 1"]] and cameras["left"].outcomes == []
    assert cameras["rear"].outcomes == [("rear 1", "mask of rear 1")]


def test_nothing_that_goes_wrong_ends_the_thread(batches, cameras, segmenter):
    segmenter.error = RuntimeError("can't start new thread")
    assert batches.size((4, 5), 3) == 1
    batches.process(batch("left", "rear"))
    for name, request in (("left", "left 0"), ("rear", "rear 1")):
        assert cameras[name].outcomes == [(request, segmenter.error)]
