"""The frame buffer against a plain list, and the pool that its slots come from."""

from __future__ import annotations

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sdcpc_ros.network import DEFAULT_RATE_HZ, FrameMemory
from sdcpc_ros.streaming.frame_buffer import BLANK_SLOT, FrameBuffer, MemoryPool

OFFSETS = st.lists(st.integers(1, 9), min_size=1, max_size=4, unique=True).map(lambda o: tuple(sorted(o)))
#: Seconds between frames; some come with an earlier stamp, or with the same.
STEPS_S = st.lists(st.floats(-0.5, 3.0), max_size=25)


def _memory(value, size=(2, 3)):
    full = torch.full((1, 4, *size), float(value))
    return FrameMemory(full, full[..., :1, :1] + 0.1)


def _blank():
    return FrameMemory(*(torch.zeros_like(part) for part in _memory(0)))


class Stream:
    """A frame buffer with a pool of its own, used as a runner and the stream after it do."""

    def __init__(self, offsets):
        self.pool = MemoryPool(_blank())
        self.buffer = FrameBuffer(offsets, self.pool)

    def store(self, memory):
        self.pool.store(torch.tensor([self.buffer.next_slot]), memory)

    def push(self, memory, stamp_s):
        self.store(memory)
        self.buffer.push(stamp_s)

    def references(self, stamp_s):
        slots, ages_s = self.buffer.references(stamp_s)
        return self.pool.gather(torch.tensor([slots])), torch.tensor([ages_s])


@settings(max_examples=60)
@given(offsets=OFFSETS, steps_s=STEPS_S, start_s=st.sampled_from([0.0, 1.7e9]))
@example(offsets=(3, 6, 9), steps_s=[0.1] * 25, start_s=0.0)
@example(offsets=(1, 3), steps_s=[0.1] * 25, start_s=0.0)
def test_gives_what_a_list_would(offsets, steps_s, start_s):
    """The memories at the offsets, each with its own age, while the ring fills and after it has wrapped."""
    stream, stamps_s, now_s = Stream(offsets), [], start_s
    for frame, step_s in enumerate(steps_s):
        now_s += step_s
        references, age_s = stream.references(now_s)
        assert age_s.shape == (1, len(offsets))
        there = age_s[0] >= 0
        expected = sorted(
            (frame - offset, max(0.0, now_s - stamps_s[frame - offset])) for offset in offsets if offset <= frame
        )
        assert stream.buffer.reference_count == int(there.sum()) == len(expected)
        for part, shift in zip(references, (0.0, 0.1)):
            values = part[0][there].flatten(1)
            assert (values == values[:, :1]).all()
            found = sorted(zip(values[:, 0].tolist(), age_s[0][there].tolist()))
            assert [number for number, _ in found] == pytest.approx([number + shift for number, _ in expected])
            assert [age for _, age in found] == pytest.approx([age for _, age in expected], rel=1e-6, abs=1e-6)
        stream.push(_memory(frame), now_s)
        stamps_s.append(now_s)
        assert stream.buffer.fill == min(len(stamps_s), max(offsets)) / max(offsets)


@pytest.mark.parametrize("offsets", [(1,), (1, 2, 3), (3, 6, 9), (1, 3), (2, 3, 7)])
def test_an_empty_buffer_has_missing_references_only(offsets):
    """Which are zero: they must be finite."""
    references, age_s = Stream(offsets).references(123.0)
    assert age_s.shape == (1, len(offsets)) and (age_s < 0).all()
    assert not any(part.any() for part in references)


def test_a_reference_that_seems_to_come_later_is_there_and_new():
    stream = Stream((1,))
    stream.push(_memory(1), 5.0)
    assert stream.references(4.5)[1].tolist() == [[0.0]]


@given(stamp_s=st.floats(0, 2e9))
def test_without_a_stamp_a_frame_comes_one_period_after_the_last(stamp_s):
    buffer = Stream((1, 2)).buffer
    assert buffer.next_stamp_s == 0.0
    for frame in range(3):
        now_s = stamp_s + 7 * frame
        buffer.push(now_s)
        assert buffer.next_stamp_s == now_s + 1 / DEFAULT_RATE_HZ


@pytest.mark.parametrize("offsets", [(3, 6), (1, 3)])
def test_addresses_and_shapes_do_not_depend_on_the_fill(offsets):
    """A graph captured with them goes on to read and write the right memory."""
    stream, seen = Stream(offsets), set()
    for frame in range(30):
        references, age_s = stream.references(0.0)
        addresses = (part.data_ptr() for part in stream.pool.memory)
        seen.add((*addresses, *(part.shape for part in references), age_s.shape))
        assert all(part.is_contiguous() for part in references)
        stream.push(_memory(frame), 0.0)
    assert len(seen) == 1


def test_another_size_is_refused_and_nothing_is_lost():
    stream = Stream((1,))
    stream.push(_memory(1), 0.0)
    with pytest.raises(RuntimeError, match="shape"):
        stream.push(_memory(2, size=(5, 5)), 1.0)
    references, age_s = stream.references(1.0)
    assert (references.fine == 1).all() and age_s.tolist() == [[1.0]]


def test_a_frame_that_fails_after_its_run_changes_no_reference():
    """Its memory was stored, and then something else of the batch failed: the frames run once more, one by one."""
    stream = Stream((1, 2))
    for frame in range(8):
        before, age_s = stream.references(float(frame))
        stream.store(_memory(99))
        after, same_age_s = stream.references(float(frame))
        assert all(torch.equal(*pair) for pair in zip(before, after)) and torch.equal(age_s, same_age_s)
        stream.push(_memory(frame), float(frame))


def test_a_pool_gives_each_buffer_its_own_slots_and_takes_them_back():
    pool = MemoryPool(_blank())
    buffers = [FrameBuffer((1, 2), pool) for _ in range(5)]
    used = []
    for buffer in buffers:
        slots = set()
        for frame in range(4):
            slots.add(buffer.next_slot)
            assert buffer.next_slot not in buffer.references(float(frame))[0]
            buffer.push(float(frame))
        assert len(slots) == 3 and BLANK_SLOT not in slots
        used += slots
    assert len(set(used)) == 15
    size = len(pool.memory.fine)
    assert pool.free_count == size - 16
    del buffer, buffers[1:3]
    assert pool.free_count == size - 10
    buffers += [FrameBuffer((1, 2), pool) for _ in range(2)]
    assert len(pool.memory.fine) == size


def test_a_pool_that_grows_keeps_what_it_holds():
    pool = MemoryPool(_blank())
    slots = pool.take(3)
    for part in pool.memory:
        part.index_fill_(0, torch.tensor(slots), 7.0)
    before = pool.memory
    pool.take(3)
    assert pool.memory is before  # a reset takes slots before it returns others: that must not grow the pool
    pool.take(3)
    assert pool.memory is not before
    for part in pool.memory:
        assert (part[slots] == 7).all() and not part[BLANK_SLOT].any()
