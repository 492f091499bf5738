"""The frame buffer against a plain list, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sdcpc_ros.network import DEFAULT_RATE_HZ, FrameMemory
from sdcpc_ros.streaming.frame_buffer import FrameBuffer

OFFSETS = st.lists(st.integers(1, 9), min_size=1, max_size=4, unique=True).map(lambda o: tuple(sorted(o)))
#: Seconds between frames; some come with an earlier stamp, or with the same.
STEPS_S = st.lists(st.floats(-0.5, 3.0), max_size=25)


def _memory(value, size=(2, 3)):
    full = torch.full((1, 4, *size), float(value))
    return FrameMemory(full, full[..., :1, :1] + 0.1)


@settings(max_examples=60)
@given(offsets=OFFSETS, steps_s=STEPS_S, start_s=st.sampled_from([0.0, 1.7e9]))
@example(offsets=(3, 6, 9), steps_s=[0.1] * 25, start_s=0.0)
@example(offsets=(1, 3), steps_s=[0.1] * 25, start_s=0.0)
def test_gives_what_a_list_would(offsets, steps_s, start_s):
    """The memories at the offsets, each with its own age, while the ring fills and after it has wrapped."""
    buffer, stamps_s, now_s = FrameBuffer(offsets, _memory(0)), [], start_s
    for frame, step_s in enumerate(steps_s):
        now_s += step_s
        references, age_s = buffer.references(now_s)
        assert age_s.shape == (1, len(offsets)) and age_s.dtype == torch.float32 and age_s.device.type == "cpu"
        there = age_s[0] >= 0
        expected = sorted(
            (frame - offset, max(0.0, now_s - stamps_s[frame - offset])) for offset in offsets if offset <= frame
        )
        assert buffer.reference_count == int(there.sum()) == len(expected)
        for part, shift in zip(references, (0.0, 0.1)):
            values = part[0][there].flatten(1)
            assert (values == values[:, :1]).all()
            found = sorted(zip(values[:, 0].tolist(), age_s[0][there].tolist()))
            assert [number for number, _ in found] == pytest.approx([number + shift for number, _ in expected])
            assert [age for _, age in found] == pytest.approx([age for _, age in expected], rel=1e-6, abs=1e-6)
        buffer.push(_memory(frame), now_s)
        stamps_s.append(now_s)
        assert buffer.fill == min(len(stamps_s), max(offsets)) / max(offsets)


@pytest.mark.parametrize("offsets", [(1,), (1, 2, 3), (3, 6, 9), (1, 3), (2, 3, 7)])
def test_an_empty_buffer_has_missing_references_only(offsets):
    """Which are zero, whatever the memory that the buffer was made like: they must be finite."""
    references, age_s = FrameBuffer(offsets, _memory(float("nan"))).references(123.0)
    assert age_s.shape == (1, len(offsets)) and (age_s < 0).all()
    assert not any(part.any() for part in references)


def test_a_reference_that_seems_to_come_later_is_there_and_new():
    buffer = FrameBuffer((1,), _memory(0))
    buffer.push(_memory(1), 5.0)
    assert buffer.references(4.5)[1].tolist() == [[0.0]]


@given(stamp_s=st.floats(0, 2e9))
def test_without_a_stamp_a_frame_comes_one_period_after_the_last(stamp_s):
    buffer = FrameBuffer((1, 2), _memory(0))
    assert buffer.next_stamp_s == 0.0
    for frame in range(3):
        now_s = stamp_s + 7 * frame
        buffer.push(_memory(frame), now_s)
        assert buffer.next_stamp_s == now_s + 1 / DEFAULT_RATE_HZ


@pytest.mark.parametrize(("offsets", "places"), [((1, 2), 1), ((3, 6, 9), 3), ((1, 3), 1), ((2, 3, 7), 1)])
def test_addresses_stay(offsets, places):
    """A graph captured with them goes on to read the right memory: one place, or one for each phase of the stride."""
    buffer, seen = FrameBuffer(offsets, _memory(0)), set()
    for frame in range(30):
        references, age_s = buffer.references(float(frame))
        assert all(part.is_contiguous() for part in (*references, age_s))
        seen.add(tuple(part.data_ptr() for part in references))
        buffer.push(_memory(frame), float(frame))
    assert len(seen) == places


@pytest.mark.parametrize("offsets", [(3, 6), (1, 3)])
def test_shapes_do_not_depend_on_the_fill(offsets):
    buffer = FrameBuffer(offsets, _memory(0))
    shapes = set()
    for frame in range(8):
        references, age_s = buffer.references(0.0)
        shapes.add((*(tuple(part.shape) for part in references), tuple(age_s.shape)))
        buffer.push(_memory(frame), 0.0)
    assert len(shapes) == 1


def test_another_size_is_refused_and_nothing_is_lost():
    buffer = FrameBuffer((1,), _memory(0))
    buffer.push(_memory(1), 0.0)
    with pytest.raises(ValueError, match="needs a new buffer"):
        buffer.push(_memory(2, size=(5, 5)), 1.0)
    references, age_s = buffer.references(1.0)
    assert (references.fine == 1).all() and age_s.tolist() == [[1.0]]


@pytest.mark.parametrize("offsets", [(), (0, 1), (-3,)])
def test_bad_offsets_are_refused(offsets):
    with pytest.raises(ValueError, match="offsets"):
        FrameBuffer(offsets, _memory(0))
