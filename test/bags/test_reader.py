from __future__ import annotations

import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bag_fixtures import serialise_jpeg, write_all
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sdcpc_ros.bags.errors import BagError
from sdcpc_ros.bags.messages import COMPRESSED_IMAGE, IMAGE, RawMessage, serialise_image
from sdcpc_ros.bags.reader import BagReader


def image_at(topic: str, time_ns: int, stamp_ns: int | None = None, value: int = 0) -> RawMessage:
    pixels = np.full((2, 2), value, np.uint8)
    stamp_ns = time_ns if stamp_ns is None else stamp_ns
    return RawMessage(topic, IMAGE, time_ns, serialise_image(pixels, "mono8", stamp_ns, "optical"))


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_bag_gives_back_bytes_and_times_as_folder_and_as_file(write_bag, camera_messages, storage):
    written = camera_messages(4)
    folder = write_bag(written, storage=storage)
    file = next(path for path in folder.iterdir() if path.suffix in (".mcap", ".db3"))
    for path in (folder, file):
        with BagReader(path) as bag:
            read = list(bag.messages())
            assert bag.start_ns == written[0].time_ns
            assert bag.duration_s == pytest.approx(0.3)
        assert sorted(read, key=repr) == sorted(written, key=repr)
        assert [message.time_ns for message in read] == sorted(message.time_ns for message in written)


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_frames_join_what_has_one_stamp(write_bag, camera_messages, storage):
    with BagReader(write_bag(camera_messages(5), storage=storage)) as bag:
        camera = bag.camera_topic()
        truth = bag.ground_truth_topic(camera)
        frames = list(bag.frames(camera, truth, None))
        assert (camera, truth) == ("/camera/image_raw", "/camera/ground_truth")
        assert bag.camera_info_topic(camera) == "/camera/camera_info"
        for index, frame in enumerate(frames):
            assert (frame.image() == index).all()
            assert (frame.labels(truth) == index).all()
            assert frame.labels("/elsewhere") is None
        assert len(frames) == 5


def test_frames_join_messages_that_were_recorded_early_or_late(write_bag):
    stamps = [1_000_000_000 * second for second in (1, 2, 3, 4, 5, 6, 9)]
    # Out of reach are those five seconds apart.
    shifts = [-900_000_000, 0, 700_000_000, 1_500_000_000, -5_000_000_000, 5_000_000_000, 0]
    messages = [image_at("/camera/image_raw", stamp + 10_000_000_000, stamp) for stamp in stamps]
    messages += [
        image_at("/camera/ground_truth", stamp + 10_000_000_000 + shift, stamp, index)
        for index, (stamp, shift) in enumerate(zip(stamps, shifts))
    ]
    with BagReader(write_bag(sorted(messages, key=lambda message: message.time_ns))) as bag:
        frames = list(bag.frames("/camera/image_raw", "/camera/ground_truth"))
        assert [frame.stamp_ns for frame in frames] == stamps
        joined = [frame.labels("/camera/ground_truth") for frame in frames]
        assert [None if labels is None else int(labels[0, 0]) for labels in joined] == [0, 1, 2, 3, None, None, 6]


def test_a_part_of_a_bag_is_cut_out_by_its_time(drive):
    with BagReader(drive) as bag:
        part = list(bag.messages("/camera/image_raw", start_s=0.1, duration_s=0.2))
        assert [bag.offset_s(message) for message in part] == pytest.approx([0.1, 0.2])


def test_a_jpeg_camera_is_found_and_read(write_bag):
    data = serialise_jpeg(np.full((16, 16, 3), 90, np.uint8), 1, "optical")
    path = write_bag([RawMessage("/front/image_raw/compressed", COMPRESSED_IMAGE, 1, data)])
    with BagReader(path) as bag:
        (frame,) = bag.frames(bag.camera_topic())
        assert np.abs(frame.image().astype(int) - 90).max() <= 2


def topics_bag(write_bag, *topics: str) -> Path:
    return write_bag([image_at(topic, index + 1) for index, topic in enumerate(topics)])


def test_the_camera_is_told_from_masks_and_from_its_own_compressed_picture(write_bag):
    others = ("/node/camera/label/image_raw", "/camera/ground_truth", "/camera/depth/image", "/node/confidence")
    with BagReader(topics_bag(write_bag, *others, "/front/image_raw", "/front/image_raw/compressed")) as bag:
        assert bag.camera_topic() == "/front/image_raw"


def test_several_cameras_are_listed_and_one_can_be_chosen(write_bag):
    with BagReader(topics_bag(write_bag, "/left/image_raw", "/right/image_raw", "/right/ground_truth")) as bag:
        with pytest.raises(BagError, match=r"several camera topics.*: /left/image_raw, /right/image_raw$"):
            bag.camera_topic()
        assert bag.camera_topic("/left/image_raw") == "/left/image_raw"
        with pytest.raises(BagError, match=r"no image topic '/up'; it has /left/image_raw .sensor_msgs/msg/Image."):
            bag.camera_topic("/up")
        assert bag.ground_truth_topic("/right/image_raw") == "/right/ground_truth"


def test_a_bag_without_a_camera_lists_what_it_has(write_bag, camera_messages):
    infos = [message for message in camera_messages(2) if message.topic.endswith("camera_info")]
    with (
        BagReader(write_bag(infos)) as bag,
        pytest.raises(BagError, match=r"has no camera images; it has /camera/camera_info .sensor_msgs/msg/CameraInfo."),
    ):
        bag.camera_topic()


def test_a_topic_that_is_not_there_is_named(drive):
    with BagReader(drive) as bag, pytest.raises(BagError, match=r"has no topic /nothing; it has /camera/camera_info"):
        list(bag.messages("/nothing"))


def test_an_empty_bag_can_be_opened_and_says_that_it_is_empty(write_bag):
    with BagReader(write_bag([])) as bag:
        assert (bag.start_ns, bag.duration_s, list(bag.messages())) == (0, 0.0, [])
        with pytest.raises(BagError, match=r"has no camera images; it is empty"):
            bag.camera_topic()


def test_a_damaged_message_is_located(write_bag, camera_messages):
    damaged = [replace(m, data=m.data[:20]) if m.topic == "/camera/image_raw" else m for m in camera_messages(2)]
    with BagReader(write_bag(damaged)) as bag:
        frames = list(bag.frames("/camera/image_raw"))
        with pytest.raises(BagError, match=r"damaged message on /camera/image_raw at 0.100 s"):
            frames[1].image()


def test_an_image_that_cannot_be_decoded_is_located(write_bag):
    data = serialise_image(np.zeros((2, 2), np.uint8), "bayer_odd", 1, "optical")
    with BagReader(write_bag([RawMessage("/camera/image_raw", IMAGE, 1, data)])) as bag:
        (frame,) = bag.frames("/camera/image_raw")
        with pytest.raises(BagError, match=r"/camera/image_raw at 0.000 s: the encoding 'bayer_odd' is not known"):
            frame.image()


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("missing.mcap", None, "there is no bag at '.*missing.mcap'"),
        ("empty.mcap", b"", "empty.mcap' is an empty file"),
        ("garbage.mcap", b"\x01\x02" * 100, "garbage.mcap' cannot be read: File magic is invalid"),
        ("garbage.db3", b"\x01\x02" * 100, "garbage.db3' cannot be read: Cannot open database"),
        ("notes.txt", b"hello", "notes.txt' is no rosbag2 bag: a folder with metadata.yaml, a .mcap or a .db3"),
        ("old.bag", b"#ROSBAG V2.0\n", "old.bag' is a ROS 1 bag; `rosbags-convert"),
    ],
)
def test_a_file_that_is_no_bag_is_refused_with_a_sentence(tmp_path, name, content, sentence):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BagError, match=sentence):
        BagReader(path)


def test_a_folder_that_is_no_bag_is_refused_with_a_sentence(tmp_path, drive):
    (tmp_path / "pictures").mkdir()
    with pytest.raises(BagError, match=r"no metadata.yaml .and no .mcap or .db3 file either"):
        BagReader(tmp_path / "pictures")
    (tmp_path / "pictures" / "half.db3").write_bytes((drive / "drive.mcap").read_bytes())
    with pytest.raises(BagError, match=r"no metadata.yaml .`ros2 bag reindex` writes it again"):
        BagReader(tmp_path / "pictures")


def test_a_folder_of_mcap_files_needs_no_metadata(write_bag, camera_messages, tmp_path):
    """In the order of time, whatever the files are called; from any moment on."""
    written = camera_messages(6)
    folder = tmp_path / "copied"
    folder.mkdir()
    for name, part in (("b", written[:6]), ("a", written[6:12]), ("c", [*written[12:], *written[3:6]])):
        write_bag(part, name=f"part_{name}")
        shutil.copy(tmp_path / f"part_{name}" / f"part_{name}.mcap", folder / f"{name}.mcap")
    with BagReader(folder) as bag:
        times = [message.time_ns for message in bag.messages()]
        assert times == sorted(times) and len(times) == len(written) + 3
        assert bag.camera_topic() == "/camera/image_raw" and bag.custom_data == {}
        assert bag.topics["/camera/image_raw"].message_count == 7
        late = [message.time_ns for message in bag.messages("/camera/image_raw", start_s=0.25)]
        assert late == [written[9].time_ns, written[12].time_ns, written[15].time_ns]


def test_broken_metadata_is_refused_with_a_sentence(drive):
    (drive / "metadata.yaml").write_text("rosbag2_bagfile_information: [what, is, this]")
    with pytest.raises(BagError, match=r"drive' cannot be read: "):
        BagReader(drive)


def test_metadata_that_begins_later_than_the_messages_hides_none(drive):
    metadata = drive / "metadata.yaml"
    text = metadata.read_text()
    assert "nanoseconds_since_epoch: 1700000000000000000" in text
    metadata.write_text(text.replace("1700000000000000000", "1700000000250000000"))
    with BagReader(drive) as bag:
        assert len(list(bag.messages("/camera/image_raw"))) == 5


def test_a_count_that_is_no_number_is_refused_with_a_sentence(drive):
    metadata = drive / "metadata.yaml"
    metadata.write_text(metadata.read_text().replace("message_count: 15", "message_count: many"))
    with pytest.raises(BagError, match=r"drive' cannot be read: unsupported operand type"):
        BagReader(drive)


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_a_database_with_a_log_beside_it_is_refused_until_they_are_merged(write_bag, camera_messages, mode, tmp_path):
    file = write_bag(camera_messages(3), storage="sqlite3") / "drive.db3"
    writer = sqlite3.connect(file, isolation_level=None)
    for setting in (f"journal_mode = {mode}", "wal_autocheckpoint = 0", "cache_size = 1"):
        writer.execute(f"PRAGMA {setting}")
    writer.execute("BEGIN")  # more than the cache holds, so that SQLite writes before the transaction ends
    writer.execute("INSERT INTO messages SELECT id + 100, topic_id, timestamp, zeroblob(9999) FROM messages")
    if mode == "wal":
        writer.execute("COMMIT")
    killed = tmp_path / "killed"
    shutil.copytree(file.parent, killed)
    writer.close()
    log = "drive.db3-wal" if mode == "wal" else "drive.db3-journal"
    for path in (killed, killed / "drive.db3"):
        with pytest.raises(BagError, match=rf"drive.db3' cannot be read: {log} holds a part .*sqlite3 \S+ .tables"):
            BagReader(path)
    (killed / "drive.db3-shm").unlink(missing_ok=True)
    merger = sqlite3.connect(killed / "drive.db3")
    merger.execute("SELECT count(*) FROM topics").fetchone()
    merger.close()
    with BagReader(killed) as bag:
        assert len(list(bag.messages())) == (18 if mode == "wal" else 9)


def test_a_type_with_other_fields_is_a_damaged_message(drive):
    file = drive / "drive.mcap"
    file.write_bytes(file.read_bytes().replace(b"uint32 height", b"uint32 weight"))
    with BagReader(file) as bag, pytest.raises(BagError, match=r"at 0.000 s: .*has no attribute 'height'"):
        next(bag.frames("/camera/image_raw")).image()


def test_a_type_that_cannot_be_parsed_is_not_quoted_at_length(drive):
    file = drive / "drive.mcap"
    file.write_bytes(file.read_bytes().replace(b"uint32 height", b"uint32\0height"))
    with pytest.raises(BagError, match="cannot be read: Could not parse") as refused:
        BagReader(file)
    assert len(str(refused.value)) < 400 + len(str(file))


def test_a_missing_storage_file_is_refused_with_a_sentence(drive):
    (drive / "drive.mcap").unlink()
    with pytest.raises(BagError, match=r"drive' cannot be read: Some database files are missing: \['.*drive.mcap'\]"):
        BagReader(drive)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9, 0.999])
def test_a_recording_that_was_cut_short_says_so(drive, share):
    file = drive / "drive.mcap"
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * share)])
    for path in (drive, file):
        with pytest.raises(BagError, match=r"drive.mcap is cut short, .*`mcap recover drive.mcap"):
            BagReader(path)


def test_a_database_that_was_cut_short_says_so(write_bag, camera_messages):
    file = write_bag(camera_messages(30), storage="sqlite3") / "drive.db3"
    file.write_bytes(file.read_bytes()[:9000])
    with pytest.raises(BagError, match=r"its database is damaged or cut short, .*`sqlite3 FILE.db3 .recover"):
        BagReader(file)


@pytest.fixture(scope="module")
def sound_bags(tmp_path_factory, request) -> dict[str, bytes]:
    """The bytes of a small sound bag, by storage suffix."""
    from sdcpc_ros.bags.writer import BagWriter

    folder = tmp_path_factory.mktemp("sound")
    contents = {}
    for storage, suffix in (("mcap", ".mcap"), ("sqlite3", ".db3")):
        with BagWriter(folder / storage, storage=storage) as bag:
            write_all(bag, (image_at("/camera/image_raw", 1000 + index, value=index) for index in range(3)))
        contents[suffix] = (folder / storage / f"{storage}{suffix}").read_bytes()
        shutil.rmtree(folder / storage)
    return contents


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), suffix=st.sampled_from([".mcap", ".db3"]))
def test_whatever_is_damaged_is_a_bag_error_or_still_readable(tmp_path, sound_bags, data, suffix):
    content = bytearray(sound_bags[suffix])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    path = tmp_path / f"damaged{suffix}"
    path.write_bytes(content)
    try:
        with BagReader(path) as bag:
            for frame in bag.frames(bag.camera_topic()):
                frame.image()
    except BagError as error:
        assert "damaged" in str(error)
