from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from sdcpc_ros.bags.errors import BagError
from sdcpc_ros.bags.reader import BagReader
from sdcpc_ros.labels.label_set import IGNORE
from sdcpc_ros.replay.bag_source import BagSettings, BagSource, _frame_names

CAMERA = "/camera/image_raw"
START_NS, PERIOD_NS = 1_700_000_000_000_000_000, 100_000_000  # as the drive of conftest has them


def masks(folder: Path, *names: str) -> str:
    """Masks of the drive's size, all of the index of the name but for a corner of 7."""
    folder.mkdir()
    for index, name in enumerate(names):
        mask = np.full((6, 8), index, np.uint8)
        mask[-1, -1] = 7
        assert cv2.imwrite(str(folder / f"{name}.png"), mask)
    return str(folder)


def truths(drive: Path, wanted: str | None, void: tuple[int, ...] = ()) -> tuple[str, list[int | None]]:
    """What is said of the truth, and the first pixel of each frame's."""
    with BagReader(drive) as bag:
        source = BagSource(bag, BagSettings(CAMERA, wanted, void))
        found = [frame.truth for frame in source.frames()]
    return source.truth.description, [None if labels is None else int(labels[0, 0]) for labels in found]


def test_the_bags_own_truth_is_found_unless_another_is_wanted(drive):
    assert truths(drive, None) == ("topic /camera/ground_truth", [0, 1, 2, 3, 4])
    assert truths(drive, "/camera/ground_truth")[1] == [0, 1, 2, 3, 4]
    assert truths(drive, "none") == ("none", [None] * 5)


def test_void_ids_become_255(drive, tmp_path):
    assert truths(drive, None, (1, 3))[1] == [0, IGNORE, 2, IGNORE, 4]
    folder = masks(tmp_path / "masks", "0", "1")
    assert truths(drive, folder, (1,))[1] == [0, IGNORE, None, None, None]


def test_a_bag_without_truth_has_none(write_bag, camera_messages):
    path = write_bag([message for message in camera_messages(2) if "ground_truth" not in message.topic])
    assert truths(path, None) == ("none", [None, None])


@pytest.mark.parametrize(
    ("names", "matched_by", "found"),
    [
        ([str(START_NS), str(START_NS + 3 * PERIOD_NS + 900_000)], "stamp", [0, None, None, 1, None]),
        ([str(START_NS), str(START_NS + PERIOD_NS + 1_100_000)], "stamp", [0, *[None] * 4]),  # a millisecond, no more
        (["1700000000.1", "1700000000_400000000"], "stamp", [None, 0, None, None, 1]),
        (["mask_0001", "mask_0004"], "number", [None, 0, None, None, 1]),
        (["3", "17"], "number", [None, None, None, 1, None]),  # files in the order of their names: 17, 3
    ],
)
def test_masks_are_matched_by_what_they_are_named_for(drive, tmp_path, names, matched_by, found):
    description, first_pixels = truths(drive, masks(tmp_path / "masks", *sorted(names)))
    assert description == f"masks in masks/, matched by {matched_by}"
    assert first_pixels == found


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ([], "holds no .png file"),
        (["first"], "first.png' is named by neither a stamp nor a frame's name nor a number"),
        (["a1", "b1"], "the masks 'a1.png' and 'b1.png' are both for image 1"),
        (["a5", "a9"], r"no image has a mask .* named 'a5.png' to 'a9.png', the images have the numbers 0 to 4 and"),
        ([str(START_NS + 2_000_000)], rf"by stamp; these .* and the stamps {START_NS} to {START_NS + 4 * PERIOD_NS}$"),
    ],
)
def test_masks_that_cannot_be_matched_are_refused(drive, tmp_path, names, sentence):
    with pytest.raises(BagError, match=sentence):
        truths(drive, masks(tmp_path / "masks", *names))


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        ("/nowhere", r"has no topic /nowhere; it has /camera/camera_info"),
        ("nowhere", "no ground truth 'nowhere': neither a topic of the bag, nor a folder of masks, nor 'none'"),
    ],
)
def test_a_truth_that_is_not_there_is_named(drive, wanted, sentence):
    with pytest.raises(BagError, match=sentence):
        truths(drive, wanted)


def test_images_that_the_reader_skips_are_told(drive):
    metadata = drive / "metadata.yaml"
    metadata.write_text(metadata.read_text().replace("message_count: 5", "message_count: 7"))
    with BagReader(drive) as bag:
        *frames, lost = BagSource(bag, BagSettings(CAMERA)).frames()
        assert len(frames) == 5 and lost.problem == f"bag '{drive}' holds 5 of the 7 images that its index counts"
        assert len(list(BagSource(bag, BagSettings(CAMERA, duration_s=0.25)).frames())) == 3


@pytest.mark.parametrize("note", [5, None, {"a": 1}, "[" * 100_000, "{"])
def test_frame_names_of_another_kind_are_none(note):
    assert _frame_names(SimpleNamespace(custom_data={"frame_names": note})) == []
