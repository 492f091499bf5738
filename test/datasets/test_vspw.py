"""VSPW on tiny trees."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from sdcpc_ros.datasets.video_dataset import DatasetError
from sdcpc_ros.datasets.vspw import VSPW
from sdcpc_ros.labels.label_set import IGNORE, VSPW_124

MASK = np.array([[0, 1, 124], [255, 2, 100]], np.uint8)
FRAMES = 12


def write(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)


def write_video(root: Path, video: str, first: int = 0) -> None:
    for number in range(first, first + FRAMES):
        write(root / "data" / video / "origin" / f"{number:08d}.jpg", np.full((2, 3, 3), number, np.uint8))
        write(root / "data" / video / "mask" / f"{number:08d}.png", MASK)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for video, first in (("1_aa", 80), ("2_bb", 0), ("3_cc", 0), ("4_dd", 0)):
        write_video(tmp_path, video, first)
    for split, text in (("train", "2_bb\n1_aa\n"), ("val", "3_cc\n"), ("test", "4_dd\n")):
        (tmp_path / f"{split}.txt").write_text(text)
    return tmp_path


def test_each_listed_video_is_a_run_at_15_hz(root: Path) -> None:
    vspw = VSPW(root, "train")
    assert (vspw.name, vspw.label_set, len(VSPW_124)) == ("VSPW train", VSPW_124, 124)
    assert vspw.runs == [range(FRAMES), range(FRAMES, 2 * FRAMES)]
    assert {frame.video for frame in vspw.frames} == {"1_aa", "2_bb"}
    assert vspw.labelled == list(range(2 * FRAMES))
    assert vspw.rate_hz == pytest.approx(15)


def test_others_and_255_are_void_and_the_classes_start_at_0(root: Path) -> None:
    image, labels = VSPW(root, "val")[3]
    np.testing.assert_array_equal(labels, [[IGNORE, 0, 123], [IGNORE, 1, 99]])
    assert image.shape == (2, 3, 3)
    assert VSPW_124.class_names[0] == "wall"


def test_test_has_no_labels(root: Path) -> None:
    for path in (root / "data" / "4_dd" / "mask").iterdir():
        path.unlink()
    (root / "data" / "4_dd" / "mask").rmdir()
    vspw = VSPW(root, "test")
    assert (len(vspw), vspw.labelled) == (FRAMES, [])


VIDEO = Path("data", "3_cc")  # the only one of val


def mask(labels: np.ndarray) -> Callable[[Path], object]:
    return lambda root: write(root / VIDEO / "mask" / "00000000.png", labels)


def listed(text: str) -> Callable[[Path], object]:
    return lambda root: (root / "val.txt").write_text(text)


def empty_video(root: Path) -> None:
    for folder in ("origin", "mask"):
        (root / "data" / "5_ee" / folder).mkdir(parents=True)
    (root / "val.txt").write_text("5_ee\n")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda root: (root / "val.txt").unlink(),
            r"no file '.*val.txt'; VSPW needs ROOT/SPLIT.txt .*holds data, test.txt, train.txt$",
        ),
        (listed("\n\n"), r"val.txt' lists no video"),
        *(
            (listed(f"3_cc\n{video}\n"), r"val.txt' lists '.*', which is no name of a folder in '.*data'")
            for video in ("../elsewhere", "/etc", ".hidden", "a\\b")
        ),
        (listed("3_cc\n9_xx\n"), r"no folder '.*9_xx.origin'; VSPW needs .*holds 1_aa, 2_bb, 3_cc, 4_dd$"),
        (lambda root: (root / VIDEO / "mask").rename(root / "mask"), r"no folder '.*3_cc.mask'"),
        (
            lambda root: (root / VIDEO / "mask" / "00000004.png").unlink(),
            r"origin.00000004.jpg' has no label image; '.*mask.00000004.png' is need",
        ),
        (
            lambda root: (root / VIDEO / "origin" / "00000004.jpg").unlink(),
            r"mask.00000004.png' has no image of that name",
        ),
        (empty_video, r"no images in '.*5_ee.origin'"),
        (
            mask(np.array([[0, 0, 0], [0, 125, 0]], np.uint8)),
            r"00000000.png' holds id 125 \(first at x 1, y 1\); 0 to 124, and 255",
        ),
        (mask(np.zeros((4, 6), np.uint8)), r"mask.00000000.png' is 6x4 but .*origin.00000000.jpg' is 3x2"),
    ],
)
def test_errors_name_the_file_and_the_rule(root: Path, change: Callable[[Path], object], message: str) -> None:
    change(root)
    with pytest.raises(DatasetError, match=message):
        VSPW(root, "val")[0]
