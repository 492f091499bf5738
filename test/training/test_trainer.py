"""The trainer: a run that is killed and resumed ends as one that never stopped."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sdcpc_ros.model_files.checkpoint import CheckpointError, load_checkpoint
from sdcpc_ros.training import trainer
from sdcpc_ros.training.recipe import RecipeError
from sdcpc_ros.training.run_files import save_state

ROOT = Path(__file__).parents[2]
SINGLE_FRAMES = {"phases": [{"steps": 2, "references": 0}], "validation": None, "class_balance": 0.0}

pytestmark = pytest.mark.usefixtures("one_thread")


def _rows(path):
    """Step -> the row of a log, without the time that it took."""
    with path.open(newline="") as file:
        return {int(row.pop("step")): {k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)}


def _assert_equal(one, two):
    assert one.keys() == two.keys()
    assert [name for name, tensor in one.items() if not torch.equal(tensor, two[name])] == []


@pytest.fixture(scope="module")
def whole(camvid_root, base_recipe, tmp_path_factory):
    """The folder of a run that nothing stopped."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("runs") / "whole"
    trainer.train(base_recipe, camvid_root, folder)
    torch.set_num_threads(threads)
    return folder


def test_a_run_ends_in_a_checkpoint_that_says_how_it_came_about(whole):
    checkpoint = load_checkpoint(whole / trainer.MODEL)
    assert checkpoint.input_size == (64, 96)
    record = checkpoint.training
    assert record["recipe"]["seed"] == 3 and record["steps"] == 6
    assert "research" in record["licence"] and "6 labelled frames) and the synthetic street" in record["data"]
    assert record["command"].startswith("sdcpc train --config recipe.yaml --root DATA --output whole")
    assert checkpoint.build_model()(torch.zeros(1, 3, 3, 64, 96)).logits.isfinite().all()
    assert not [name for name in checkpoint.state_dict if "prototype" in name]  # MCP-CL stays behind


def test_what_is_kept_is_logged(whole):
    rows = _rows(whole / trainer.LOG)
    assert list(rows) == [2, 3, 4, 6]
    assert all(float(row["loss"]) > 0 and float(row["gradient_norm"]) > 0 for row in rows.values())
    assert float(rows[2]["learning_rate"]) > float(rows[3]["learning_rate"]) > 0  # the last one of the first stage
    assert float(rows[4]["learning_rate"]) > float(rows[6]["learning_rate"]) > 0
    scores = _rows(whole / trainer.VALIDATION_LOG)
    assert list(scores) == [3, 6]
    best = load_checkpoint(whole / trainer.BEST).training
    first, last = (float(row["miou"]) for row in scores.values())
    assert best["steps"] == (3 if first >= last else 6)
    assert best["best_validation_miou"] == pytest.approx(max(first, last), abs=1e-3)


@pytest.mark.slow
def test_killed_and_resumed_it_gives_the_same_weights_and_the_same_log(
    whole, camvid_root, base_recipe, write_recipe, tmp_path, capsys
):
    folder = tmp_path / "whole"
    recipe = write_recipe(workers=1)  # how many decode frames changes nothing of them
    command = ["-m", "sdcpc_ros.cli", "train", "--config", recipe, "--root", camvid_root, "--output", folder]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    killed = subprocess.Popen(
        [sys.executable, *map(str, command)], env=environment, stdout=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + 120
    while not (folder / trainer.STATE).exists():
        assert killed.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)  # polls with the deadline above
    os.killpg(killed.pid, signal.SIGKILL)
    assert killed.wait(30) == -signal.SIGKILL
    # What was written after the state that it goes on from is written again.
    with (folder / trainer.LOG).open("a") as log:
        log.write("5,9.9,9.9,1e-3,99\r\n6,9")

    trainer.train(base_recipe, camvid_root, folder)
    assert "resuming at step" in capsys.readouterr().out
    for name in (trainer.STATE, trainer.MODEL, trainer.BEST):
        _assert_equal(load_file(whole / name), load_file(folder / name))
    for name in (trainer.LOG, trainer.VALIDATION_LOG):
        assert _rows(whole / name) == _rows(folder / name)


@pytest.fixture(scope="module")
def states(whole, camvid_root, base_recipe, tmp_path_factory):
    """Step -> the folder of a run that was stopped there: its state, as saved after every step."""
    folder = tmp_path_factory.mktemp("states")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)

    def keep(path, recipe, parts, values):
        (folder / str(values["step"])).mkdir()
        save_state(folder / str(values["step"]) / path.name, recipe, parts, values)
        save_state(path, recipe, parts, values)

    recipe = folder / "recipe.yaml"
    recipe.write_text(base_recipe.read_text().replace("save_every: 2", "save_every: 1"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "save_state", keep)
        trainer.train(recipe, camvid_root, folder / "run")
    torch.set_num_threads(threads)
    return folder


@pytest.mark.parametrize("step", [2, 3, 4])
def test_resumed_before_at_or_after_the_temporal_stage_it_ends_the_same(
    whole, states, camvid_root, base_recipe, tmp_path, step
):
    shutil.copytree(states / str(step), tmp_path / "run")
    trainer.train(base_recipe, camvid_root, tmp_path / "run")
    for name in (trainer.STATE, trainer.MODEL):
        _assert_equal(load_file(whole / name), load_file(tmp_path / "run" / name))


def test_the_temporal_stage_changes_dssa_alone(states):
    """It begins with the averaged weights; of all but DSSA it keeps every bit, statistics of norms too."""
    before, after = (load_file(states / str(step) / trainer.STATE) for step in (3, 6))

    def weights(state, part):
        return {name.removeprefix(part): tensor for name, tensor in state.items() if name.startswith(part)}

    averaged = weights(before, "average/")
    trained = weights(before, "objective/network.")
    assert any(not torch.equal(averaged[name], trained[name]) for name in averaged)
    assert any("running_mean" in name and not name.startswith("dssa.") for name in averaged)
    for part in ("objective/network.", "average/"):
        found = weights(after, part)
        assert found.keys() == averaged.keys()
        changed = {name for name in found if not torch.equal(found[name], averaged[name])}
        assert changed and all(name.startswith("dssa.") for name in changed)
        # Its own norms keep learning, and every layer of it moves.
        layers = ("coarse_key", "context_key", "detail_key", "trust.0", "trust.2")
        assert {f"dssa.{layer}.weight" for layer in layers} <= changed
        assert {"dssa.norm.running_mean", "dssa.detail_norm.running_mean"} <= changed
    prototypes = [name for name in before if name.startswith("objective/prototypes.")]
    assert prototypes and all(torch.equal(before[name], after[name]) for name in prototypes)


def test_a_run_without_an_average_has_a_temporal_stage_too(camvid_root, write_recipe, tmp_path):
    stages = [{"steps": 1, "references": 0}, {"steps": 1, "references": 1, "trains": "temporal"}]
    recipe = write_recipe(ema_decay=0.0, save_every=1, validation=None, phases=stages)
    checkpoint = load_checkpoint(trainer.train(recipe, camvid_root, tmp_path / "run"))
    assert all(tensor.isfinite().all() for tensor in checkpoint.state_dict.values())


def test_what_is_left_out_is_part_of_the_run(camvid_root, write_recipe, tmp_path):
    recipe = write_recipe(**SINGLE_FRAMES)
    record = load_checkpoint(trainer.train(recipe, camvid_root, tmp_path / "run", leave_out=["0006R0"])).training
    assert record["recipe"]["leave_out"] == ["0006R0"] and record["command"].endswith("run --leave-out 0006R0")
    assert record["data"] == "CamVid train without 0006R0 (4 labelled frames)"
    with pytest.raises(RecipeError, match=r"another recipe, with leave_out \['0006R0'\], not \[\]"):
        trainer.train(recipe, camvid_root, tmp_path / "run")


def test_a_finished_run_is_not_run_again(whole, camvid_root, base_recipe):
    names = (trainer.MODEL, trainer.BEST, trainer.LOG, trainer.VALIDATION_LOG, trainer.STATE)
    before = [(whole / name).read_bytes() for name in names]
    assert trainer.train(base_recipe, camvid_root, whole) == whole / trainer.MODEL
    assert [(whole / name).read_bytes() for name in names] == before


def test_a_lost_model_is_written_from_the_state(whole, camvid_root, base_recipe):
    before = load_file(whole / trainer.MODEL)
    (whole / trainer.MODEL).unlink()
    _assert_equal(load_file(trainer.train(base_recipe, camvid_root, whole)), before)


def test_another_recipe_does_not_take_over_a_run(whole, camvid_root, write_recipe):
    with pytest.raises(RecipeError, match="another recipe, with seed 3, not 8"):
        trainer.train(write_recipe(seed=8), camvid_root, whole)


def test_a_rough_state_file_is_refused(camvid_root, write_recipe, tmp_path):
    (tmp_path / "run").mkdir()
    for content in (b"", b"not a state"):
        (tmp_path / "run" / trainer.STATE).write_bytes(content)
        with pytest.raises(RecipeError, match=r"state\.safetensors.*not readable"):
            trainer.train(write_recipe(**SINGLE_FRAMES), camvid_root, tmp_path / "run")


def test_a_state_that_lacks_a_part_is_refused(whole, camvid_root, base_recipe, tmp_path):
    from safetensors import safe_open

    tensors = {name: tensor for name, tensor in load_file(whole / trainer.STATE).items() if "fuse" not in name}
    with safe_open(whole / trainer.STATE, "pt") as file:
        metadata = file.metadata()
    (tmp_path / "run").mkdir()
    save_file(tensors, tmp_path / "run" / trainer.STATE, metadata=metadata)
    with pytest.raises(RecipeError, match="does not fit this network"):
        trainer.train(base_recipe, camvid_root, tmp_path / "run")


def test_a_state_from_before_a_field_was_known_is_taken_up(whole, camvid_root, base_recipe, tmp_path):
    from safetensors import safe_open

    with safe_open(whole / trainer.STATE, "pt") as file:
        metadata = file.metadata()
    recipe = json.loads(metadata["recipe"])
    del recipe["leave_out"], recipe["prototypes"]["momentum"]  # both at their defaults
    (tmp_path / "run").mkdir()
    state = load_file(whole / trainer.STATE)
    save_file(state, tmp_path / "run" / trainer.STATE, metadata={**metadata, "recipe": json.dumps(recipe)})
    trainer.train(base_recipe, camvid_root, tmp_path / "run")
    _assert_equal(load_file(tmp_path / "run" / trainer.MODEL), load_file(whole / trainer.MODEL))


def test_it_begins_with_the_weights_it_is_given(whole, camvid_root, write_recipe, tmp_path):
    changes = {**SINGLE_FRAMES, "learning_rate": 1e-30, "weight_decay": 0.0, "ema_decay": 0.0}
    second = trainer.train(write_recipe(**changes), camvid_root, tmp_path / "second", start=whole / trainer.MODEL)
    one, two = load_checkpoint(whole / trainer.MODEL), load_checkpoint(second)
    parameters = {name for name, _ in one.build_model().named_parameters()}
    _assert_equal(*({name: tensor for name, tensor in c.state_dict.items() if name in parameters} for c in (one, two)))
    assert two.training["command"].endswith("--from model.safetensors")


def test_weights_of_another_network_are_refused(whole, camvid_root, write_recipe, tmp_path):
    """Differences in fields that no weight depends on, as recurrent and temporal, are none."""
    network = {"encoder": "resnet_tiny", "embed_dim": 24, "key_dim": 16}
    network |= {"recurrent": False, "temporal": False}
    with pytest.raises(CheckpointError, match=r"network: its embed_dim is 16, not 24$"):
        recipe = write_recipe(**SINGLE_FRAMES, network=network)
        trainer.train(recipe, camvid_root, tmp_path / "second", start=whole / trainer.MODEL)


def test_a_loss_that_is_no_number_stops_the_run(camvid_root, write_recipe, tmp_path):
    recipe = write_recipe(**{**SINGLE_FRAMES, "learning_rate": 1e30, "phases": [{"steps": 9, "references": 0}]})
    with pytest.raises(RecipeError, match="a lower learning_rate is needed"):
        trainer.train(recipe, camvid_root, tmp_path / "run")
