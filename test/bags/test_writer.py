from __future__ import annotations

import pytest
from bag_fixtures import write_all

from sdcpc_ros.bags.errors import BagError
from sdcpc_ros.bags.reader import BagReader
from sdcpc_ros.bags.writer import BagWriter


def test_a_bag_appears_when_it_is_complete(tmp_path, camera_messages):
    with BagWriter(tmp_path / "street") as bag:
        write_all(bag, camera_messages(2))
        assert not (tmp_path / "street").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["street"]


def test_a_bag_whose_writing_fails_leaves_no_trace(tmp_path, camera_messages):
    with pytest.raises(RuntimeError, match="power cut"), BagWriter(tmp_path / "street") as bag:
        write_all(bag, camera_messages(2))
        raise RuntimeError("power cut")
    assert list(tmp_path.iterdir()) == []


def test_an_older_bag_stays_until_the_new_one_is_complete(write_bag, camera_messages, tmp_path):
    path = write_bag(camera_messages(3), name="street")
    with pytest.raises(RuntimeError), BagWriter(path):
        raise RuntimeError
    with BagReader(path) as bag:
        assert bag.topics["/camera/image_raw"].message_count == 3
    with BagWriter(path) as writer:
        write_all(writer, camera_messages(1))
    with BagReader(path) as bag:
        assert bag.topics["/camera/image_raw"].message_count == 1
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_no_bag_is_not_replaced(tmp_path):
    (tmp_path / "thesis").mkdir()
    with pytest.raises(BagError, match="thesis' is in the way of the bag to write there, and is no bag itself"):
        BagWriter(tmp_path / "thesis")
    assert (tmp_path / "thesis").is_dir()


def test_an_unknown_storage_is_refused(tmp_path):
    with pytest.raises(BagError, match="storage is 'zip'; mcap and sqlite3 are allowed"):
        BagWriter(tmp_path / "bag", storage="zip")


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_notes_are_read_back(tmp_path, storage):
    with BagWriter(tmp_path / "bag", storage=storage, notes={"recipe": '{"eggs": 2}'}):
        pass
    with BagReader(tmp_path / "bag") as bag:
        assert bag.custom_data == {"recipe": '{"eggs": 2}'}


def test_packed_chunks_hold_the_same_messages_in_less_space(tmp_path, camera_messages):
    messages = camera_messages(40)
    for name, compressed in (("plain", False), ("packed", True)):
        with BagWriter(tmp_path / name, compressed=compressed) as bag:
            write_all(bag, messages)
    with BagReader(tmp_path / "packed") as bag:
        assert list(bag.messages()) == messages
    sizes = [(tmp_path / name / f"{name}.mcap").stat().st_size for name in ("plain", "packed")]
    assert sizes[1] < sizes[0] / 2


def test_latched_topics_are_offered_so_when_the_bag_is_played(tmp_path, camera_messages):
    with BagWriter(tmp_path / "drive", latched=["/camera/camera_info"]) as bag:
        write_all(bag, camera_messages(1))
    with BagReader(tmp_path / "drive") as bag:
        assert {name for name, topic in bag.topics.items() if topic.latched} == {"/camera/camera_info"}


def test_only_mcap_packs_chunks(tmp_path):
    with pytest.raises(BagError, match="only mcap packs its own chunks; the storage is 'sqlite3'"):
        BagWriter(tmp_path / "drive", storage="sqlite3", compressed=True)
