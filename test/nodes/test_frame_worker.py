"""The worker's thread: fair turns, batches, sleep and end."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdcpc_ros.images.decoding import ImageFormat
from sdcpc_ros.nodes.camera_stream import CameraStream, ReceivedImage
from sdcpc_ros.nodes.frame_worker import Batch, FrameWorker

DEADLINE_S = 30


def frame(stamp: int, size: tuple[int, int] = (4, 5)) -> ReceivedImage:
    return ReceivedImage(object(), ImageFormat(*size, "rgb8"), stamp, 0.0)


class Recorder:
    """Stands where the network would: remembers what it is given, and can be held up. Takes one frame at a time."""

    def __init__(self, most: int = 1) -> None:
        self.most = most
        self.seen: list[tuple[str, int]] = []
        self.go = threading.Event()
        self.go.set()
        self.busy = threading.Event()

    def batch_key(self, taken: ReceivedImage) -> tuple[int, int]:
        return taken.size

    def batch_size(self, key: tuple[int, int], waiting: int) -> int:
        assert waiting > 1
        return min(waiting, self.most)

    def process(self, batch: Batch) -> None:
        self.seen += [(stream.name, taken.stamp_ns) for stream, taken in batch]
        self.busy.set()
        assert self.go.wait(DEADLINE_S)

    def wait_for(self, count: int) -> None:
        give_up_s = time.monotonic() + DEADLINE_S
        while len(self.seen) < count:
            assert time.monotonic() < give_up_s, self.seen
            time.sleep(0.001)


@pytest.fixture
def streams() -> list[CameraStream]:
    return [CameraStream(name) for name in ("a", "b", "c")]


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


def test_the_newest_frame_wins(streams):
    worker = FrameWorker(streams, Recorder())
    frames = [frame(stamp) for stamp in range(3)]
    for offered in frames:
        worker.offer(streams[0], offered)
    assert worker.take_batch() == [(streams[0], frames[-1])]
    assert worker.take_batch() == []
    assert streams[0].status().counts == {"dropped: newer": 2}


def test_each_frame_offered_in_time_is_worked_on(worker, streams, recorder):
    for stamp in range(50):
        worker.offer(streams[stamp % 3], frame(stamp))
        recorder.wait_for(stamp + 1)
    assert [stamp for _, stamp in recorder.seen] == list(range(50))


def test_a_busy_camera_does_not_starve_the_others(worker, streams, recorder):
    recorder.go.clear()
    worker.offer(streams[0], frame(0))
    assert recorder.busy.wait(DEADLINE_S)
    for stamp in range(1, 20):
        for stream in streams:
            worker.offer(stream, frame(stamp))
    recorder.go.set()
    recorder.wait_for(4)
    assert recorder.seen == [("a", 0), ("b", 19), ("c", 19), ("a", 19)]  # the newest of each, the others first


def test_offering_and_taking_at_once_loses_no_frame(worker, streams, recorder):
    for stamp in range(2000):
        worker.offer(streams[0], frame(stamp))
    give_up_s = time.monotonic() + DEADLINE_S
    while recorder.seen[-1:] != [("a", 1999)]:
        assert time.monotonic() < give_up_s
        time.sleep(0.001)
    stamps = [stamp for _, stamp in recorder.seen]
    assert stamps == sorted(stamps)
    assert streams[0].status().counts["dropped: newer"] + len(stamps) == 2000


def test_it_stops_after_the_frame_in_work_and_begins_no_other(streams, recorder):
    worker = FrameWorker(streams, recorder)
    worker.start()
    recorder.go.clear()
    for stream in streams:
        worker.offer(stream, frame(1))
    assert recorder.busy.wait(DEADLINE_S)
    stopper = threading.Thread(target=worker.stop)
    stopper.start()
    stopper.join(0.1)
    assert stopper.is_alive()  # waits for the frame
    recorder.go.set()
    stopper.join(DEADLINE_S)
    assert not stopper.is_alive()
    assert len(recorder.seen) == 1
    assert [stream.status().counts["dropped: deactivated"] for stream in streams] == [0, 1, 1]
    assert worker.take_batch() == []


def test_it_sleeps_when_there_is_nothing_to_do(worker, recorder):
    before = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - before < 0.1
    assert recorder.seen == []


def test_frames_of_one_size_go_together_and_wait_for_none(streams):
    worker = FrameWorker(streams, Recorder(most=3))
    for stream, size in zip(streams, [(4, 5), (8, 8), (4, 5)]):
        worker.offer(stream, frame(1, size))
    names = [[stream.name for stream, _ in worker.take_batch()] for _ in range(3)]
    assert names == [["a", "c"], ["b"], []]


def test_a_frame_that_changes_its_size_while_it_is_looked_at_is_left_for_its_turn(streams):
    class Slow(Recorder):
        def batch_size(self, key, waiting):  # meanwhile a newer one comes
            worker.offer(streams[1], frame(2, size=(8, 8)))
            return super().batch_size(key, waiting)

    worker = FrameWorker(streams, Slow(most=3))
    for stream in streams:
        worker.offer(stream, frame(1))
    assert [[stream.name for stream, _ in worker.take_batch()] for _ in range(2)] == [["a", "c"], ["b"]]
    assert streams[1].status().counts["dropped: newer"] == 1


#: Cameras' sizes, the largest batch, and who sends a frame before each batch is taken.
_TRAFFIC = st.tuples(
    st.lists(st.sampled_from([(4, 5), (8, 8), (9, 9)]), min_size=1, max_size=6),
    st.integers(1, 6),
    st.lists(st.sets(st.integers(0, 5)), max_size=40),
)


@given(_TRAFFIC)
def test_batches_are_alike_small_and_fair_whatever_comes(traffic):
    """A frame waits for no more batches than there are other cameras, and what is taken is the newest of each."""
    sizes, most, arrivals = traffic
    streams = [CameraStream(str(number)) for number in range(len(sizes))]
    worker = FrameWorker(streams, Recorder(most))
    newest, leaders = {}, {}  # of cameras that wait: the stamp, and who came first in each batch since they began to
    for stamp, senders in enumerate(arrivals):
        for number in senders & set(range(len(sizes))):
            worker.offer(streams[number], frame(stamp, sizes[number]))
            newest[str(number)] = stamp
            leaders.setdefault(str(number), [])
        batch = worker.take_batch()
        assert bool(batch) == bool(newest)
        names = [stream.name for stream, _ in batch]
        assert len(set(names)) == len(names) <= most
        assert len({taken.size for _, taken in batch}) <= 1
        for stream, taken in batch:
            assert taken.stamp_ns == newest.pop(stream.name)
            del leaders[stream.name]
        alike = [name for name in newest if batch and sizes[int(name)] == batch[0][1].size]
        assert not alike or len(batch) == most  # none is left behind that there was room for
        for seen in leaders.values():
            seen += names[:1]
            assert len(set(seen)) == len(seen)
