"""The counters of a camera."""

from __future__ import annotations

import threading

import pytest

from sdcpc_ros.images.decoding import ImageFormat
from sdcpc_ros.nodes.camera_stream import CameraStream, ReceivedImage


@pytest.fixture
def stream() -> CameraStream:
    return CameraStream("eye")


def test_stamps_are_divided_as_offline_evaluation_divides():
    stamp_ns = 1_700_000_000_123_456_789
    assert ReceivedImage(object(), ImageFormat(4, 5, "rgb8"), stamp_ns, 0.0).stamp_s == stamp_ns / 1e9


def test_resets_are_counted_by_cause(stream):
    for cause in ("gap", "backward", "gap"):
        stream.count(f"resets: {cause}")
    assert stream.status().counts == {"resets: gap": 2, "resets: backward": 1}


def test_silence_is_counted_from_the_last_image_or_since_it_is_active(stream):
    assert stream.status().silent_s(8.0) is None
    stream.active_since_s = 4.0
    assert stream.status().silent_s(5.0) == 1.0
    stream.count_received(6.0)
    assert stream.status().silent_s(7.5) == 1.5
    stream.active_since_s = 100.0  # activated again, it gets its time
    assert stream.status().silent_s(101.0) == 1.0
    assert (stream.status().counts, stream.status().last_received_s) == ({"received": 1}, 6.0)


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


def test_counting_in_two_threads_loses_none(stream):
    threads = [threading.Thread(target=lambda: [stream.count("received") for _ in range(2000)]) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert stream.status().counts == {"received": 4000}
