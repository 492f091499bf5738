"""`sdcpc make-bag`."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from sdcpc_ros import cli
from sdcpc_ros.bags.reader import BagReader


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for kind in ("images", "masks"):
        (tmp_path / "in" / kind).mkdir(parents=True)
    for number in range(3):
        assert cv2.imwrite(str(tmp_path / "in" / "images" / f"{number}.jpg"), np.zeros((4, 6, 3), np.uint8))
        assert cv2.imwrite(str(tmp_path / "in" / "masks" / f"{number}.png"), np.full((4, 6), 11, np.uint8))
    return tmp_path / "in"


def test_a_folder_becomes_a_bag(folder, tmp_path, capsys):
    options = ["--labels", str(folder / "masks"), "--void", "11", "12", "--rate", "2", "--storage", "sqlite3"]
    assert cli.main(["make-bag", str(folder / "images"), "-o", str(tmp_path / "bag"), "--compressed", *options]) == 0
    told = capsys.readouterr()
    assert told.err == "" and "3 images on /camera/image_raw/compressed, 3 with ground truth, 1.5 s" in told.out
    with BagReader(tmp_path / "bag") as bag:
        frames = list(bag.frames(bag.camera_topic(), "/camera/ground_truth"))
        assert frames[2].stamp_ns - frames[0].stamp_ns == 1_000_000_000
        assert (frames[0].labels("/camera/ground_truth") == 255).all()
    assert (tmp_path / "bag" / "bag.db3").is_file()


def test_one_image_is_counted_as_one(folder, tmp_path, capsys):
    for number in (1, 2):
        (folder / "images" / f"{number}.jpg").unlink()
    assert cli.main(["make-bag", str(folder / "images"), "-o", str(tmp_path / "bag")]) == 0
    assert ": 1 image on /camera/image_raw, 0 with" in capsys.readouterr().out


def test_a_bag_does_not_replace_the_images_it_is_made_of(folder, tmp_path, capsys):
    (tmp_path / "in" / "metadata.yaml").touch()  # the images lie in the folder of a bag
    assert cli.main(["make-bag", str(folder / "images"), "-o", str(tmp_path / "in")]) == 1
    assert "would replace the images that it is made of; it needs another name" in capsys.readouterr().err
    assert len(list((folder / "images").iterdir())) == 3


def test_a_folder_that_cannot_be_a_bag_is_one_sentence(tmp_path, capsys):
    assert cli.main(["make-bag", str(tmp_path), "-o", str(tmp_path / "bag")]) == 1
    told = capsys.readouterr().err
    assert told.startswith("sdcpc make-bag: no images in '") and told.count("\n") == 1
