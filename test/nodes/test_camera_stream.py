"""The newest-frame slot and the rules of time, with frames made by hand."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdcpc_ros.nodes.camera_stream import RESET_CAUSES, CameraStream, Frame


def frame(stamp_s: float = 1.0, **fields) -> Frame:
    values = {"message": object(), "frame_id": "eye", "size": (4, 5), "encoding": "rgb8", "received_s": 0.0} | fields
    return Frame(stamp_ns=round(stamp_s * 1e9), **values)


@pytest.fixture
def stream() -> CameraStream:
    return CameraStream("eye", max_gap_s=1.0)


def test_the_newest_frame_wins(stream):
    frames = [frame(i) for i in range(3)]
    for offered in frames:
        stream.offer(offered)
    assert stream.take() is frames[-1]
    assert stream.take() is None
    assert (stream.status().received, stream.status().dropped) == (3, {"newer": 2})


@pytest.mark.parametrize(
    ("second", "cause"),
    [
        (frame(1.0), None),  # a stamp that stands still is not a jump: some drivers send none
        (frame(1.5), None),
        (frame(2.0), None),  # the longest gap that is allowed
        (frame(2.001), "gap"),
        (frame(0.999), "backward"),
        (frame(0.0), "backward"),
        (frame(1.1, size=(5, 4)), "size"),
        (frame(1.1, encoding="bgr8"), "encoding"),
        (frame(1.1, frame_id="other"), "frame_id"),
        (frame(0.5, frame_id="other"), "frame_id"),  # another camera's clock says nothing about this one's
    ],
)
def test_a_break_between_frames_has_one_cause(stream, second, cause):
    assert stream.follow(frame(1.0)) is None
    assert stream.follow(second) == cause
    assert dict(stream.status().resets) == ({cause: 1} if cause else {})


def test_after_a_loop_no_frame_is_taken_for_a_jump_again(stream):
    causes = [stream.follow(frame(stamp)) for stamp in (5.0, 5.1, 1.0, 1.1, 1.2)]
    assert causes == [None, None, "backward", None, None]


def test_frames_are_judged_against_the_last_that_was_worked_on_not_the_last_that_came(stream):
    stream.follow(frame(1.0))
    stream.offer(frame(1.5))
    stream.offer(frame(2.5))
    assert stream.follow(stream.take()) == "gap"


def test_the_gap_may_change(stream):
    stream.follow(frame(1.0))
    stream.max_gap_s = 10.0
    assert stream.follow(frame(9.0)) is None


def test_a_requested_reset_comes_before_the_next_frame_once(stream):
    stream.request_reset()
    assert [stream.follow(frame(i / 10)) for i in range(3)] == ["requested", None, None]


def test_after_a_fault_the_buffer_is_emptied(stream):
    stream.follow(frame(1.0))
    stream.count_fault()
    assert stream.follow(frame(1.1)) == "fault"
    assert stream.status().faults == 1


def test_forgetting_drops_what_waits_and_keeps_the_counts(stream):
    stream.follow(frame(5.0))
    stream.offer(frame(5.1))
    stream.request_reset()
    stream.forget()
    assert stream.take() is None
    assert stream.follow(frame(1.0)) is None
    assert (stream.status().received, stream.status().dropped) == (1, {"deactivated": 1})


def test_a_rejected_image_is_counted_by_cause(stream):
    stream.count_rejected("truncated", received_s=3.0)
    stream.offer(frame(received_s=4.0))
    stream.take()
    stream.count_rejected("corrupt")  # found when it was decoded; its arrival is counted already
    status = stream.status()
    assert dict(status.rejected) == {"truncated": 1, "corrupt": 1}
    assert (status.received, status.last_received_s) == (2, 4.0)


def test_stage_times_are_summarised(stream):
    for milliseconds in range(1, 101):
        stream.count_processed({"network": float(milliseconds)})
    p50, p95 = stream.status().stage_ms["network"]
    assert p50 == pytest.approx(50.5) and p95 == pytest.approx(95.05)
    for _ in range(300):  # the window moves on
        stream.count_processed({"network": 7.0})
    assert stream.status().stage_ms["network"] == (7.0, 7.0)
    assert stream.status().processed == 400


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
    assert stream.waiting() is None and stream.status().dropped == {}


def test_the_previous_image_is_not_kept_in_memory(stream):
    import weakref

    class Message:
        pass

    message = Message()
    alive = weakref.ref(message)
    stream.follow(frame(message=message))
    del message
    assert alive() is None


@given(
    st.lists(
        st.tuples(st.floats(-100, 100), st.sampled_from(["a", "b"]), st.sampled_from([(4, 5), (5, 4)])), max_size=30
    )
)
def test_every_break_is_counted_once_by_one_cause(steps):
    stream = CameraStream("eye", max_gap_s=1.0)
    causes = [stream.follow(frame(stamp, frame_id=name, size=size)) for stamp, name, size in steps]
    found = [cause for cause in causes if cause]
    assert set(found) <= set(RESET_CAUSES)
    assert sum(stream.status().resets.values()) == len(found)


def test_offering_and_taking_at_once_loses_no_count(stream):
    taken = []

    def take() -> None:
        while not (done.is_set() and stream.status().received == 2000 and stream._waiting is None):
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
    assert stream.status().dropped["newer"] + len(taken) == 2000
    assert taken == sorted(taken) and taken[-1] == 1999 * 10**9
