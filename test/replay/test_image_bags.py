from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from sdcpc_ros.bags.errors import BagError
from sdcpc_ros.bags.messages import CAMERA_INFO
from sdcpc_ros.bags.reader import BagReader
from sdcpc_ros.datasets.video_dataset import DatasetError
from sdcpc_ros.labels.label_set import IGNORE
from sdcpc_ros.replay.bag_source import BagSettings, BagSource
from sdcpc_ros.replay.image_bags import (
    CAMERA_INFO_TOPIC,
    GROUND_TRUTH_TOPIC,
    IMAGE_TOPIC,
    START_NS,
    StreetBag,
    is_street_bag,
    list_frames,
    write_folder_bag,
    write_street_bag,
)
from sdcpc_ros.replay.sources import image_files, open_source

SMALL = StreetBag(seed=3, size=(48, 64), length=4)


@pytest.fixture(scope="module")
def small_street(tmp_path_factory):
    path = tmp_path_factory.mktemp("bags") / "street"
    counts: list[int] = []
    write_street_bag(path, SMALL, on_frame=lambda: counts.append(1))
    assert len(counts) == 4
    return path


def test_the_bag_holds_the_street_at_its_rate(small_street):
    street = SMALL.street()
    with BagReader(small_street) as bag:
        camera = bag.camera_topic()
        assert camera == IMAGE_TOPIC
        assert bag.ground_truth_topic(camera) == GROUND_TRUTH_TOPIC
        assert bag.camera_info_topic(camera) == CAMERA_INFO_TOPIC
        frames = list(bag.frames(camera, GROUND_TRUTH_TOPIC))
        for index, frame in enumerate(frames):
            image, labels = street[index]
            np.testing.assert_array_equal(frame.image(), image)
            np.testing.assert_array_equal(frame.labels(GROUND_TRUTH_TOPIC), labels)
            assert frame.stamp_ns == frame.camera.time_ns
        stamps_s = np.array([frame.stamp_ns - frames[0].stamp_ns for frame in frames]) / 1e9
        np.testing.assert_allclose(stamps_s, np.arange(4) / 15, atol=1e-8)


def test_its_camera_info_describes_the_camera(small_street):
    with BagReader(small_street) as bag:
        message = next(bag.messages(CAMERA_INFO_TOPIC))
        assert message.type == CAMERA_INFO
        info = bag.deserialise(message)
        assert (info.height, info.width) == SMALL.size
        assert info.k[0] == info.k[4] > 0


@pytest.mark.slow
def test_the_same_street_is_recognised_and_no_other(small_street, drive, tmp_path):
    assert is_street_bag(small_street, SMALL)
    for change in ({"seed": 4}, {"size": (64, 64)}, {"length": 5}, {"rate_hz": 10.0}):
        assert not is_street_bag(small_street, replace(SMALL, **change))
    assert not is_street_bag(drive, SMALL)
    assert not is_street_bag(tmp_path / "nothing", SMALL)


def test_nothing_but_a_bag_is_overwritten(tmp_path):
    (tmp_path / "street").mkdir()
    with pytest.raises(BagError, match="in the way"):
        write_street_bag(tmp_path / "street", SMALL)


def write_image(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)


@pytest.fixture
def split(tmp_path: Path) -> Path:
    """Three images, named so that the alphabet orders them wrongly; the second has no labels."""
    for number in (9, 10, 11):
        write_image(tmp_path / "val" / "images" / f"f{number}.png", np.full((4, 6, 3), (0, 0, number), np.uint8))
        if number != 10:
            labels = np.full((4, 6), number % 3, np.uint8)
            labels[0, 0] = 11
            write_image(tmp_path / "val" / "labels" / f"f{number}.png", labels)
    return tmp_path / "val"


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_split_becomes_a_drive_with_its_truth(split, tmp_path, storage):
    done: list[int] = []
    options = {"rate_hz": 10, "void": frozenset({11}), "storage": storage}
    write_folder_bag(tmp_path / "bag", list_frames(split), **options, on_frame=lambda: done.append(1))
    assert len(done) == 3
    with BagReader(tmp_path / "bag") as bag:
        frames = list(bag.frames(bag.camera_topic(), GROUND_TRUTH_TOPIC))
        assert [frame.stamp_ns - START_NS for frame in frames] == [0, 100_000_000, 200_000_000]
        assert [frame.camera.time_ns for frame in frames] == [frame.stamp_ns for frame in frames]
        assert [int(frame.image()[0, 0, 0]) for frame in frames] == [9, 10, 11]  # RGB from OpenCV's BGR
        labels = [frame.labels(GROUND_TRUTH_TOPIC) for frame in frames]
        assert labels[1] is None
        assert [(int(ids[0, 0]), int(ids[1, 1])) for ids in (labels[0], labels[2])] == [(IGNORE, 0), (IGNORE, 2)]
        # The bag names its frames, so that masks elsewhere find them.
        source = BagSource(bag, BagSettings(truth=str(split / "labels")))
        assert source.truth.description == "masks in labels/, matched by name"
        assert [frame.truth is None for frame in source.frames()] == [False, True, False]


def test_compressed_images_are_jpeg_or_png_whatever_their_names(split, tmp_path):
    image = split / "images" / "f10.png"
    for ending, kind in ((".jpg", "jpeg"), (".webp", None)):
        image.write_bytes(cv2.imencode(ending, np.full((4, 6, 3), 128, np.uint8))[1].tobytes())
        if kind is None:
            with pytest.raises(BagError, match=r"f10.png' holds neither JPEG nor PNG data, which --compressed keeps"):
                write_folder_bag(tmp_path / "bag", list_frames(split / "images"), compressed=True)
        else:
            topic = write_folder_bag(tmp_path / "bag", list_frames(split / "images"), compressed=True)
            with BagReader(tmp_path / "bag") as bag:
                assert [bag.deserialise(each).format for each in bag.messages(topic)] == ["png", kind, "png"]
    write_folder_bag(tmp_path / "bag", list_frames(split / "images"))


def test_compressed_images_stay_the_files_they_are(split, tmp_path):
    write_image(split / "images" / "f12.jpg", np.full((4, 6, 3), 128, np.uint8))
    frames = list_frames(split / "images")
    assert [label for _, label in frames] == [None] * 4  # only a folder of images was named
    topic = write_folder_bag(tmp_path / "bag", frames, compressed=True)
    with BagReader(tmp_path / "bag") as bag:
        assert bag.camera_topic() == topic
        messages = [bag.deserialise(message) for message in bag.messages(topic)]
    assert [message.format for message in messages] == ["png", "png", "png", "jpeg"]
    assert bytes(messages[0].data) == (split / "images" / "f9.png").read_bytes()


def with_orientation(jpeg: bytes, orientation: int) -> bytes:
    """A JPEG file with an EXIF tag that says how a camera was held."""
    tag = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01" + bytes([0, orientation]) + bytes(6)
    return jpeg[:2] + b"\xff\xe1" + (len(tag) + 2).to_bytes(2, "big") + tag + jpeg[2:]


def test_an_image_is_turned_as_its_camera_was_held_but_not_away_from_its_labels(tmp_path):
    jpeg = cv2.imencode(".jpg", np.full((8, 16, 3), 90, np.uint8))[1].tobytes()
    (tmp_path / "images").mkdir()
    for name in ("a", "b"):
        (tmp_path / "images" / f"{name}.jpg").write_bytes(with_orientation(jpeg, 6))
    write_image(tmp_path / "labels" / "b.png", np.zeros((8, 16), np.uint8))
    write_folder_bag(tmp_path / "bag", list_frames(tmp_path))
    with BagReader(tmp_path / "bag") as bag:
        sizes = [frame.image().shape[:2] for frame in bag.frames(bag.camera_topic())]
    assert sizes == [(16, 8), (8, 16)]
    with open_source(str(tmp_path / "images")) as source:
        assert {frame.image.shape[:2] for frame in source.frames} == {(16, 8)}


def test_labels_may_lie_elsewhere(split, tmp_path):
    (split / "labels").rename(tmp_path / "masks")
    assert not any(label for _, label in list_frames(split))
    assert [label is not None for _, label in list_frames(split, tmp_path / "masks")] == [True, False, True]


@pytest.mark.parametrize(
    ("names", "ordered"),
    [
        (["b10", "b9", "a1"], ["a1", "b9", "b10"]),
        (["0016E5_07961", "0016E5_07959"], ["0016E5_07959", "0016E5_07961"]),
        (["2", "10", "1_b"], ["1_b", "2", "10"]),
    ],
)
def test_numbers_in_names_are_counted(tmp_path, names, ordered):
    for name in names:
        (tmp_path / f"{name}.png").touch()
    assert [path.stem for path in image_files(tmp_path)] == ordered


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"rate_hz": 0}, "the rate is 0; 0.001 to 10000 images a second"),
        ({"rate_hz": float("nan")}, "the rate is nan"),
        ({"rate_hz": 1e-320}, "the rate is 1e-320"),
        ({"rate_hz": 1e12}, "the rate is 1000000000000.0"),
        ({"void": frozenset({300})}, r"void ids are \[300\]; 0 to 255 are allowed"),
        ({"folder": Path("nowhere")}, "there is no folder 'nowhere'"),
        ({"labels": Path("nowhere")}, "there is no folder 'nowhere'"),
    ],
)
def test_what_makes_no_drive_is_refused(split, tmp_path, options, sentence):
    with pytest.raises(BagError, match=sentence):
        frames = list_frames(options.pop("folder", split), options.pop("labels", None))
        write_folder_bag(tmp_path / "bag", frames, **options)
    assert not (tmp_path / "bag").exists()


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(BagError, match=r"no images in .*; files ending in \.png, \.jpg, \.jpeg are read"):
        list_frames(tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "sentence"),
    [
        ("images/f9.png", b"", "f9.png' is not an image that can be decoded"),
        ("labels/f11.png", b"PNG?", "f11.png' is not an image that can be decoded"),
        ("labels/f9.png", np.zeros((4, 5), np.uint8), r"f9.png' is 5x4 but its image is 6x4"),
        ("labels/f9.png", np.zeros((4, 6, 3), np.uint8), "f9.png' holds colours, and no label set says"),
    ],
)
def test_a_file_that_does_not_go_is_named_and_no_bag_is_left(split, tmp_path, file, content, sentence):
    if isinstance(content, bytes):
        (split / file).write_bytes(content)
    else:
        write_image(split / file, content)
    with pytest.raises((BagError, DatasetError), match=sentence):
        write_folder_bag(tmp_path / "bag", list_frames(split))
    assert not (tmp_path / "bag").exists()
