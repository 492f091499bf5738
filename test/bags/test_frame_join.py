from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sdcpc_ros.bags.errors import StateError
from sdcpc_ros.bags.frame_join import BagFrame, FrameJoin, Place, RawMessage, Reading
from sdcpc_ros.bags.messages import IMAGE, serialise_image
from sdcpc_ros.bags.reader import BagReader
from sdcpc_ros.bags.writer import BagWriter

CAMERA, TRUTH, OTHER = "/camera/image_raw", "/camera/ground_truth", "/camera/other"
SECOND = 1_000_000_000


def image(topic: str, time_ns: int, stamp_ns: int) -> RawMessage:
    return RawMessage(topic, IMAGE, time_ns, serialise_image(np.zeros((1, 1), np.uint8), "mono8", stamp_ns, ""))


def readings(messages: Sequence[RawMessage], from_ns: int) -> Iterator[Reading]:
    """As BagReader reads one file: every moment is a cut."""
    first, newest = 0, None
    for ordinal, message in enumerate(message for message in messages if message.time_ns >= from_ns):
        if newest is None or message.time_ns > newest:
            first, newest = ordinal, message.time_ns
        yield Reading(message, ordinal, newest, first)


def joined(messages: Sequence[RawMessage], place: Place | None = None) -> list[BagFrame]:
    join = FrameJoin(None, CAMERA, [TRUTH, OTHER])  # type: ignore[arg-type]  # nothing is decoded
    return list(join.frames(readings(messages, 0 if place is None else place.from_ns), place))


# Few stamps and times, so that they come twice, late, early, and in every order.
MESSAGES = st.lists(
    st.builds(
        image,
        st.sampled_from([CAMERA, CAMERA, TRUTH, OTHER]),
        st.integers(0, 12).map(lambda half: half * SECOND // 2),
        st.integers(0, 5).map(lambda stamp: stamp * SECOND),
    ),
    max_size=30,
).map(lambda messages: sorted(messages, key=lambda message: message.time_ns))


@given(MESSAGES)
def test_a_join_that_returns_to_a_frame_gives_the_frames_that_came_from_there_on(messages):
    frames = joined(messages)
    assert len(frames) == sum(message.topic == CAMERA for message in messages)
    for index, frame in enumerate(frames):
        assert frame.place is not None
        place = Place.from_dict(json.loads(json.dumps(frame.place.to_dict())))
        again = joined(messages, place)
        assert again == frames[index:]
        assert [one.camera is other.camera for one, other in zip(again, frames[index:])] == [True] * len(again)


def test_a_join_returns_without_what_lies_further_back():
    """Of a bag whose truth is rare, so that two seconds of images always wait."""
    messages = [image(CAMERA, number * SECOND // 10, number + 1) for number in range(100)]
    messages.insert(50, image(TRUTH, 49 * SECOND // 10, 50))
    place = joined(messages)[80].place
    assert place is not None
    assert place.time_ns - 2 * SECOND <= place.from_ns <= place.time_ns


def test_a_place_that_is_not_there_any_more_is_told():
    messages = [image(CAMERA, number * SECOND, number) for number in range(6)]
    place = joined(messages)[4].place
    with pytest.raises(StateError, match="the bag ends before the place"):
        joined(messages[:4], place)
    other = [image(CAMERA, message.time_ns, 77) for message in messages]
    with pytest.raises(StateError, match=r"the frame at 4.000000000 s is not where it was"):
        joined(other, place)


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_files_that_overlap_are_read_again_from_where_the_later_one_begins(tmp_path, storage):
    """A recorder of several threads put two messages into the second file that were recorded before the last of the
    first: reading from either's time would leave out, or add, some that come before in the order of reading."""
    times = [[0, 1, 2, 3, 6, 9], [5, 7, 10, 11, 12]]
    information = None
    for number, part in enumerate(times):
        with BagWriter(tmp_path / f"part_{number}", storage=storage) as bag:
            bag.write_all(image(CAMERA, time * SECOND, time * SECOND) for time in part)
        one = yaml.safe_load((bag.path / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
        (tmp_path / "split").mkdir(exist_ok=True)
        (file,) = one["relative_file_paths"]
        (bag.path / file).replace(tmp_path / "split" / file)
        if information is None:
            information = one
        else:
            information["relative_file_paths"].append(file)
    (tmp_path / "split" / "metadata.yaml").write_text(yaml.safe_dump({"rosbag2_bagfile_information": information}))
    with BagReader(tmp_path / "split") as split:
        frames = list(split.frames(CAMERA))
        order = [frame.stamp_ns // SECOND for frame in frames]
        assert order == [*times[0], *times[1]]
        for index, frame in enumerate(frames):
            again = [one.stamp_ns // SECOND for one in split.frames(CAMERA, place=frame.place)]
            assert again == order[index:]
        assert [frame.place.from_ns // SECOND for frame in frames if frame.place] == [
            *(0, 1, 2, 3, 5, 5),
            *(5, 5, 10, 11, 12),
        ]
