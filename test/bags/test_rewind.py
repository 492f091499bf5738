"""Where an evaluation begins again after a stop: at the last frame whose memory was copied."""

from __future__ import annotations

import numpy as np
import pytest

from sdcpc_ros.bags.evaluation_state import read_state, write_state
from sdcpc_ros.bags.frame_join import BagFrame, Place, RawMessage
from sdcpc_ros.bags.rewind import Beginning, Rewind
from sdcpc_ros.bags.segmented_frames import SegmentedFrame, SourceFrame
from sdcpc_ros.streaming.segmenter import Segmentation


def place_of(number: int) -> Place:
    return Place(number, 1, ((0,),), (), number, number)


def frame(number: int, before: dict | None = None) -> SegmentedFrame:
    bag_frame = BagFrame(None, RawMessage("", "", number, b""), {}, place_of(number))  # type: ignore[arg-type]
    source = SourceFrame(number, number, np.zeros((1, 1, 3), np.uint8), bag_frame=bag_frame)
    return SegmentedFrame(source, Segmentation(np.zeros((1, 1), np.uint8), None, 0), None, 1.0, before)


def test_it_begins_at_the_last_frame_that_came_with_a_memory():
    rewind = Rewind()
    assert rewind.beginning == Beginning()
    memory = {"image_size": [1, 1]}
    for number, before in ((2, {"memory": None}), (3, None), (5, {"memory": memory}), (6, None), (8, None)):
        rewind.take(frame(number, before))
        first, held = (2, None) if number < 5 else (5, memory)
        assert rewind.beginning == Beginning(first, place_of(first), held, number)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_it_goes_on_from_a_state_on_disk(tmp_path, count):
    stopped, again = Rewind(), Rewind()
    memory = {"ring": [np.arange(6, dtype=np.float32).reshape(2, 3)], "pushed": 4}
    for number in range(count):
        stopped.take(frame(number, {"memory": memory} if number == 0 else None))
    write_state(tmp_path / "state", {}, stopped.state())
    again.restore(read_state(tmp_path / "state", {}))
    found, kept = again.beginning, stopped.beginning
    assert (found.number, found.place, found.scored) == (kept.number, kept.place, kept.scored)
    np.testing.assert_equal(found.memory, kept.memory)
