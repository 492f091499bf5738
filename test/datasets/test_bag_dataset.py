"""Bags as a data set."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bag_fixtures import write_all
from torch.utils.data import DataLoader

from sdcpc_ros.bags.messages import IMAGE, RawMessage, serialise_image
from sdcpc_ros.bags.writer import BagWriter
from sdcpc_ros.datasets.bag_dataset import BagDataset, open_bags
from sdcpc_ros.datasets.video_dataset import DatasetError
from sdcpc_ros.labels.label_set import CAMVID_11, IGNORE, LabelSet

TRUTH = "/camera/ground_truth"
Messages = Callable[..., list[RawMessage]]
Write = Callable[..., Path]


def opened(path: Path, label_set: LabelSet = CAMVID_11) -> BagDataset:
    return open_bags(path, None, label_set)


def with_labels(messages: list[RawMessage], number: int, labels: np.ndarray, encoding: str = "mono8") -> None:
    """Replace the ground truth of frame `number`."""
    at = [i for i, message in enumerate(messages) if message.topic == TRUTH][number]
    stamp_ns = messages[at].stamp_ns
    messages[at] = replace(messages[at], data=serialise_image(labels, encoding, stamp_ns, "optical"))


def shifted(messages: list[RawMessage], by_ns: int, restamped: bool = True) -> list[RawMessage]:
    """Images and labels recorded later, under later stamps as well or under the same."""
    out = []
    for message in messages:
        if message.type == IMAGE:
            stamp_ns = message.stamp_ns + (by_ns if restamped else 0)
            value = int(message.data[-1])
            shape = (6, 8) if message.topic == TRUTH else (6, 8, 3)
            encoding = "mono8" if message.topic == TRUTH else "rgb8"
            data = serialise_image(np.full(shape, value, np.uint8), encoding, stamp_ns, "optical")
            out.append(replace(message, time_ns=message.time_ns + by_ns, data=data))
    return out


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_frames_in_order_and_at_random(camera_messages: Messages, write_bag: Write, storage: str) -> None:
    path = write_bag(camera_messages(5), storage=storage)
    dataset = opened(path)
    assert (dataset.name, dataset.label_set) == (f"bag {path.stem}", CAMVID_11)
    assert (len(dataset), dataset.labelled, dataset.runs) == (5, [0, 1, 2, 3, 4], [range(5)])
    assert dataset.rate_hz == pytest.approx(10)
    for index in (0, 1, 2, 3, 4, 2, 0, 4):
        image, labels = dataset[index]
        assert image.shape == (6, 8, 3) and (image == index).all()
        assert labels.shape == (6, 8) and (labels == index).all()
        assert image.flags.writeable and labels.flags.writeable  # augmentation may draw in them


def test_frames_without_labels_are_there_to_be_remembered(camera_messages: Messages, write_bag: Write) -> None:
    messages = camera_messages(5)
    truths = [message for message in messages if message.topic == TRUTH]
    dataset = opened(write_bag([message for message in messages if message not in (truths[0], truths[3])]))
    assert dataset.labelled == [1, 2, 4]
    assert (dataset.image(3) == 3).all()
    with pytest.raises(DatasetError, match=r"the image at 0.300 s of bag '.*drive' has no labels; only some frames"):
        dataset[3]


def test_labels_recorded_after_their_image_are_found_by_stamp(camera_messages: Messages, write_bag: Write) -> None:
    messages = [
        replace(message, time_ns=message.time_ns + 350_000_123) if message.topic == TRUTH else message
        for message in camera_messages(5)
    ]
    dataset = opened(write_bag(sorted(messages, key=lambda message: message.time_ns)))
    assert [int(dataset.labels(index)[0, 0]) for index in range(5)] == [0, 1, 2, 3, 4]


def test_a_gap_starts_another_run_and_time_going_back_another_video(
    camera_messages: Messages, write_bag: Write
) -> None:
    first = camera_messages(3)
    after_a_gap = shifted(camera_messages(3), 2_000_000_000)
    looped = shifted(camera_messages(2), 9_000_000_000, restamped=False)  # the recording was played again
    dataset = opened(write_bag([*first, *after_a_gap, *looped]))
    assert dataset.runs == [range(3), range(3, 6), range(6, 8)]
    assert len({frame.video for frame in dataset.frames}) == 2
    assert [int(dataset.image(index)[0, 0, 0]) for index in range(8)] == [0, 1, 2, 0, 1, 2, 0, 1]


def test_a_picture_recorded_twice_is_one_frame(camera_messages: Messages, write_bag: Write) -> None:
    messages = camera_messages(3)
    again = [replace(m, time_ns=m.time_ns + 1000) for m in messages if m.topic == "/camera/image_raw"]
    dataset = opened(write_bag(sorted([*messages, *again], key=lambda message: message.time_ns)))
    assert len(dataset) == 3 and dataset.labelled == [0, 1, 2]


def test_void_and_ids_of_16_bits(camera_messages: Messages, write_bag: Write) -> None:
    messages = camera_messages(2)
    labels = np.zeros((6, 8), np.uint16)
    labels[0, 0], labels[0, 1] = 65535, 10
    with_labels(messages, 0, labels, "mono16")
    assert opened(write_bag(messages)).labels(0)[0, :3].tolist() == [IGNORE, 10, 0]


class TestFoldersOfBags:
    @pytest.fixture
    def root(self, tmp_path: Path, camera_messages: Messages) -> Path:
        root = tmp_path / "bags"
        for name in ("train/b", "train/a", "val/c"):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            with BagWriter(root / name) as bag:
                write_all(bag, camera_messages(2))
        (root / "label_set.json").write_text(json.dumps({**CAMVID_11.to_dict(), "name": "ours"}))
        return root

    def test_a_split_is_a_folder_of_bags(self, root: Path) -> None:
        train = open_bags(root, "train")
        assert (train.name, train.label_set.name, train.runs) == ("bags of train", "ours", [range(2), range(2, 4)])
        assert [Path(frame.video).name for frame in train.frames] == ["a", "a", "b", "b"]
        assert [int(train.image(index)[0, 0, 0]) for index in range(4)] == [0, 1, 0, 1]
        assert len(open_bags(root, "val")) == 2

    def test_a_single_file_is_a_bag(self, root: Path) -> None:
        (file,) = (root / "val" / "c").glob("*.mcap")
        assert len(opened(file)) == 2

    def test_more_bags_than_are_kept_open(self, tmp_path: Path, camera_messages: Messages) -> None:
        for name in "abcdef":
            with BagWriter(tmp_path / name) as bag:
                write_all(bag, camera_messages(1))
        dataset = opened(tmp_path)
        assert [int(dataset.labels(index)[0, 0]) for index in (0, 5, 1, 4, 0, 3, 2)] == [0] * 7
        assert len(dataset._open) == 4

    def test_no_bag(self, root: Path) -> None:
        with pytest.raises(DatasetError, match=r"no bag at '.*test'; bags are needed: .*holds label_set.json, train"):
            open_bags(root, "test")

    def test_ids_that_nothing_explains(self, root: Path) -> None:
        (root / "label_set.json").unlink()
        with pytest.raises(DatasetError, match=r"do not say what their label ids mean; '.*label_set.json' is needed"):
            open_bags(root, "train")

    def test_a_label_set_that_is_none(self, root: Path) -> None:
        (root / "label_set.json").write_text("{}")
        with pytest.raises(DatasetError, match=r"label_set.json: a list of class names"):
            open_bags(root, "train")


def test_worker_processes_read_for_themselves(drive: Path) -> None:
    dataset = opened(drive)
    dataset.image(2)  # a bag is open in this process, and so in those that it forks
    loader = DataLoader(dataset, batch_size=None, num_workers=2, multiprocessing_context="fork")
    for _ in range(3):
        assert [int(image[0, 0, 0]) for image, _ in loader] == [0, 1, 2, 3, 4]


def test_a_copy_reads_for_itself(drive: Path) -> None:
    dataset = opened(drive)
    dataset.image(2)
    copied = deepcopy(dataset)
    assert not copied._open
    assert (copied.image(3) == 3).all()


class TestErrorsNameTheBagAndTheRule:
    def test_no_labels_in_it(self, camera_messages: Messages, write_bag: Write) -> None:
        path = write_bag([message for message in camera_messages(2) if message.topic != TRUTH])
        with pytest.raises(
            DatasetError,
            match=r"bag '.*drive' has no labels: a topic .* it has /camera/camera_info, /camera/image_raw$",
        ):
            opened(path)

    def test_several_cameras(self, camera_messages: Messages, write_bag: Write) -> None:
        with pytest.raises(DatasetError, match=r"several camera topics.*: /left/image_raw, /right/image_raw"):
            opened(write_bag([*camera_messages(2, "/left"), *camera_messages(2, "/right")]))

    def test_id_out_of_range(self, camera_messages: Messages, write_bag: Write) -> None:
        messages = camera_messages(2)
        labels = np.zeros((6, 8), np.uint8)
        labels[2, 3] = 11
        with_labels(messages, 1, labels)
        dataset = opened(write_bag(messages))
        with pytest.raises(
            DatasetError,
            match=r"the labels at 0.100 s of bag '.*drive' hold id 11 \(first at x 3, y 2\); 0 to 10, and 255 for void",
        ):
            dataset[1]

    def test_sizes_differ(self, camera_messages: Messages, write_bag: Write) -> None:
        messages = camera_messages(2)
        with_labels(messages, 1, np.zeros((3, 8), np.uint8))
        with pytest.raises(DatasetError, match=r"the labels at 0.100 s of .* is 8x3 but the image at .* is 8x6"):
            opened(write_bag(messages))[1]

    def test_labels_that_are_no_ids(self, camera_messages: Messages, write_bag: Write) -> None:
        messages = camera_messages(2)
        with_labels(messages, 1, np.zeros((6, 8, 3), np.uint8), "rgb8")
        with pytest.raises(DatasetError, match=r"drive', /camera/ground_truth at 0.100 s: labels cannot be read"):
            opened(write_bag(messages))[1]

    def test_a_damaged_image(self, camera_messages: Messages, write_bag: Write) -> None:
        messages = camera_messages(2)
        at = [i for i, message in enumerate(messages) if message.topic == "/camera/image_raw"][1]
        messages[at] = replace(messages[at], data=messages[at].data[:-40])
        dataset = opened(write_bag(messages))
        assert (dataset.image(0) == 0).all()
        with pytest.raises(DatasetError, match=r"bag '.*drive'.*/camera/image_raw at 0.100 s"):
            dataset.image(1)

    def test_an_empty_file(self, tmp_path: Path) -> None:
        (tmp_path / "drive.mcap").touch()
        with pytest.raises(DatasetError, match=r"bag '.*drive.mcap' is an empty file"):
            opened(tmp_path / "drive.mcap")
