"""`sdcpc evaluate` on every kind of data set; those on disk are tiny trees in their true layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from sdcpc_ros import cli
from sdcpc_ros.labels.label_set import CAMVID_11, CITYSCAPES_19, VSPW_124, LabelSet
from sdcpc_ros.model_files.checkpoint import Checkpoint, save_checkpoint
from sdcpc_ros.network import SDCPC, SDCPCConfig
from sdcpc_ros.replay.image_bags import StreetBag, write_street_bag

pytestmark = pytest.mark.slow

SIZE = (32, 64)


def write_model(path: Path, label_set: LabelSet) -> Path:
    """A network of the fewest channels, with random weights."""
    torch.manual_seed(0)
    config = SDCPCConfig(
        num_classes=len(label_set), encoder="resnet_tiny", embed_dim=16, key_dim=16, reference_offsets=(1, 2)
    )
    looks, weights = {"mean": (120.0, 120.0, 120.0), "std": (60.0, 60.0, 60.0)}, SDCPC(config).state_dict()
    save_checkpoint(path, Checkpoint(config, label_set, **looks, input_size=SIZE, state_dict=weights))
    return path


def write(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), np.uint8)


def evaluated(tmp_path: Path, label_set: LabelSet, *arguments: str | Path) -> dict[str, Any]:
    model, scores = write_model(tmp_path / "thin.safetensors", label_set), tmp_path / "scores.json"
    line = ["evaluate", "--model", model, "--json", scores, *arguments]
    assert cli.main([str(argument) for argument in line]) == 0
    return json.loads(scores.read_text())


def test_cityscapes_is_judged_by_one_frame_of_a_snippet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "cityscapes"
    for drive in ("ulm_000003", "ulm_000004"):
        for frame in range(30):
            name = f"{drive}_{frame:06d}_leftImg8bit.png"
            write(root / "leftImg8bit_sequence" / "val" / "ulm" / name, noise(frame))
        labels = np.full(SIZE, 7, np.uint8)  # road
        write(root / "gtFine" / "val" / "ulm" / f"{drive}_000019_gtFine_labelIds.png", labels)
    scores = evaluated(tmp_path, CITYSCAPES_19, "--dataset", "cityscapes", "--root", root)
    assert (scores["clips"], scores["frames"], scores["labelled_frames"]) == (2, 40, 2)
    title = " ".join(capsys.readouterr().out.split("┏")[0].split())
    assert title == "Cityscapes val: 40 frames in 2 clips, 2 of them labelled"
    assert scores["streaming"]["miou"] == scores["streaming"]["class_iou"]["road"]
    assert scores["streaming"]["mvc8"] is None


def test_vspw(tmp_path: Path) -> None:
    root = tmp_path / "VSPW_480p"
    for frame in range(9):
        write(root / "data" / "1_aa" / "origin" / f"{frame:08d}.jpg", noise(frame))
        write(root / "data" / "1_aa" / "mask" / f"{frame:08d}.png", np.full(SIZE, 29, np.uint8))
    (root / "val.txt").write_text("1_aa\n")
    scores = evaluated(tmp_path, VSPW_124, "--dataset", "vspw", "--root", root, "--split", "val")
    assert (scores["video"], scores["frames"]) == ("VSPW val", 9)
    assert scores["streaming"]["miou"] == scores["streaming"]["class_iou"]["sky"]
    for mvc in ("mvc8", "mvc8_reference"):
        assert 0 <= scores["streaming"][mvc] <= 1


def test_a_bag_in_the_models_classes_and_in_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bag = tmp_path / "bags" / "drive"
    bag.parent.mkdir()
    write_street_bag(bag, StreetBag(seed=2, size=SIZE, length=9))
    scores = evaluated(tmp_path, CAMVID_11, "--dataset", "bag", "--root", bag)
    assert (scores["video"], scores["frames"], scores["labelled_frames"]) == ("bag drive", 9, 9)
    assert scores["streaming"]["class_iou"]["road"] is not None

    other = LabelSet("eleven", tuple("abcdefghijk"), CAMVID_11.colours)
    (bag.parent / "label_set.json").write_text(json.dumps(other.to_dict()))
    arguments = ["evaluate", "--dataset", "bag", "--root", bag.parent, "--model", tmp_path / "thin.safetensors"]
    assert cli.main([str(argument) for argument in arguments]) == 1
    assert "the model's classes are 'camvid_11' (sky, " in capsys.readouterr().err


def test_a_data_set_of_other_classes_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder, picture in (("images", noise(0)), ("labels", np.zeros(SIZE, np.uint8))):
        write(tmp_path / "val" / folder / "a_1.png", picture)
    model = write_model(tmp_path / "thin.safetensors", CITYSCAPES_19)
    assert cli.main(["evaluate", "--dataset", "camvid", "--root", str(tmp_path), "--model", str(model)]) == 1
    assert "; CamVid val has 'camvid_11' (sky, building" in capsys.readouterr().err


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "thin.safetensors", CAMVID_11)


@pytest.fixture(scope="module")
def camvid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten frames of noise, all road."""
    root = tmp_path_factory.mktemp("camvid")
    for number in range(10):
        write(root / "val" / "images" / f"0016E5_{number:05d}.png", noise(number))
        write(root / "val" / "labels" / f"0016E5_{number:05d}.png", np.full(SIZE, 3, np.uint8))
    return root


def test_camvid(model: Path, camvid: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "scores.json"
    arguments = ["evaluate", "--dataset", "camvid", "--root", str(camvid), "--split", "val", "--model", str(model)]
    assert cli.main([*arguments, "--json", str(file)]) == 0
    printed = capsys.readouterr()
    assert "CamVid val: 10 frames in 1 clip" in printed.out and printed.err == ""
    assert "mVC8 % (clean)" in printed.out and "mVC8 % (reference)" in printed.out
    scores = json.loads(file.read_text())
    assert (scores["model"], scores["device"], scores["backend"]) == ("thin", "cpu", "eager")
    assert scores["model_size"] == list(SIZE)
    for way in ("streaming", "single_frame"):
        class_iou = scores[way]["class_iou"]
        assert list(class_iou) == list(CAMVID_11.class_names)
        assert scores[way]["miou"] == class_iou["road"]  # the only class in the ground truth
        assert class_iou["sky"] is None
        assert 0 <= scores[way]["mvc8"] <= 1
        assert scores[way]["mvc16"] is None
        assert scores[way]["ms_per_frame"] > 0


def test_synthetic(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "scores.json"
    arguments = ["evaluate", "--dataset", "synthetic", "--seed", "3", "--frames", "9"]
    assert cli.main([*arguments, "--model", str(model), "--json", str(file)]) == 0
    assert "synthetic street, seed 3: 9 frames" in capsys.readouterr().out
    scores = json.loads(file.read_text())
    assert (scores["frames"], scores["labelled_frames"]) == (9, 9)
    for mvc in ("mvc8", "mvc8_reference"):
        assert 0 <= scores["streaming"][mvc] <= 1
    assert 0 <= scores["streaming"]["tc"] <= 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset", "camvid"], "--dataset camvid needs --root"),
        (["--dataset", "camvid", "--root", ".", "--seed", "1"], "--seed does not go with --dataset camvid"),
        (["--dataset", "synthetic", "--split", "val"], "--split does not go with --dataset synthetic"),
        (["--dataset", "bag"], "--dataset bag needs --root"),
        (["--dataset", "kitti"], "invalid choice: 'kitti'"),
        (["--dataset", "synthetic", "--json", "nowhere/scores.json"], "--json: no folder 'nowhere'"),
        (["--dataset", "synthetic", "--json", "."], "--json: '.' is a folder; the name of a file is needed"),
        (["--dataset", "synthetic", "--every", "1,0"], "'0' in '1,0'; whole numbers of 1 or more, separated by"),
        (["--dataset", "synthetic", "--every", "1.5"], "argument --every: '1.5' in '1.5'; whole numbers"),
        (["--dataset", "synthetic", "--cuts", "3,"], "argument --cuts: '' in '3,'; whole numbers of 1 or more"),
        (["--dataset", "synthetic", "--turns", "5"], "argument --turns: '5' in '5'; numbers over 0 and up to 1"),
        (["--dataset", "synthetic", "--turns", "nan"], "numbers over 0 and up to 1, separated by commas"),
    ],
)
def test_wrong_usage_exits_2(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["evaluate", "--model", "any", *arguments])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_tests_of_the_temporal_path_are_rows_and_records(
    model: Path, camvid: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """CamVid val of ten frames, in one run."""
    file = tmp_path / "tests.json"
    tests = ["--every", "1,3,3", "--cuts", "2", "--turns", "0.05,0.2", "--each-video"]
    arguments = ["evaluate", "--dataset", "camvid", "--root", str(camvid), "--model", str(model), *tests]
    assert cli.main([*arguments, "--json", str(file)]) == 0
    scores = json.loads(file.read_text())
    assert (scores["model"], scores["dataset"]) == (model.stem, "CamVid val")
    assert [(row["test"], row["value"], row["labelled_frames"]) for row in scores["tests"]] == [
        *(("every", 1, 10), ("every", 3, 4), ("cuts", 2, 3), ("turns", 0.05, 10), ("turns", 0.2, 10)),
        ("video", scores["tests"][5]["value"], 10),
    ]
    assert set(scores["tests"][0]["streaming"]["class_iou"]) == set(CAMVID_11.class_names)
    printed = capsys.readouterr().out
    for title in ("every frame", "1 frame in 3", "cut every 2", "turn 5 %", "turn 20 %", "sign_symbol"):
        assert title in printed


def test_a_test_that_the_split_is_too_short_for(model: Path, camvid: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["evaluate", "--dataset", "camvid", "--root", str(camvid), "--model", str(model)]
    assert cli.main([*arguments, "--every", "10"]) == 1
    assert capsys.readouterr().err == (
        "sdcpc evaluate: every n-th frame: n is 10; a whole number of 1 to 9 is allowed, "
        "as the longest run of CamVid val has 10 frames\n"
    )
