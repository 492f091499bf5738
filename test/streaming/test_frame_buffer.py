"""The frame buffer against a plain list, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sdcpc_ros.network import FrameMemory
from sdcpc_ros.streaming.frame_buffer import FrameBuffer


def _memory(value, size=(2, 3)):
    full = torch.full((1, 4, *size), float(value))
    return FrameMemory(full, full + 0.1, full[..., :1, :1], full[..., :1, :1] + 0.1, full[:, :2])


@settings(max_examples=50)
@given(
    offsets=st.lists(st.integers(1, 9), min_size=1, max_size=4, unique=True).map(lambda o: tuple(sorted(o))),
    frames=st.integers(0, 25),
)
def test_gives_what_a_list_would(offsets, frames):
    buffer, history = FrameBuffer(offsets, _memory(0)), []
    for frame in range(frames):
        references, valid = buffer.references()
        for k, offset in enumerate(offsets):
            assert valid[0, k].item() == (offset <= len(history))
            if offset <= len(history):
                assert (references.key[0, k] == history[-offset]).all()
                assert (references.probability_root[0, k] == history[-offset]).all()
        buffer.push(_memory(frame), stamp_s=frame / 10)
        history.append(frame)
        assert len(buffer) == min(len(history), max(offsets))
        assert buffer.stamps_s == [f / 10 for f in history[-max(offsets) :]]
        assert buffer.fill == len(buffer) / max(offsets)


def test_addresses_stay():
    buffer = FrameBuffer((1, 2), _memory(0))
    buffer.push(_memory(0), 0.0)
    before = [part.data_ptr() for part in buffer._ring]
    for frame in range(1, 7):
        buffer.push(_memory(frame), float(frame))
    assert [part.data_ptr() for part in buffer._ring] == before


def test_shapes_do_not_depend_on_the_fill():
    buffer = FrameBuffer((3, 6), _memory(0))
    shapes = set()
    for frame in range(8):
        references, valid = buffer.references()
        shapes.add((*(tuple(part.shape) for part in references), tuple(valid.shape)))
        buffer.push(_memory(frame), 0.0)
    assert len(shapes) == 1


def test_what_it_gives_is_a_copy():
    buffer = FrameBuffer((1,), _memory(0))
    buffer.push(_memory(7), 0.0)
    references, _ = buffer.references()
    buffer.push(_memory(8), 0.0)
    assert (references.key == 7).all()


def test_another_size_is_refused_and_nothing_is_lost():
    buffer = FrameBuffer((1,), _memory(0))
    buffer.push(_memory(1), 0.0)
    with pytest.raises(ValueError, match="needs a new buffer"):
        buffer.push(_memory(2, size=(5, 5)), 1.0)
    references, _ = buffer.references()
    assert (references.key == 1).all() and buffer.stamps_s == [0.0]


@pytest.mark.parametrize("offsets", [(), (0, 1), (-3,)])
def test_bad_offsets_are_refused(offsets):
    with pytest.raises(ValueError, match="offsets"):
        FrameBuffer(offsets, _memory(0))
