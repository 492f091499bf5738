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
        expected = sorted(history[-offset] for offset in offsets if offset <= len(history))
        assert buffer.reference_count == int(valid.sum()) == len(expected)
        for part, shift in zip(references, (0.0, 0.1, 0.0, 0.1, 0.0)):
            values = part[0][valid[0]].flatten(1)
            assert (values == values[:, :1]).all()
            torch.testing.assert_close(values[:, 0].sort().values, torch.tensor(expected, dtype=torch.float32) + shift)
        buffer.push(_memory(frame), stamp_s=frame / 10)
        history.append(frame)
        assert len(buffer) == min(len(history), max(offsets))
        assert buffer.stamps_s == [f / 10 for f in history[-max(offsets) :]]
        assert buffer.fill == len(buffer) / max(offsets)


@pytest.mark.parametrize(("offsets", "places"), [((1, 2), 1), ((3, 6, 9), 3), ((1, 3), 1), ((2, 3, 7), 1)])
def test_addresses_stay(offsets, places):
    """A graph captured with them goes on to read the right memory: one place, or one for each phase of the stride."""
    buffer, seen = FrameBuffer(offsets, _memory(0)), set()
    for frame in range(30):
        references, valid = buffer.references()
        assert all(part.is_contiguous() for part in (*references, valid))
        seen.add(tuple(part.data_ptr() for part in (*references, valid)))
        buffer.push(_memory(frame), float(frame))
    assert len(seen) == places


def test_shapes_do_not_depend_on_the_fill():
    buffer = FrameBuffer((3, 6), _memory(0))
    shapes = set()
    for frame in range(8):
        references, valid = buffer.references()
        shapes.add((*(tuple(part.shape) for part in references), tuple(valid.shape)))
        buffer.push(_memory(frame), 0.0)
    assert len(shapes) == 1


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
