"""CamVid on tiny trees of each layout, and on the real one where it is."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from sdcpc_ros.datasets.camvid import CamVid, segnet_split
from sdcpc_ros.datasets.video_dataset import DatasetError
from sdcpc_ros.labels.label_set import CAMVID_11, IGNORE

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
    assert camvid.frames[2].stamp_s - camvid.frames[0].stamp_s == pytest.approx(4 / 30)


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
def test_runs_are_of_consecutive_frames(tmp_path: Path, names: list[str], runs: list[range]) -> None:
    for name in names:
        write_frame(tmp_path, name, np.zeros((1, 1), np.uint8))
    camvid = CamVid(tmp_path, "val")
    assert camvid.names == names
    assert camvid.runs == runs


def as_tutorial(root: Path, split: str = "val") -> None:
    """The plain tree moved into the SegNet tutorial's folders."""
    (root / split / "labels").rename(root / f"{split}annot")
    (root / split / "images").rename(root / "images")
    (root / split).rmdir()
    (root / "images").rename(root / split)


def test_the_tutorials_folders_hold_the_same(root: Path) -> None:
    plain = [CamVid(root, "val")[index] for index in range(3)]
    as_tutorial(root)
    tutorial = CamVid(root, "val")
    assert tutorial.names == ["0016E5_00007", "0016E5_00009", "0016E5_00011"]
    for (image, labels), (other_image, other_labels) in zip(plain, (tutorial[index] for index in range(3))):
        np.testing.assert_array_equal(image, other_image)
        np.testing.assert_array_equal(labels, other_labels)


#: Some of the 32 colours (red, green, blue) and the class that SegNet made of each.
COLOURS = {
    (128, 128, 128): "sky",
    (64, 192, 0): "building",  # Wall
    (0, 0, 64): "pole",  # TrafficCone
    (192, 0, 64): "road",  # LaneMkgsNonDriv
    (128, 128, 192): "pavement",  # RoadShoulder
    (192, 192, 0): "tree",  # VegetationMisc
    (0, 64, 64): "sign_symbol",  # TrafficLight
    (64, 64, 128): "fence",
    (128, 64, 64): "car",  # OtherMoving
    (64, 128, 64): "pedestrian",  # Animal
    (192, 0, 192): "bicyclist",  # MotorcycleScooter
    (0, 0, 0): None,  # Void
}


def write_original(root: Path, name: str, rgb: np.ndarray) -> None:
    write(root / "701_StillsRaw_full" / f"{name}.png", np.full_like(rgb, 9))
    write(root / "LabeledApproved_full" / f"{name}_L.png", rgb[..., ::-1])


class TestTheOriginal:
    def test_colours_become_eleven_classes(self, tmp_path: Path) -> None:
        write_original(tmp_path, "0016E5_07959", np.array([list(COLOURS)], np.uint8))
        camvid = CamVid(tmp_path, "val")
        expected = [IGNORE if name is None else CAMVID_11.class_names.index(name) for name in COLOURS.values()]
        assert camvid.label_set is CAMVID_11
        np.testing.assert_array_equal(camvid[0][1], [expected])

    def test_splits_are_segnets(self, tmp_path: Path) -> None:
        for name in ("0016E5_07920", "0016E5_07959", "0016E5_07961", "0006R0_f00930", "0001TP_008550"):
            write_original(tmp_path, name, np.zeros((1, 1, 3), np.uint8))
        assert CamVid(tmp_path, "train").names == ["0006R0_f00930", "0016E5_07920"]
        assert CamVid(tmp_path, "val").names == ["0016E5_07959", "0016E5_07961"]
        assert CamVid(tmp_path, "test").names == ["0001TP_008550"]
        with pytest.raises(DatasetError, match="belongs to split 'valid'; train, val and test are known"):
            CamVid(tmp_path, "valid")

    def test_the_splits_are_as_large_as_segnets(self) -> None:
        drives = {"0006R0_f": range(930, 3931, 30), "0001TP_": range(6690, 10381, 30), "Seq05VD_f": range(0, 5101, 30)}
        names = [f"{drive}{number:05d}.png" for drive, numbers in drives.items() for number in numbers]
        names += [f"0016E5_{number:05d}.png" for number in range(7959, 8160, 2)]
        splits = [segnet_split(Path(name)) for name in names]
        # The other 204 frames of train are those of 0016E5 outside the stretch of val.
        assert [splits.count(split) for split in ("train", "val", "test")] == [367 - 204, 101, 233]

    @pytest.mark.parametrize("colour", [(64, 0, 0), (128, 64, 129), (255, 255, 255)])
    def test_a_stray_colour(self, tmp_path: Path, colour: tuple) -> None:
        rgb = np.zeros((2, 3, 3), np.uint8)
        rgb[1, 2] = colour
        write_original(tmp_path, "0016E5_07959", rgb)
        message = rf"07959_L.png' holds the colour \({colour[0]}, .*\(first at x 2, y 1\).*the 32 of the original"
        with pytest.raises(DatasetError, match=message):
            CamVid(tmp_path, "val")[0]

    def test_missing_label_image(self, tmp_path: Path) -> None:
        write_original(tmp_path, "0016E5_07959", np.zeros((1, 1, 3), np.uint8))
        write(tmp_path / "701_StillsRaw_full" / "0016E5_07961.png", np.zeros((1, 1, 3), np.uint8))
        with pytest.raises(DatasetError, match=r"0016E5_07961.png' has no label image; .*0016E5_07961_L.png' is need"):
            CamVid(tmp_path, "val")

    def test_a_label_image_under_another_name(self, tmp_path: Path) -> None:
        write_original(tmp_path, "0016E5_07959", np.zeros((1, 1, 3), np.uint8))
        write(tmp_path / "LabeledApproved_full" / "0016E5_07959.png", np.zeros((1, 1, 3), np.uint8))
        with pytest.raises(DatasetError, match=r"07959.png' is not named as a label image; NAME_L.png is needed"):
            CamVid(tmp_path, "val")


def rename(*old: str, to: str) -> Callable[[Path], object]:
    return lambda root: root.joinpath(*old).rename(root / to)


def put(folder: str, name: str, content: bytes | np.ndarray) -> Callable[[Path], object]:
    """Writes a file of split val, of these bytes or pixels."""

    def change(root: Path) -> None:
        path = root / "val" / folder / name
        path.write_bytes(content) if isinstance(content, bytes) else write(path, content)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (rename("val", to="other"), r"no folder .*val' with CamVid in it; .*ROOT/SPLIT/images.* holds other$"),
        (rename("val", "images", to="elsewhere"), r"no folder '.*images'; CamVid needs .*val' holds labels$"),
        (rename("val", "labels", to="elsewhere"), r"no folder '.*labels'; CamVid needs .*val' holds images$"),
        (
            lambda root: (as_tutorial(root), (root / "val").rename(root / "raw")),
            r"no folder '.*val'; CamVid needs .* holds raw, valannot$",
        ),
        (put("images", "0016E5_00009.jpg", np.zeros((2, 3, 3), np.uint8)), "both named '0016E5_00009'; one must go"),
        (lambda root: (root / "val/labels/0016E5_00009.png").unlink(), "images.0016E5_00009.png' has no label image"),
        (lambda root: (root / "val/images/0016E5_00009.png").unlink(), "labels.0016E5_00009.png' has no image"),
        (
            lambda root: write_frame(root, "street", np.zeros((1, 1), np.uint8)),
            "street.png' is not named by its video and frame number",
        ),
        (
            put("labels", "0016E5_00007.png", np.full((2, 3), 12, np.uint8)),
            r"00007.png' holds id 12 \(first at x 0, y 0\); 0 to 10, and 11",
        ),
        (
            put("labels", "0016E5_00007.png", np.zeros((4, 3), np.uint8)),
            r"labels.0016E5_00007.png' is 3x4 but .*images.*7.png' is 3x2",
        ),
        (put("labels", "0016E5_00007.png", np.zeros((2, 3, 3), np.uint8)), "0016E5_00007.png' holds colours"),
        (put("labels", "0016E5_00007.png", np.full((2, 3), 300, np.uint16)), "00007.png' holds the 16-bit id 300"),
        *(
            (put(folder, "0016E5_00007.png", content), f"{folder}.0016E5_00007.png' is not an image that can be decode")
            for folder in ("images", "labels")
            for content in (b"", b"not an image")
        ),
    ],
)
def test_errors_name_the_file_and_the_rule(root: Path, change: Callable[[Path], object], message: str) -> None:
    change(root)
    with pytest.raises(DatasetError, match=message):
        CamVid(root, "val")[0]


def test_a_missing_root_and_an_empty_split(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no folder .*nowhere.val' .*ROOT/SPLIT/images.* holds nothing$"):
        CamVid(tmp_path / "nowhere", "val")
    for folder in ("images", "labels"):
        (tmp_path / "val" / folder).mkdir(parents=True)
    with pytest.raises(DatasetError, match="no images in"):
        CamVid(tmp_path, "val")


def test_a_file_that_is_removed_after_listing(root: Path) -> None:
    camvid = CamVid(root, "val")
    (root / "val" / "images" / "0016E5_00007.png").unlink()
    with pytest.raises(DatasetError, match=r"cannot read .*0016E5_00007.png': No such file"):
        camvid[0]


@pytest.mark.skipif(not REAL_ROOT.is_dir(), reason=f"no CamVid at {REAL_ROOT}; set SDCPC_CAMVID to its folder")
class TestRealCamVid:
    def test_train(self) -> None:
        camvid = CamVid(REAL_ROOT, "train")
        assert len(camvid) == len(camvid.labelled) == 367
        assert [index for run in camvid.runs for index in run] == list(range(367))
        assert len(camvid.runs) == 5
        assert camvid.rate_hz == pytest.approx(1)
        assert all(segnet_split(Path(f"{name}.png")) == "train" for name in camvid.names)

    def test_val_is_one_run_at_15_hz(self) -> None:
        camvid = CamVid(REAL_ROOT, "val")
        assert len(camvid) == 101
        assert camvid.runs == [range(101)]
        assert camvid.rate_hz == pytest.approx(15)
        assert all(segnet_split(Path(f"{name}.png")) == "val" for name in camvid.names)

    @pytest.mark.parametrize("split", ["train", "val"])
    def test_items(self, split: str) -> None:
        camvid = CamVid(REAL_ROOT, split)
        for index in (0, len(camvid) - 1):
            image, labels = camvid[index]
            assert image.shape == (360, 480, 3)
            assert labels.shape == (360, 480)
            assert set(np.unique(labels)) <= {*range(11), IGNORE}
