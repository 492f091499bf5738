from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import yaml
from bag_fixtures import write_all
from hypothesis import given
from hypothesis import strategies as st

from sdcpc_ros.bags.messages import IMAGE, RawMessage, serialise_image
from sdcpc_ros.bags.reader import BagReader, join_by_stamp
from sdcpc_ros.bags.writer import BagWriter

CAMERA, TRUTH, OTHER = "/camera/image_raw", "/camera/ground_truth", "/camera/other"
SECOND = 1_000_000_000


def image(topic: str, time_ns: int, stamp_ns: int) -> RawMessage:
    return RawMessage(topic, IMAGE, time_ns, serialise_image(np.zeros((1, 1), np.uint8), "mono8", stamp_ns, ""))


def joined(messages: Sequence[RawMessage]) -> list[tuple[RawMessage, dict[str, RawMessage]]]:
    return list(join_by_stamp(messages, CAMERA, [TRUTH, OTHER]))


# Few stamps and times, so that they repeat, and come late, early, and in every order.
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
def test_each_image_comes_once_with_messages_of_its_stamp(messages):
    frames = joined(messages)
    images = [message for message in messages if message.topic == CAMERA]
    assert sorted(id(frame) for frame, _ in frames) == sorted(map(id, images))
    used = [id(companion) for _, companions in frames for companion in companions.values()]
    assert len(set(used)) == len(used)
    for frame, companions in frames:
        assert all(companion.stamp_ns == frame.stamp_ns for companion in companions.values())
        assert all(companion.topic == topic for topic, companion in companions.items())


@given(MESSAGES)
def test_of_stamps_that_do_not_repeat_all_within_two_seconds_is_joined(messages):
    by_stamp = {(message.topic, message.stamp_ns): message for message in messages}
    once = sorted(by_stamp.values(), key=lambda message: message.time_ns)
    frames = joined(once)
    for frame, companions in frames:
        near = {
            message.topic
            for message in once
            if message.topic != CAMERA
            and message.stamp_ns == frame.stamp_ns
            and abs(message.time_ns - frame.time_ns) <= 2 * SECOND
        }
        assert near <= companions.keys()


def test_an_image_waits_two_seconds_for_a_companion_and_no_longer():
    for late_ns, found in ((2 * SECOND, {TRUTH}), (2 * SECOND + 1, set())):
        messages = [image(CAMERA, 0, 7), image(TRUTH, late_ns, 7)]
        if not found:
            messages.insert(1, image(CAMERA, late_ns, 8))
        assert joined(messages)[0][1].keys() == found


def test_a_message_too_short_for_a_stamp_counts_by_its_time():
    short = RawMessage(CAMERA, IMAGE, 5 * SECOND, b"\0\1")
    frames = joined([short, RawMessage(TRUTH, IMAGE, 6 * SECOND, b""), image(CAMERA, 7 * SECOND, 1)])
    assert frames[0] == (short, {})


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_files_of_a_split_bag_that_overlap_are_read_one_after_the_other(tmp_path, storage):
    """A recorder of several threads put two messages into the second file that were recorded before the last of the
    first."""
    times = [[0, 1, 2, 3, 6, 9], [5, 7, 10, 11, 12]]
    information = None
    for number, part in enumerate(times):
        with BagWriter(tmp_path / f"part_{number}", storage=storage) as bag:
            write_all(bag, (image(CAMERA, time * SECOND, time * SECOND) for time in part))
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
        assert [frame.stamp_ns // SECOND for frame in split.frames(CAMERA)] == [*times[0], *times[1]]
