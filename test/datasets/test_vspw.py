"""VSPW on tiny trees."""

from __future__ import annotations

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


class TestErrorsNameTheFileAndTheRule:
    def test_wrong_root(self, root: Path) -> None:
        with pytest.raises(
            DatasetError, match=r"no file '.*data.train.txt'; VSPW needs ROOT/SPLIT.txt .*holds 1_aa, 2"
        ):
            VSPW(root / "data", "train")

    def test_wrong_split(self, root: Path) -> None:
        with pytest.raises(DatasetError, match=r"no file '.*valid.txt'; .*holds data, test.txt, train.txt, val.txt$"):
            VSPW(root, "valid")

    def test_empty_list(self, root: Path) -> None:
        (root / "val.txt").write_text("\n\n")
        with pytest.raises(DatasetError, match=r"val.txt' lists no video"):
            VSPW(root, "val")

    @pytest.mark.parametrize("video", ["../elsewhere", "/etc", ".hidden", "a\\b"])
    def test_a_list_that_leads_elsewhere(self, root: Path, video: str) -> None:
        (root / "val.txt").write_text(f"3_cc\n{video}\n")
        with pytest.raises(DatasetError, match=r"val.txt' lists '.*', which is no name of a folder in '.*data'"):
            VSPW(root, "val")

    def test_a_listed_video_that_is_not_there(self, root: Path) -> None:
        (root / "val.txt").write_text("3_cc\n9_xx\n")
        with pytest.raises(
            DatasetError, match=r"no folder '.*9_xx.origin'; VSPW needs .*holds 1_aa, 2_bb, 3_cc, 4_dd$"
        ):
            VSPW(root, "val")

    def test_no_masks(self, root: Path) -> None:
        (root / "data" / "3_cc" / "mask").rename(root / "mask")
        with pytest.raises(DatasetError, match=r"no folder '.*3_cc.mask'"):
            VSPW(root, "val")

    def test_a_missing_mask(self, root: Path) -> None:
        (root / "data" / "3_cc" / "mask" / "00000004.png").unlink()
        with pytest.raises(
            DatasetError, match=r"origin.00000004.jpg' has no label image; '.*mask.00000004.png' is need"
        ):
            VSPW(root, "val")

    def test_a_missing_image(self, root: Path) -> None:
        (root / "data" / "3_cc" / "origin" / "00000004.jpg").unlink()
        with pytest.raises(DatasetError, match=r"mask.00000004.png' has no image of that name"):
            VSPW(root, "val")

    def test_an_empty_video(self, root: Path) -> None:
        for folder in ("origin", "mask"):
            (root / "data" / "5_ee" / folder).mkdir(parents=True)
        (root / "val.txt").write_text("5_ee\n")
        with pytest.raises(DatasetError, match=r"no images in '.*5_ee.origin'"):
            VSPW(root, "val")

    def test_id_out_of_range(self, root: Path) -> None:
        write(root / "data" / "3_cc" / "mask" / "00000000.png", np.array([[0, 0, 0], [0, 125, 0]], np.uint8))
        with pytest.raises(DatasetError, match=r"00000000.png' holds id 125 \(first at x 1, y 1\); 0 to 124, and 255"):
            VSPW(root, "val")[0]

    def test_sizes_differ(self, root: Path) -> None:
        write(root / "data" / "3_cc" / "mask" / "00000000.png", np.zeros((4, 6), np.uint8))
        with pytest.raises(DatasetError, match=r"mask.00000000.png' is 6x4 but .*origin.00000000.jpg' is 3x2"):
            VSPW(root, "val")[0]
