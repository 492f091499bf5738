"""StreamingSegmenter's time rules: when a frame buffer is emptied, for which cause, and what a failed frame leaves."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdcpc_ros.inference.eager import EagerBackend
from sdcpc_ros.streaming.continuity import RESET_CAUSES
from sdcpc_ros.streaming.frame_buffer import MemoryPool
from sdcpc_ros.streaming.stream_frame import StreamFrame

SIZE, OTHER_SIZE = (32, 48), (48, 32)
VIDEO = np.random.default_rng(0).integers(0, 256, (4, *SIZE, 3), dtype=np.uint8)
IMAGE = VIDEO[0]


@pytest.fixture(scope="module")
def shared(new_segmenter):
    return new_segmenter()


@pytest.fixture
def segmenter(shared):
    """Without streams."""
    shared.remove_stream("camera")
    shared.max_gap_s = 1.0
    return shared


@pytest.fixture
def failing(monkeypatch):
    """The network fails on an image that is white all over."""
    step = EagerBackend.step

    def fail(self, image, references, age_s):
        if (image == 255).flatten(1).all(1).any():
            raise RuntimeError("out of memory")
        return step(self, image, references, age_s)

    monkeypatch.setattr(EagerBackend, "step", fail)
    return np.full((*SIZE, 3), 255, np.uint8)


@pytest.mark.parametrize(
    ("second", "cause"),
    [
        ({"stamp_s": 10.0}, None),  # some drivers send the same stamp again and again
        ({"stamp_s": 11.0}, None),  # the longest gap that is allowed
        ({"stamp_s": None}, None),
        ({"stamp_s": 11.001}, "gap"),
        ({"stamp_s": 9.999}, "backward"),
        ({"stamp_s": 0.0}, "backward"),
        ({"image": np.zeros((*OTHER_SIZE, 3), np.uint8)}, "size"),
        ({"encoding": "bgr8"}, "encoding"),
        ({"frame_id": "rear"}, "frame_id"),
        ({"frame_id": "rear", "stamp_s": 0.0}, "frame_id"),  # stamps of two cameras are not compared
    ],
)
def test_a_break_empties_the_buffer_for_its_cause(segmenter, second, cause):
    segmenter.segment(IMAGE, 10.0)
    arguments = {"image": IMAGE, "stamp_s": 10.1} | second
    result = segmenter.segment(**arguments)
    assert (result.reset, result.references) == (cause, 0 if cause else 1)
    arguments["stamp_s"] = 10.2 if arguments["stamp_s"] is None else arguments["stamp_s"] + 0.1
    following = segmenter.segment(**arguments)
    assert (following.reset, following.references) == (None, 1)  # the frame after the break continues it


def test_labels_after_a_break_are_those_of_a_new_stream(segmenter):
    expected = segmenter.segment_single(VIDEO[3]).labels
    for number, image in enumerate(VIDEO[:3]):
        segmenter.segment(image, number / 10)
    with_references = segmenter.segment(VIDEO[3], 0.3)
    after_gap = segmenter.segment(VIDEO[3], 5.0)
    assert with_references.references > 0 and (with_references.labels != expected).any()
    assert after_gap.reset == "gap" and (after_gap.labels == expected).all()


def test_a_batch_has_a_cause_for_each_stream(segmenter):
    names = ("left", "right", "rear")
    first, second = (
        segmenter.segment_batch([StreamFrame(IMAGE, stamp, name) for name, stamp in zip(names, stamps)])
        for stamps in ((5.0, 5.0, 5.0), (5.1, 4.9, 6.1))
    )
    assert [result.reset for result in first] == [None] * 3
    assert [result.reset for result in second] == [None, "backward", "gap"]
    assert [result.references for result in second] == [1, 0, 0]


def test_the_gap_may_change_while_a_stream_runs(segmenter):
    segmenter.segment(IMAGE, 1.0)
    segmenter.max_gap_s = 10.0
    assert segmenter.segment(IMAGE, 9.0).reset is None
    segmenter.max_gap_s = 0.05
    assert segmenter.segment(IMAGE, 9.1).reset == "gap"


def test_a_requested_reset_acts_once_on_known_streams(segmenter):
    segmenter.reset()  # nothing to empty
    assert segmenter.segment(IMAGE).reset is None
    segmenter.reset("another")
    assert segmenter.segment(IMAGE).reset is None
    segmenter.reset("camera")
    assert segmenter.buffer_fill() == 0
    assert [segmenter.segment(IMAGE).reset for _ in range(2)] == ["requested", None]
    segmenter.reset()
    assert segmenter.segment(IMAGE, 0.0).reset == "requested"  # one cause, also where the stamp jumps back


def test_a_reset_waits_for_no_frame_and_none_is_lost(segmenter, monkeypatch):
    """The node's ~/reset must not hold up the executor while the network runs."""
    running, go_on, step = threading.Event(), threading.Event(), EagerBackend.step

    def slow(self, *inputs):
        running.set()
        assert go_on.wait(30)
        return step(self, *inputs)

    segmenter.segment(IMAGE, 1.0)
    monkeypatch.setattr(EagerBackend, "step", slow)
    results = []
    thread = threading.Thread(target=lambda: results.append(segmenter.segment(IMAGE, 1.1)))
    thread.start()
    assert running.wait(30)
    segmenter.reset("camera")
    go_on.set()
    thread.join(30)
    assert [result.reset for result in results] == [None]
    assert segmenter.segment(IMAGE, 1.2).reset == "requested"


def test_a_removed_stream_starts_anew(segmenter):
    segmenter.segment(IMAGE, 5.0)
    segmenter.remove_stream("camera")
    result = segmenter.segment(IMAGE, 1.0)
    assert (result.reset, result.references) == (None, 0)


def test_a_failed_frame_leaves_a_fault_and_no_more(segmenter, failing):
    segmenter.segment(IMAGE, 1.0)
    with pytest.raises(RuntimeError, match="out of memory"):
        segmenter.segment(failing, 1.1)
    result = segmenter.segment(IMAGE, 1.2)
    assert (result.reset, result.references) == ("fault", 0)
    assert segmenter.segment(IMAGE, 1.3).reset is None


@pytest.mark.parametrize(("stamp_s", "cause"), [(0.5, "backward"), (9.0, "gap")])
def test_a_reset_before_a_failed_frame_is_told_by_the_next(segmenter, failing, stamp_s, cause):
    """The node must not miss a jump back because its first frame was lost."""
    segmenter.segment(IMAGE, 1.0)
    for _ in range(2):
        with pytest.raises(RuntimeError):
            segmenter.segment(failing, stamp_s)
    assert segmenter.segment(IMAGE, stamp_s + 0.1).reset == cause


def test_a_reset_for_which_there_is_no_memory_is_made_by_the_next_frame(segmenter, monkeypatch):
    segmenter.segment(IMAGE, 0.0)
    segmenter.reset()
    with monkeypatch.context() as patch:
        patch.setattr(MemoryPool, "take", lambda *_: (_ for _ in ()).throw(RuntimeError("out of memory")))
        with pytest.raises(RuntimeError, match="out of memory"):
            segmenter.segment(IMAGE, 0.1)
    result = segmenter.segment(IMAGE, 0.2)
    assert (result.reset, result.references) == ("requested", 0)


def test_a_refused_frame_leaves_nothing(segmenter):
    segmenter.segment(IMAGE, 1.0)
    for image, stamp_s in ((IMAGE[:8], 1.1), (IMAGE, float("nan")), (IMAGE, float("inf"))):
        with pytest.raises(ValueError, match=r"the (image|stamp) is"):
            segmenter.segment(image, stamp_s)
    result = segmenter.segment(IMAGE, 1.2)
    assert (result.reset, result.references) == (None, 1)


STEPS = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.1, 0.9, 1.0, 1.1, 5.0, -0.1, -3.0]),
        st.sampled_from(["eye", "eye", "eye", "rear"]),
        st.sampled_from([SIZE, SIZE, SIZE, OTHER_SIZE]),
        st.sampled_from(["rgb8", "rgb8", "rgb8", "bgr8"]),
        st.sampled_from(["", "", "", "", "reset", "remove"]),
    ),
    max_size=12,
)


@settings(max_examples=25)
@given(STEPS)
def test_references_are_the_frames_since_the_last_reset(shared, steps):
    """The cause is the first rule broken, and the checkpoint's references, 1 and 3 frames back, begin anew with it."""
    shared.remove_stream("camera")
    shared.max_gap_s = 1.0
    stamp_s, previous, count = 100.0, None, 0
    for step_s, frame_id, size, encoding, action in steps:
        stamp_s += step_s
        if action == "reset":
            shared.reset()
        if action == "remove":
            shared.remove_stream("camera")
            previous, count = None, 0
        result = shared.segment(np.zeros((*size, 3), np.uint8), stamp_s, frame_id=frame_id, encoding=encoding)
        expected = None
        if previous is not None:
            broken = {
                "requested": action == "reset",
                "frame_id": frame_id != previous[0],
                "size": size != previous[1],
                "encoding": encoding != previous[2],
                "backward": step_s < 0,
                "gap": step_s > 1.0,
            }
            assert set(broken) <= set(RESET_CAUSES)
            expected = next((cause for cause, is_broken in broken.items() if is_broken), None)
        count = 0 if expected else count
        assert (result.reset, result.references) == (expected, sum(offset <= count for offset in (1, 3)))
        previous, count = (frame_id, size, encoding), count + 1
