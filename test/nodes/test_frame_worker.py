"""The worker's thread: fair turns, sleep and end."""

from __future__ import annotations

import threading
import time

import pytest

from sdcpc_ros.nodes.camera_stream import CameraStream, Frame
from sdcpc_ros.nodes.frame_worker import FrameWorker

DEADLINE_S = 30


def frame(stamp: int) -> Frame:
    return Frame(object(), stamp, "eye", (4, 5), "rgb8", 0.0)


class Recorder:
    """Stands where the network would: remembers what it is given, and can be held up."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int]] = []
        self.go = threading.Event()
        self.go.set()
        self.busy = threading.Event()

    def __call__(self, stream: CameraStream, taken: Frame) -> None:
        self.seen.append((stream.name, taken.stamp_ns))
        self.busy.set()
        assert self.go.wait(DEADLINE_S)

    def wait_for(self, count: int) -> None:
        give_up_s = time.monotonic() + DEADLINE_S
        while len(self.seen) < count:
            assert time.monotonic() < give_up_s, self.seen
            time.sleep(0.001)


@pytest.fixture
def streams() -> list[CameraStream]:
    return [CameraStream(name, max_gap_s=1.0) for name in ("a", "b", "c")]


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def worker(streams, recorder):
    worker = FrameWorker(streams, recorder)
    worker.start()
    yield worker
    recorder.go.set()
    worker.stop()


def offer(worker: FrameWorker, stream: CameraStream, stamp: int) -> None:
    stream.offer(frame(stamp))
    worker.notify()


def test_each_frame_offered_in_time_is_worked_on(worker, streams, recorder):
    for stamp in range(50):
        offer(worker, streams[stamp % 3], stamp)
        recorder.wait_for(stamp + 1)
    assert [stamp for _, stamp in recorder.seen] == list(range(50))


def test_a_busy_camera_does_not_starve_the_others(worker, streams, recorder):
    recorder.go.clear()
    offer(worker, streams[0], 0)
    assert recorder.busy.wait(DEADLINE_S)
    for stamp in range(1, 20):
        for stream in streams:
            offer(worker, stream, stamp)
    recorder.go.set()
    recorder.wait_for(4)
    assert recorder.seen == [("a", 0), ("b", 19), ("c", 19), ("a", 19)]  # the newest of each, the others first


def test_it_stops_after_the_frame_in_work_and_begins_no_other(streams, recorder):
    worker = FrameWorker(streams, recorder)
    worker.start()
    recorder.go.clear()
    for stream in streams:
        offer(worker, stream, 1)
    assert recorder.busy.wait(DEADLINE_S)
    stopper = threading.Thread(target=worker.stop)
    stopper.start()
    stopper.join(0.1)
    assert stopper.is_alive()  # waits for the frame
    recorder.go.set()
    stopper.join(DEADLINE_S)
    assert not stopper.is_alive()
    assert len(recorder.seen) == 1


def test_it_sleeps_when_there_is_nothing_to_do(worker, recorder):
    before = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - before < 0.1
    assert recorder.seen == []
