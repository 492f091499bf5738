"""One command that trains, exports and scores at several frame rates, and on the drive that was left out."""

from __future__ import annotations

import json

import pytest

from sdcpc_ros import cli
from sdcpc_ros.checkpoint import load_checkpoint
from sdcpc_ros.datasets.errors import DatasetError
from sdcpc_ros.training import trainer
from sdcpc_ros.training.scoring import SCORES, scoring

pytestmark = pytest.mark.usefixtures("one_thread")

# Four frames of val are enough for these, and two of the left-out drive.
TESTED = [("every", 1), ("every", 2), ("every", 3), ("turns", 0.05), ("turns", 0.2), ("video", "0006R0")]


@pytest.fixture
def command(camvid_root, write_recipe, tmp_path):
    stages = [{"steps": 1, "references": 0}, {"steps": 1, "references": 1, "trains": "temporal", "cut_share": 0.5}]
    recipe = write_recipe(phases=stages, validation=None)
    places = ["--config", recipe, "--root", camvid_root, "--output", tmp_path / "run"]
    return ["train", *map(str, places), "--device", "cpu", "--score", "--leave-out", "0006R0"]


def test_one_command_trains_exports_and_scores(command, tmp_path, capsys):
    assert cli.main(command) == 0
    record = load_checkpoint(tmp_path / "run" / trainer.MODEL).training
    assert record["steps"] == 2 and record["recipe"]["leave_out"] == ["0006R0"]
    scores = json.loads((tmp_path / "run" / SCORES).read_text())
    assert [(row["test"], row["value"]) for row in scores["tests"]] == TESTED
    assert scores["dataset"] == "CamVid val" and scores["model"] == "model" and scores["device"] == "cpu"
    rates = {row["value"]: row["rate_hz"] for row in scores["tests"] if row["test"] in ("every", "video")}
    assert rates == pytest.approx({1: 1.0, 2: 0.5, 3: 1 / 3, "0006R0": 1.0})
    for row in scores["tests"]:
        assert 0 <= row["streaming"]["miou"] <= 1 and 0 <= row["single_frame"]["miou"] <= 1
    assert [row["labelled_frames"] for row in scores["tests"]] == [4, 2, 2, 4, 4, 2]
    printed = capsys.readouterr().out
    assert "1 frame in 3" in printed and "turn 5 %" in printed and "0006R0" in printed
    # What the data do not allow is said, in the file too.
    assert len(scores["skipped"]) == 4 and all(f"not tested: {sentence}" in printed for sentence in scores["skipped"])
    assert "every n-th frame: n is 15" in scores["skipped"][2] and "a cut every n frames" in scores["skipped"][3]


def test_a_finished_run_is_scored_without_training(command, tmp_path, capsys):
    assert cli.main([word for word in command if word != "--score"]) == 0
    assert not (tmp_path / "run" / SCORES).exists()
    model = (tmp_path / "run" / trainer.MODEL).read_bytes()
    assert cli.main(command) == 0
    assert (tmp_path / "run" / SCORES).exists() and (tmp_path / "run" / trainer.MODEL).read_bytes() == model


def test_what_cannot_be_scored_is_refused_before_the_training(command, camvid_root, write_recipe, tmp_path, capsys):
    write_recipe(validation={"every": 9, "split": "test"})
    assert cli.main(command) == 1
    assert "no folder" in capsys.readouterr().err and not (tmp_path / "run").exists()
    write_recipe()
    assert cli.main([*command, "--leave-out", "gone"]) == 1
    assert "has no video gone; it has 0001TP, 0006R0" in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_other_ranks_than_the_first_do_not_score(command, tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "0")
    assert cli.main(command) == 0
    (tmp_path / "run" / SCORES).unlink()
    model = tmp_path / "run" / trainer.MODEL
    monkeypatch.setattr(trainer, "train", lambda *_: model)  # alone it would wait for the other rank
    monkeypatch.setenv("RANK", "1")
    assert cli.main(command) == 0
    assert not (tmp_path / "run" / SCORES).exists()


def test_the_recipes_split_is_scored(camvid_root, make_recipe):
    assert scoring(make_recipe(validation={"every": 1, "split": "train"}), camvid_root).dataset == "CamVid train"
    assert scoring(make_recipe(validation=None), camvid_root).dataset == "CamVid val"
    with pytest.raises(DatasetError, match="test"):
        scoring(make_recipe(validation={"every": 1, "split": "test"}), camvid_root)
