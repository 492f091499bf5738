from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sdcpc_ros.bags.frame_join import BagFrame, Place, RawMessage
from sdcpc_ros.bags.rewind import Rewind
from sdcpc_ros.bags.segmented_frames import SegmentedFrame, SourceFrame
from sdcpc_ros.network import FrameMemory
from sdcpc_ros.streaming.frame_buffer import FrameBuffer
from sdcpc_ros.streaming.segmenter import Segmentation

OFFSETS = [(1,), (1, 2), (3, 6, 9), (9, 6, 3), (2, 5), (1, 3, 4)]


def place_of(number: int) -> Place:
    return Place(number, 1, ((0,),), (), number, number)


def frame(number: int, reset: str | None = None) -> SegmentedFrame:
    bag_frame = BagFrame(None, RawMessage("", "", number, b""), {}, place_of(number))  # type: ignore[arg-type]
    source = SourceFrame(number, number, np.zeros((1, 1, 3), np.uint8), bag_frame=bag_frame)
    return SegmentedFrame(source, Segmentation(np.zeros((1, 1), np.uint8), None, 0), reset, 1.0)


def buffer_after(offsets: tuple[int, ...], numbers: range) -> FrameBuffer:
    """Every frame leaves its number behind."""
    buffer = FrameBuffer(offsets, FrameMemory(*(torch.zeros(1, 1) for _ in FrameMemory._fields)))
    for number in numbers:
        buffer.push(FrameMemory(*(torch.full((1, 1), float(number)) for _ in FrameMemory._fields)), number)
    return buffer


@given(st.sampled_from(OFFSETS), st.integers(1, 40), st.integers(0, 40))
def test_the_memory_is_the_same_after_a_rerun_down_to_the_order_of_references(offsets, before, count):
    """`before` frames of a stream, a reset, `count` frames of another, then a stop; every third image is unusable."""
    capacity = max(offsets)
    rewind = Rewind(capacity)
    used = [number for number in range(2 * (before + count)) if number % 3 != 2][: before + count]
    for index, number in enumerate(used):
        rewind.take(frame(number, "gap" if index == before else None))
    beginning = rewind.beginning()
    assert (beginning.scored, beginning.place) == (used[-1], place_of(beginning.number))
    first = used.index(beginning.number)
    stream = before if count else 0  # where the current one begins
    assert stream <= first and (count or before) - (first - stream) < 2 * capacity
    whole, rerun = (buffer_after(offsets, range(begin, before + count)) for begin in (stream, first))
    assert whole.reference_count == rerun.reference_count
    for one, other in zip(whole.references(), rerun.references()):
        for part, same in zip(one, other):
            assert torch.equal(part, same)


@pytest.mark.parametrize("stop", [0, 4, 9, 17, 18, 30])
def test_it_goes_on_counting_after_a_stop(stop):
    whole, stopped = Rewind(9), Rewind(9)
    for number in range(stop + 1):
        whole.take(frame(number))
        stopped.take(frame(number))
    again = Rewind(9)
    again.restore(json.loads(json.dumps(stopped.state())))
    assert again.beginning() == whole.beginning()
    for number in range(stop + 1, stop + 25):
        whole.take(frame(number))
        again.take(frame(number))
        assert again.beginning() == whole.beginning()
