"""The slot for the newest image, and the counters of a camera."""

from __future__ import annotations

import threading
import time

import pytest

from sdcpc_ros.images.decoding import ImageFormat
from sdcpc_ros.nodes.camera_stream import CameraStream, ReceivedImage


def frame(stamp_s: float = 1.0, size: tuple[int, int] = (4, 5), received_s: float = 0.0) -> ReceivedImage:
    return ReceivedImage(object(), ImageFormat(*size, "rgb8"), round(stamp_s * 1e9), received_s)


@pytest.fixture
def stream() -> CameraStream:
    return CameraStream("eye")


def test_the_newest_frame_wins(stream):
    frames = [frame(i) for i in range(3)]
    for offered in frames:
        stream.offer(offered)
    assert stream.take() is frames[-1]
    assert stream.take() is None
    assert stream.status().counts == {"received": 3, "dropped: newer": 2}


def test_stamps_are_divided_as_offline_evaluation_divides():
    stamp_ns = 1_700_000_000_123_456_789
    assert ReceivedImage(object(), ImageFormat(4, 5, "rgb8"), stamp_ns, 0.0).stamp_s == stamp_ns / 1e9


def test_resets_are_counted_by_cause(stream):
    for cause in ("gap", "backward", "gap"):
        stream.count(f"resets: {cause}")
    assert stream.status().counts == {"resets: gap": 2, "resets: backward": 1}


def test_deactivating_drops_what_waits_and_keeps_the_counts(stream):
    stream.activate(4.0)
    stream.offer(frame(5.1, received_s=6.0))
    assert stream.status().silent_s(7.5) == 1.5
    stream.deactivate()
    stream.deactivate()
    assert stream.take() is None and stream.status().silent_s(8.0) is None
    assert stream.status().counts == {"received": 1, "dropped: deactivated": 1}


def test_a_camera_that_was_activated_again_gets_its_time(stream):
    stream.offer(frame(received_s=6.0))
    stream.activate(100.0)
    assert stream.status().silent_s(101.0) == 1.0


def test_a_rejected_image_is_counted_by_cause(stream):
    stream.count("rejected: truncated", received_s=3.0)
    stream.offer(frame(received_s=4.0))
    stream.take()
    stream.count("rejected: corrupt")  # found when it was decoded; its arrival is counted already
    status = stream.status()
    assert status.counts == {"received": 2, "rejected: truncated": 1, "rejected: corrupt": 1}
    assert status.last_received_s == 4.0


def test_stage_times_are_summarised(stream):
    for milliseconds in range(1, 101):
        stream.count_processed({"network": float(milliseconds)})
    p50, p95 = stream.status().stage_ms["network"]
    assert p50 == pytest.approx(50.5) and p95 == pytest.approx(95.05)
    for _ in range(300):  # the window moves on
        stream.count_processed({"network": 7.0})
    assert stream.status().stage_ms["network"] == (7.0, 7.0)
    assert stream.status().counts["processed"] == 400


def test_warnings_are_rare_for_each_cause(stream):
    assert stream.may_warn("truncated", 0.0)
    assert not stream.may_warn("truncated", 4.9)
    assert stream.may_warn("corrupt", 4.9)
    assert stream.may_warn("truncated", 5.1)


def test_batches_are_summarised_over_the_last_frames(stream):
    assert stream.status().batch is None
    for batch in (1, 4, 1, 2, 2):
        stream.count_processed({}, batch)
    assert stream.status().batch == (2, 4)


def test_a_frame_that_is_looked_at_or_not_accepted_stays(stream):
    assert stream.waiting() is None and stream.take(lambda _: True) is None
    stream.offer(frame(1.0))
    assert stream.waiting() is stream.waiting() is not None
    assert stream.take(lambda waiting: waiting.size == (1, 1)) is None
    assert stream.take(lambda waiting: waiting.size == frame(1.0).size) is not None
    assert stream.waiting() is None and stream.status().counts == {"received": 1}


def test_offering_and_taking_at_once_loses_no_count(stream):
    taken = []

    def take() -> None:
        give_up_s = time.monotonic() + 30
        while not (done.is_set() and stream.waiting() is None) and time.monotonic() < give_up_s:
            got = stream.take()
            if got:
                taken.append(got.stamp_ns)

    done = threading.Event()
    taker = threading.Thread(target=take)
    taker.start()
    for i in range(2000):
        stream.offer(frame(i))
    done.set()
    taker.join(30)
    counts = stream.status().counts
    assert counts["received"] == 2000 == counts["dropped: newer"] + len(taken)
    assert taken == sorted(taken) and taken[-1] == 1999 * 10**9
