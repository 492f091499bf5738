"""One command that trains, exports and scores at several frame rates, and on the drive that was left out."""

from __future__ import annotations

import contextlib
import io
import json

import pytest
import yaml

from sdcpc_ros import cli
from sdcpc_ros.datasets.video_dataset import DatasetError
from sdcpc_ros.model_files.checkpoint import load_checkpoint
from sdcpc_ros.training import trainer
from sdcpc_ros.training.scoring import SCORES, scoring

pytestmark = pytest.mark.slow

# Four frames of val are enough for these, and two of the left-out drive.
TESTED = [("every", 1), ("every", 2), ("every", 3), ("turns", 0.05), ("turns", 0.2), ("video", "0006R0")]


STAGES = [{"steps": 1, "references": 0}, {"steps": 1, "references": 1, "trains": "temporal", "cut_share": 0.5}]


@pytest.fixture(scope="module")
def command(camvid_root, base_recipe, tmp_path_factory):
    """The command without --score and --output."""
    recipe = tmp_path_factory.mktemp("scoring") / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({**yaml.safe_load(base_recipe.read_text()), "phases": STAGES, "validation": None}))
    return ["train", "--config", str(recipe), "--root", str(camvid_root), "--device", "cpu", "--leave-out", "0006R0"]


@pytest.fixture(scope="module")
def scored(command, tmp_path_factory):
    """The folder of a run that was scored, and what was printed."""
    folder, printed = tmp_path_factory.mktemp("scoring") / "run", io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert cli.main([*command, "--output", str(folder), "--score"]) == 0
    return folder, printed.getvalue()


def test_one_command_trains_exports_and_scores(scored):
    folder, printed = scored
    record = load_checkpoint(folder / trainer.MODEL).training
    assert record["steps"] == 2 and record["recipe"]["leave_out"] == ["0006R0"]
    scores = json.loads((folder / SCORES).read_text())
    assert [(row["test"], row["value"]) for row in scores["tests"]] == TESTED
    assert scores["dataset"] == "CamVid val" and scores["model"] == "model" and scores["device"] == "cpu"
    rates = {row["value"]: row["rate_hz"] for row in scores["tests"] if row["test"] in ("every", "video")}
    assert rates == pytest.approx({1: 1.0, 2: 0.5, 3: 1 / 3, "0006R0": 1.0})
    for row in scores["tests"]:
        assert 0 <= row["streaming"]["miou"] <= 1 and 0 <= row["single_frame"]["miou"] <= 1
    assert [row["labelled_frames"] for row in scores["tests"]] == [4, 2, 2, 4, 4, 2]
    assert "1 frame in 3" in printed and "turn 5 %" in printed and "0006R0" in printed
    # What the data do not allow is said, in the file too.
    assert len(scores["skipped"]) == 4 and all(f"not tested: {sentence}" in printed for sentence in scores["skipped"])
    assert "every n-th frame: n is 15" in scores["skipped"][2] and "a cut every n frames" in scores["skipped"][3]


def test_a_finished_run_is_scored_by_the_first_rank_without_training(scored, command, monkeypatch):
    folder, _ = scored
    names = (SCORES, trainer.MODEL, trainer.LOG, trainer.STATE)
    before = [(folder / name).read_bytes() for name in names]
    again = [*command, "--output", str(folder)]
    (folder / SCORES).unlink()
    assert cli.main(again) == 0 and not (folder / SCORES).exists()  # it was not asked for
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "train", lambda *_: folder / trainer.MODEL)  # alone it would wait for the other rank
        patch.setenv("RANK", "1")
        assert cli.main([*again, "--score"]) == 0 and not (folder / SCORES).exists()
    assert cli.main([*again, "--score"]) == 0
    assert [(folder / name).read_bytes() for name in names] == before


def test_what_cannot_be_scored_is_refused_before_the_training(command, write_recipe, tmp_path, capsys):
    output = ["--output", str(tmp_path / "run"), "--score"]
    other = write_recipe(validation={"every": 9, "split": "test"})
    assert cli.main([*command, *output, "--config", str(other)]) == 1
    assert "no folder" in capsys.readouterr().err and not (tmp_path / "run").exists()
    assert cli.main([*command, *output, "--leave-out", "gone"]) == 1
    assert "has no video gone; it has 0001TP, 0006R0" in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_the_recipes_split_is_scored(camvid_root, make_recipe):
    assert scoring(make_recipe(validation={"every": 1, "split": "train"}), camvid_root).dataset == "CamVid train"
    assert scoring(make_recipe(validation=None), camvid_root).dataset == "CamVid val"
    with pytest.raises(DatasetError, match="test"):
        scoring(make_recipe(validation={"every": 1, "split": "test"}), camvid_root)
