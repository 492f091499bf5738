"""Files as others write them: other recorders, other ages, without an index, cut short, damaged."""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Callable, Collection, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from sdcpc_ros.bags.errors import BagError
from sdcpc_ros.bags.messages import IMAGE, RawMessage, standard_types
from sdcpc_ros.bags.reader import BagReader
from sdcpc_ros.replay.bag_evaluation import Model, evaluate_bag
from sdcpc_ros.replay.bag_source import BagSettings
from sdcpc_ros.replay.image_bags import GROUND_TRUTH_TOPIC as TRUTH
from sdcpc_ros.replay.image_bags import IMAGE_TOPIC as CAMERA
from sdcpc_ros.replay.image_bags import START_NS

FRAMES = 6


@pytest.fixture
def evaluated(tiny_model: Model) -> Callable[[Path], dict[str, Any]]:
    """The report of the first frames of a bag, by the network that knows nothing."""
    return lambda path: evaluate_bag(path, tiny_model, BagSettings(duration_s=(FRAMES - 0.5) / 15)).report


@pytest.fixture
def drive_messages(street: Path) -> list[RawMessage]:
    """Six frames of a street: image, camera_info and truth of each."""
    with BagReader(street) as bag:
        return list(bag.messages(duration_s=(FRAMES - 0.5) / 15))


def robot_bag(path: Path, messages: Sequence[RawMessage], version: int, plugin: StoragePlugin) -> None:
    """A camera beside a topic of a type that only this robot has."""
    types = standard_types()
    robots = get_typestore(Stores.EMPTY)
    robots.register(
        {**types.fielddefs, **get_types_from_msg("std_msgs/Header header\nfloat32 slip\n", "robot/msg/Slip")}
    )
    with Writer(path, version=version, storage_plugin=plugin) as writer:
        slip = writer.add_connection("/slip", "robot/msg/Slip", typestore=robots)
        topics = {topic: writer.add_connection(topic, IMAGE, typestore=types) for topic in (CAMERA, TRUTH)}
        for message in messages:
            if message.topic in topics:
                writer.write(slip, message.time_ns, b"\x00\x01\x00\x00" + bytes(24))
                writer.write(topics[message.topic], message.time_ns, message.data)


def as_on_humble(path: Path) -> None:
    """An sqlite3 bag without what came after Humble: definitions of the types, their hashes, notes."""
    with closing(sqlite3.connect(next(path.glob("*.db3")))) as database, database:
        database.execute("DROP TABLE message_definitions")
        database.execute("ALTER TABLE topics DROP COLUMN type_description_hash")
        database.execute("UPDATE schema SET schema_version = 3")
    metadata = yaml.safe_load((path / "metadata.yaml").read_text())
    information = metadata["rosbag2_bagfile_information"]
    information["version"] = 5
    for name in ("custom_data", "ros_distro"):
        del information[name]
    for topic in information["topics_with_message_count"]:
        del topic["topic_metadata"]["type_description_hash"]
        topic["topic_metadata"]["offered_qos_profiles"] = ""
    (path / "metadata.yaml").write_text(yaml.safe_dump(metadata))


@pytest.mark.parametrize("recorder", ["Humble, sqlite3", "Jazzy, mcap", "Kilted, mcap", "Kilted, sqlite3"])
def test_types_that_nobody_has_lie_beside_the_camera(drive_messages, evaluated, tmp_path, recorder):
    plugin = StoragePlugin.MCAP if "mcap" in recorder else StoragePlugin.SQLITE3
    robot_bag(tmp_path / "robot", drive_messages, 9 if "Kilted" in recorder else 8, plugin)
    if "Humble" in recorder:
        as_on_humble(tmp_path / "robot")
    report = evaluated(tmp_path / "robot")
    assert report["scores"]["frames"] == FRAMES
    assert report["bag"]["topics"]["/slip"] == ["robot/msg/Slip", 2 * FRAMES]


def mcap(
    path: Path,
    messages: Sequence[RawMessage],
    *,
    profile: str = "ros2",
    also_json: bool = False,
    undefined: Collection[str] = (),
) -> Path:
    """An MCAP file as the simplest of writers leaves it: neither chunks nor index nor summary, which MCAP allows."""

    def text(value: str) -> bytes:
        data = value.encode()
        return struct.pack("<I", len(data)) + data

    def record(kind: int, content: bytes) -> bytes:
        return struct.pack("<BQ", kind, len(content)) + content

    definitions = {
        kind: standard_types().generate_msgdef(kind)[0] for kind in sorted({message.type for message in messages})
    }
    topics = sorted({(message.topic, message.type) for message in messages})
    parts = [b"\x89MCAP0\r\n", record(1, text(profile) + text("somebody's recorder"))]
    for number, (kind, definition) in enumerate(definitions.items(), 1):
        known = text("") + text("") if kind in undefined else text("ros2msg") + text(definition)
        parts.append(record(3, struct.pack("<H", number) + text(kind) + known))
    for number, (topic, kind) in enumerate(topics, 1):
        schema = list(definitions).index(kind) + 1
        parts.append(record(4, struct.pack("<HH", number, schema) + text(topic) + text("cdr") + struct.pack("<I", 0)))
    if also_json:
        parts.append(record(3, struct.pack("<H", 99) + text("notes.Note") + text("jsonschema") + text("{}")))
        parts.append(record(4, struct.pack("<HH", 99, 99) + text("/notes") + text("json") + struct.pack("<I", 0)))
        parts.append(record(5, struct.pack("<HIQQ", 99, 0, START_NS, START_NS) + b'{"said": "hello"}'))
    for sequence, message in enumerate(messages):
        number = [topic for topic, _ in topics].index(message.topic) + 1
        parts.append(record(5, struct.pack("<HIQQ", number, sequence, message.time_ns, message.time_ns) + message.data))
    parts += [record(15, bytes(4)), record(2, bytes(20)), b"\x89MCAP0\r\n"]
    path.write_bytes(b"".join(parts))
    return path


def test_an_mcap_without_an_index_is_read(street, drive_messages, evaluated, tmp_path):
    report = evaluated(mcap(tmp_path / "plain.mcap", drive_messages))
    assert (report["scores"]["frames"], report["scores"]["judged_frames"]) == (FRAMES, FRAMES)
    assert report["labels_sha256"] == evaluated(street)["labels_sha256"]


def test_an_mcap_without_an_index_whose_messages_are_out_of_order_says_so(drive_messages, evaluated, tmp_path):
    drive_messages[4], drive_messages[8] = drive_messages[8], drive_messages[4]
    with pytest.raises(BagError, match=r"plain.mcap' cannot be read beyond \d\.\d+ s: .*not in timestamp order"):
        evaluated(mcap(tmp_path / "plain.mcap", drive_messages))


def test_an_mcap_that_holds_more_than_ros_says_so(drive_messages, evaluated, tmp_path):
    with pytest.raises(BagError, match=r"mixed.mcap' cannot be read: .*'jsonschema'.*`mcap filter` leaves out"):
        evaluated(mcap(tmp_path / "mixed.mcap", drive_messages, also_json=True))


def test_an_mcap_that_does_not_define_its_images_is_read_by_the_standard(drive_messages, evaluated, tmp_path):
    """Some recorders leave definitions out; that another topic of the file has one must make no difference."""
    images = [message for message in drive_messages if message.type == IMAGE]
    for messages, undefined in ((images, {IMAGE}), (drive_messages, {IMAGE})):
        report = evaluated(mcap(tmp_path / "undefined.mcap", messages, undefined=undefined))
        assert report["scores"]["judged_frames"] == FRAMES


@pytest.mark.parametrize("profile", ["", "ros1"])
def test_an_mcap_of_another_profile_says_so(drive_messages, evaluated, tmp_path, profile):
    with pytest.raises(BagError, match=r"other.mcap' cannot be read: Profile is not ros2"):
        evaluated(mcap(tmp_path / "other.mcap", drive_messages, profile=profile))


@pytest.mark.parametrize("share", [0.5, 0.98])
@pytest.mark.parametrize("indexed", [True, False])
def test_an_mcap_that_was_cut_short_says_so(drive_messages, write_bag, evaluated, tmp_path, share, indexed):
    path = next(write_bag(drive_messages).glob("*.mcap")) if indexed else mcap(tmp_path / "p.mcap", drive_messages)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(BagError, match=rf"{path.name} is cut short.*mcap recover"):
        evaluated(path)


def test_a_database_that_was_cut_short_says_so(drive_messages, write_bag, evaluated):
    path = next(write_bag(drive_messages, storage="sqlite3").glob("*.db3"))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(BagError, match=r"drive.db3' cannot be read"):
        evaluated(path)


def test_a_damaged_chunk_is_located(drive_messages, evaluated, tmp_path):
    writer = Writer(tmp_path / "drive", version=8, storage_plugin=StoragePlugin.MCAP)
    writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
    with writer:
        topics = {topic: writer.add_connection(topic, IMAGE, typestore=standard_types()) for topic in (CAMERA, TRUTH)}
        for message in drive_messages:
            if message.topic in topics:
                writer.write(topics[message.topic], message.time_ns, message.data)
    assert evaluated(tmp_path / "drive")["scores"]["frames"] == FRAMES
    path = tmp_path / "drive" / "drive.mcap"
    content = bytearray(path.read_bytes())
    content[len(content) // 3 : len(content) // 2] = bytes(len(content) // 2 - len(content) // 3)
    path.write_bytes(content)
    with pytest.raises(BagError, match=r"drive' cannot be read beyond 0.000 s: ") as caught:
        evaluated(tmp_path / "drive")
    assert "\n" not in str(caught.value)
