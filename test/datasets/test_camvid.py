"""CamVid on a tiny tree, and on the real one where it is."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from sdcpc_ros.datasets.camvid import CamVid, DatasetError
from sdcpc_ros.label_set import CAMVID_11, IGNORE

REAL_ROOT = Path(os.environ.get("SDCPC_CAMVID", Path(__file__).resolve().parents[2].parent / "shared" / "camvid"))


def write(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)


def write_frame(root: Path, name: str, labels: np.ndarray, split: str = "val", colour: tuple = (10, 20, 30)) -> None:
    """One frame of a single RGB colour."""
    image = np.full((*labels.shape, 3), colour[::-1], np.uint8)
    write(root / split / "images" / f"{name}.png", image)
    write(root / split / "labels" / f"{name}.png", labels)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number in (7, 9, 11):
        write_frame(tmp_path, f"0016E5_{number:05d}", np.array([[0, 10, 11], [3, 4, number - 7]], np.uint8))
    return tmp_path


def test_items_are_rgb_with_void_as_255(root: Path) -> None:
    camvid = CamVid(root, "val")
    image, labels = camvid[1]
    assert camvid.label_set is CAMVID_11
    assert len(camvid) == 3
    assert camvid.names == ["0016E5_00007", "0016E5_00009", "0016E5_00011"]
    assert image.shape == (2, 3, 3)
    assert image.dtype == labels.dtype == np.uint8
    np.testing.assert_array_equal(image[0, 0], (10, 20, 30))
    np.testing.assert_array_equal(labels, [[0, 10, IGNORE], [3, 4, 2]])
    assert camvid.stamp_s(2) - camvid.stamp_s(0) == pytest.approx(4 / 30)


def test_iteration_ends(root: Path) -> None:
    assert len(list(CamVid(root, "val"))) == 3


def test_jpeg_images_are_read(root: Path) -> None:
    for path in (root / "val" / "images").iterdir():
        image = cv2.imread(str(path))
        path.unlink()
        write(path.with_suffix(".jpg"), image)
    image, _ = CamVid(root, "val")[0]
    np.testing.assert_allclose(image[0, 0], (10, 20, 30), atol=3)


@pytest.mark.parametrize(
    ("names", "runs"),
    [
        (["a_01", "a_03", "a_05"], [range(3)]),
        (["a_01"], [range(1)]),
        (["a_01", "a_03", "a_09", "a_11"], [range(2), range(2, 4)]),
        (["a_01", "a_03", "b_05", "b_35", "b_65"], [range(2), range(2, 5)]),
        (["a_000", "a_030", "a_061", "a_090"], [range(4)]),
        (["a_8", "a_9", "a_10"], [range(3)]),
        (["a_1", "b_1"], [range(1), range(1, 2)]),
    ],
)
def test_clips_are_runs_of_consecutive_frames(tmp_path: Path, names: list[str], runs: list[range]) -> None:
    for name in names:
        write_frame(tmp_path, name, np.zeros((1, 1), np.uint8))
    camvid = CamVid(tmp_path, "val")
    assert camvid.names == names
    assert camvid.clips() == runs


class TestErrorsNameTheFileAndTheRule:
    def test_wrong_root(self, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match=r"no folder .*nowhere.*ROOT/SPLIT/images"):
            CamVid(tmp_path / "nowhere", "val")

    def test_wrong_split(self, root: Path) -> None:
        with pytest.raises(DatasetError, match=r"no folder .*split 'valid'"):
            CamVid(root, "valid")

    def test_empty_split(self, tmp_path: Path) -> None:
        for folder in ("images", "labels"):
            (tmp_path / "val" / folder).mkdir(parents=True)
        with pytest.raises(DatasetError, match="no images in"):
            CamVid(tmp_path, "val")

    def test_missing_label_image(self, root: Path) -> None:
        (root / "val" / "labels" / "0016E5_00009.png").unlink()
        with pytest.raises(DatasetError, match=r"images.0016E5_00009.png' has no label image"):
            CamVid(root, "val")

    def test_missing_image(self, root: Path) -> None:
        (root / "val" / "images" / "0016E5_00009.png").unlink()
        with pytest.raises(DatasetError, match=r"labels.0016E5_00009.png' has no image"):
            CamVid(root, "val")

    def test_name_without_frame_number(self, tmp_path: Path) -> None:
        write_frame(tmp_path, "street", np.zeros((1, 1), np.uint8))
        with pytest.raises(DatasetError, match=r"street.png' is not named by its video and frame number"):
            CamVid(tmp_path, "val")

    def test_id_out_of_range(self, root: Path) -> None:
        write(root / "val" / "labels" / "0016E5_00007.png", np.full((2, 3), 12, np.uint8))
        with pytest.raises(DatasetError, match=r"0016E5_00007.png' holds id 12; 0 to 10, and 11 for void"):
            CamVid(root, "val")[0]

    def test_sizes_differ(self, root: Path) -> None:
        write(root / "val" / "labels" / "0016E5_00007.png", np.zeros((4, 3), np.uint8))
        with pytest.raises(DatasetError, match=r"0016E5_00007.png' is 3x4 but its image '0016E5_00007.png' is 3x2"):
            CamVid(root, "val")[0]

    @pytest.mark.parametrize("labels", [np.zeros((2, 3, 3), np.uint8), np.zeros((2, 3), np.uint16)])
    def test_label_image_of_another_kind(self, root: Path, labels: np.ndarray) -> None:
        write(root / "val" / "labels" / "0016E5_00007.png", labels)
        with pytest.raises(DatasetError, match=r"0016E5_00007.png' is not a single-channel 8-bit image"):
            CamVid(root, "val")[0]

    @pytest.mark.parametrize("content", [b"", b"not an image"])
    @pytest.mark.parametrize("folder", ["images", "labels"])
    def test_undecodable_file(self, root: Path, folder: str, content: bytes) -> None:
        (root / "val" / folder / "0016E5_00007.png").write_bytes(content)
        with pytest.raises(DatasetError, match=rf"{folder}.0016E5_00007.png' is not an image that can be decoded"):
            CamVid(root, "val")[0]

    def test_file_removed_after_listing(self, root: Path) -> None:
        camvid = CamVid(root, "val")
        (root / "val" / "images" / "0016E5_00007.png").unlink()
        with pytest.raises(DatasetError, match=r"cannot read .*0016E5_00007.png': No such file"):
            camvid[0]


@pytest.mark.skipif(not REAL_ROOT.is_dir(), reason=f"no CamVid at {REAL_ROOT}; set SDCPC_CAMVID to its folder")
class TestRealCamVid:
    def test_train(self) -> None:
        camvid = CamVid(REAL_ROOT, "train")
        clips = camvid.clips()
        assert len(camvid) == 367
        assert [index for clip in clips for index in clip] == list(range(367))
        assert len(clips) == 5

    def test_val_is_one_clip_at_15_hz(self) -> None:
        camvid = CamVid(REAL_ROOT, "val")
        assert len(camvid) == 101
        assert camvid.clips() == [range(101)]
        assert camvid.stamp_s(100) - camvid.stamp_s(0) == pytest.approx(100 / 15)

    @pytest.mark.parametrize("split", ["train", "val"])
    def test_items(self, split: str) -> None:
        camvid = CamVid(REAL_ROOT, split)
        for index in (0, len(camvid) - 1):
            image, labels = camvid[index]
            assert image.shape == (360, 480, 3)
            assert labels.shape == (360, 480)
            assert set(np.unique(labels)) <= {*range(11), IGNORE}
