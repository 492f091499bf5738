"""The trainer: a run that is killed and resumed ends as one that never stopped."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from sdcpc_ros.checkpoint import CheckpointError, load_checkpoint
from sdcpc_ros.training import trainer
from sdcpc_ros.training.recipe import RecipeError

ROOT = Path(__file__).parents[2]
_RUN = """
import sys
from sdcpc_ros.training import trainer
trainer._SAVE_EVERY_STEPS = 1
trainer.train(*sys.argv[1:])
"""


@pytest.fixture(autouse=True)
def _one_thread():
    """Sums in another order differ in the last bit; equality needs one order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _losses(folder):
    with (folder / "log.csv").open() as file:
        return {int(row["step"]): float(row["mean_loss"]) for row in csv.DictReader(file)}


def test_a_run_ends_in_a_checkpoint(camvid_root, write_recipe, tmp_path):
    path = trainer.train(write_recipe(), camvid_root, tmp_path / "run")
    checkpoint = load_checkpoint(path)
    assert checkpoint.input_size == (64, 96)
    assert checkpoint.training["recipe"]["seed"] == 3 and checkpoint.training["steps"] == 6
    assert "research" in checkpoint.training["licence"]
    assert checkpoint.build_model()(torch.zeros(1, 3, 3, 64, 96)).logits.isfinite().all()


def test_killed_and_resumed_it_gives_the_same_weights(camvid_root, write_recipe, tmp_path):
    recipe = write_recipe()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}

    def start(folder):
        command = [sys.executable, "-c", _RUN, str(recipe), str(camvid_root), str(folder)]
        return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, start_new_session=True)

    assert start(tmp_path / "whole").wait(120) == 0
    killed = start(tmp_path / "killed")
    deadline = time.monotonic() + 120
    while not (tmp_path / "killed" / "state.safetensors").exists():
        assert killed.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)  # polls with the deadline above
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait(30)
    assert start(tmp_path / "killed").wait(120) == 0

    one, two = (load_checkpoint(tmp_path / name / "model.safetensors") for name in ("whole", "killed"))
    assert all(torch.equal(tensor, two.state_dict[name]) for name, tensor in one.state_dict.items())
    assert _losses(tmp_path / "whole") == _losses(tmp_path / "killed")


def test_a_finished_run_is_not_run_again(camvid_root, write_recipe, tmp_path):
    recipe = write_recipe()
    before = trainer.train(recipe, camvid_root, tmp_path / "run").read_bytes()
    log = (tmp_path / "run" / "log.csv").read_text()
    assert trainer.train(recipe, camvid_root, tmp_path / "run").read_bytes() == before
    assert (tmp_path / "run" / "log.csv").read_text() == log


def test_another_recipe_does_not_take_over_a_run(camvid_root, write_recipe, tmp_path):
    trainer.train(write_recipe(), camvid_root, tmp_path / "run")
    with pytest.raises(RecipeError, match="another recipe"):
        trainer.train(write_recipe(seed=8), camvid_root, tmp_path / "run")


def test_a_rough_state_file_is_refused(camvid_root, write_recipe, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "state.safetensors").write_bytes(b"not a state")
    with pytest.raises(RecipeError, match=r"state\.safetensors.*not readable"):
        trainer.train(write_recipe(), camvid_root, tmp_path / "run")


def test_it_begins_with_the_weights_it_is_given(camvid_root, write_recipe, tmp_path):
    first = trainer.train(write_recipe(), camvid_root, tmp_path / "first")
    frozen = write_recipe(learning_rate=1e-30, weight_decay=0.0, ema_decay=0.0)
    second = trainer.train(frozen, camvid_root, tmp_path / "second", start=first)
    one, two = load_checkpoint(first), load_checkpoint(second)
    assert all(torch.equal(one.state_dict[name], two.state_dict[name]) for name in ("head.classify.weight",))
    assert two.training["command"].endswith("--from model.safetensors")


def test_weights_of_another_network_are_refused(camvid_root, write_recipe, tmp_path):
    first = trainer.train(write_recipe(), camvid_root, tmp_path / "first")
    other = write_recipe(network={"encoder": "resnet18", "base_width": 16, "embed_dim": 16, "key_dim": 8})
    with pytest.raises(CheckpointError, match="base_width is 8, not 16"):
        trainer.train(other, camvid_root, tmp_path / "second", start=first)


def test_some_clips_lack_their_oldest_references():
    torch.manual_seed(0)
    valid = trainer._young_streams(1000, 3)
    assert valid.shape == (1000, 3)
    assert (valid.int().diff(dim=1) >= 0).all()  # a remembered frame means that all later ones are remembered
    shares = valid.sum(1).bincount(minlength=4) / 1000
    assert shares[3] == pytest.approx(0.7, abs=0.05) and shares[:3].min() > 0.05
    assert trainer._young_streams(4, 0).shape == (4, 0)
