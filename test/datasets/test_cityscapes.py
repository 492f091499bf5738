"""Cityscapes on tiny trees, as sequences and as labelled frames alone."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from sdcpc_ros.datasets.cityscapes import Cityscapes
from sdcpc_ros.datasets.video_dataset import DatasetError
from sdcpc_ros.labels.label_set import CITYSCAPES_19, IGNORE

TRAIN_IDS = np.array([[0, 18, IGNORE], [1, 13, 10]], np.uint8)
LABEL_IDS = np.array([[7, 33, 6], [8, 26, 23]], np.uint8)


def write(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)


def write_frame(root: Path, name: str, folder: str = "leftImg8bit_sequence") -> None:
    """An image all of its frame's number."""
    image = np.full((2, 3, 3), int(name[-6:]) % 256, np.uint8)
    write(root / folder / "val" / name.split("_")[0] / f"{name}_leftImg8bit.png", image)


def label_path(root: Path, name: str, kind: str = "labelTrainIds") -> Path:
    return root / "gtFine" / "val" / name.split("_")[0] / f"{name}_gtFine_{kind}.png"


def write_snippet(root: Path, drive: str, first: int) -> None:
    for frame in range(first, first + 30):
        write_frame(root, f"{drive}_{frame:06d}")
    write(label_path(root, f"{drive}_{first + 19:06d}"), TRAIN_IDS)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A snippet of its own drive, as of most cities, and two out of one long drive, as of a few."""
    write_snippet(tmp_path, "ulm_000003", 0)
    write_snippet(tmp_path, "frankfurt_000000", 275)
    write_snippet(tmp_path, "frankfurt_000000", 557)
    return tmp_path


def test_snippets_are_runs_with_one_labelled_frame(root: Path) -> None:
    cityscapes = Cityscapes(root, "val")
    assert (cityscapes.name, cityscapes.label_set) == ("Cityscapes val", CITYSCAPES_19)
    assert cityscapes.runs == [range(30), range(30, 60), range(60, 90)]
    assert [cityscapes.names[index] for index in cityscapes.labelled] == [
        "frankfurt_000000_000294",
        "frankfurt_000000_000576",
        "ulm_000003_000019",
    ]
    assert [index % 30 for index in cityscapes.labelled] == [19] * 3
    assert cityscapes.rate_hz == pytest.approx(17)


def test_images_and_labels_are_those_of_their_frames(root: Path) -> None:
    cityscapes = Cityscapes(root, "val")
    assert [int(cityscapes.image(index)[0, 0, 0]) for index in (70, 73, 76, 79)] == [10, 13, 16, 19]
    np.testing.assert_array_equal(cityscapes.labels(79), TRAIN_IDS)


def test_label_ids_become_train_ids(root: Path) -> None:
    label_path(root, "ulm_000003_000019").unlink()
    write(label_path(root, "ulm_000003_000019", "labelIds"), LABEL_IDS)
    np.testing.assert_array_equal(Cityscapes(root, "val")[79][1], TRAIN_IDS)


def test_every_label_id_means_what_the_published_table_says(root: Path) -> None:
    label_path(root, "ulm_000003_000019").unlink()
    ids = np.arange(36, dtype=np.uint8).clip(max=33).reshape(6, 6)
    write(label_path(root, "ulm_000003_000019", "labelIds"), ids)
    found = dict(zip(ids.ravel().tolist(), Cityscapes(root, "val").labels(79).ravel().tolist()))
    named = {7: "road", 8: "sidewalk", 11: "building", 17: "pole", 24: "person", 25: "rider", 28: "bus", 31: "train"}
    for label_id, name in named.items():
        assert CITYSCAPES_19.class_names[found[label_id]] == name
    assert sum(train_id != IGNORE for train_id in found.values()) == 19


def test_train_ids_are_read_where_there_are_both(root: Path) -> None:
    write(label_path(root, "ulm_000003_000019", "labelIds"), np.zeros((2, 3), np.uint8))
    write(label_path(root, "ulm_000003_000019", "color"), np.zeros((2, 3, 3), np.uint8))
    write(label_path(root, "ulm_000003_000019", "instanceIds"), np.zeros((2, 3), np.uint16))
    np.testing.assert_array_equal(Cityscapes(root, "val")[79][1], TRAIN_IDS)


def test_stills_are_read_where_there_are_no_sequences(tmp_path: Path) -> None:
    names = ("ulm_000003_000019", "frankfurt_000000_000294", "frankfurt_000000_000576")
    for name in names:
        write_frame(tmp_path, name, "leftImg8bit")
        write(label_path(tmp_path, name), TRAIN_IDS)
    cityscapes = Cityscapes(tmp_path, "val")
    assert cityscapes.labelled == [0, 1, 2]
    assert cityscapes.runs == [range(1), range(1, 2), range(2, 3)]  # 17 s apart: nothing to remember


def test_a_broken_snippet_is_two_runs(root: Path) -> None:
    (root / "leftImg8bit_sequence" / "val" / "ulm" / "ulm_000003_000015_leftImg8bit.png").unlink()
    cityscapes = Cityscapes(root, "val")
    assert cityscapes.runs[2:] == [range(60, 75), range(75, 89)]


class TestErrorsNameTheFileAndTheRule:
    def test_wrong_root(self, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match=r"no folder '.*leftImg8bit.val'; Cityscapes needs ROOT/.*holds nothing"):
            Cityscapes(tmp_path, "val")

    def test_wrong_split(self, root: Path) -> None:
        with pytest.raises(DatasetError, match=r"no folder '.*leftImg8bit.valid'"):
            Cityscapes(root, "valid")

    def test_no_labels_at_all(self, root: Path) -> None:
        (root / "gtFine").rename(root / "gtCoarse")
        with pytest.raises(DatasetError, match=r"no folder '.*gtFine.val'.* holds gtCoarse, leftImg8bit_sequence"):
            Cityscapes(root, "val")

    def test_a_city_without_labels(self, root: Path) -> None:
        (root / "gtFine" / "val" / "ulm").rename(root / "ulm")
        with pytest.raises(DatasetError, match=r"no folder '.*gtFine.val.ulm'; .*holds frankfurt$"):
            Cityscapes(root, "val")

    def test_a_snippet_without_its_label_image(self, root: Path) -> None:
        label_path(root, "frankfurt_000000_000576").unlink()
        with pytest.raises(
            DatasetError,
            match=r"none of the 30 frames from '.*000557_leftImg8bit.png' on has a label image; "
            r"'.*gtFine.val.frankfurt.frankfurt_000000_000576_gtFine_labelTrainIds.png' is needed, or the like ending",
        ):
            Cityscapes(root, "val")

    def test_a_still_without_its_label_image(self, tmp_path: Path) -> None:
        write_frame(tmp_path, "ulm_000003_000019", "leftImg8bit")
        (tmp_path / "gtFine" / "val" / "ulm").mkdir(parents=True)
        with pytest.raises(
            DatasetError,
            match=r"ulm_000003_000019_leftImg8bit.png' has no label image; '.*_000019_gtFine_labelTrainIds",
        ):
            Cityscapes(tmp_path, "val")

    def test_a_label_image_without_its_image(self, root: Path) -> None:
        write(label_path(root, "ulm_000004_000019"), TRAIN_IDS)
        with pytest.raises(
            DatasetError, match=r"ulm_000004_000019_gtFine_labelTrainIds.png' has no image; '.*is needed"
        ):
            Cityscapes(root, "val")

    def test_an_image_under_another_name(self, root: Path) -> None:
        write(root / "leftImg8bit_sequence" / "val" / "ulm" / "ulm_19_leftImg8bit.png", np.zeros((2, 3, 3), np.uint8))
        with pytest.raises(DatasetError, match=r"ulm_19_leftImg8bit.png' is not named CITY_SEQ_FRAME_leftImg8bit"):
            Cityscapes(root, "val")

    def test_an_empty_city(self, tmp_path: Path) -> None:
        for folder in ("leftImg8bit", "gtFine"):
            (tmp_path / folder / "val" / "ulm").mkdir(parents=True)
        with pytest.raises(DatasetError, match=r"no images in '.*leftImg8bit.val'"):
            Cityscapes(tmp_path, "val")

    @pytest.mark.parametrize(("kind", "allowed"), [("labelTrainIds", "0 to 18"), ("labelIds", "0 to 33")])
    def test_id_out_of_range(self, root: Path, kind: str, allowed: str) -> None:
        label_path(root, "ulm_000003_000019").unlink()
        write(label_path(root, "ulm_000003_000019", kind), np.full((2, 3), 34, np.uint8))
        with pytest.raises(DatasetError, match=rf"{kind}.png' holds id 34 \(first at x 0, y 0\); {allowed}, and 255"):
            Cityscapes(root, "val")[79]

    def test_sizes_differ(self, root: Path) -> None:
        write(label_path(root, "ulm_000003_000019"), np.zeros((4, 6), np.uint8))
        with pytest.raises(DatasetError, match=r"labelTrainIds.png' is 6x4 but .*leftImg8bit.png' is 3x2"):
            Cityscapes(root, "val")[79]

    def test_labels_of_a_frame_without(self, root: Path) -> None:
        with pytest.raises(
            DatasetError, match=r"ulm_000003_000000_leftImg8bit.png' has no labels; only some frames of"
        ):
            Cityscapes(root, "val")[60]

    @pytest.mark.parametrize("content", [b"", b"not an image"])
    def test_undecodable_file(self, root: Path, content: bytes) -> None:
        label_path(root, "ulm_000003_000019").write_bytes(content)
        with pytest.raises(DatasetError, match=r"labelTrainIds.png' is not an image that can be decoded"):
            Cityscapes(root, "val")[79]
