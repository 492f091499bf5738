"""Several ranks: torchrun with two processes learns what one process learns from the joined batch."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from sdcpc_ros.training import trainer
from sdcpc_ros.training.distributed import World, joined, with_joined_norms
from sdcpc_ros.training.recipe import RecipeError

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")


def _rows(path: Path) -> list[dict[str, float]]:
    with path.open() as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def test_two_ranks_equal_one(camvid_root, write_recipe, tmp_path, one_thread):
    """Losses to 1e-4, prototypes and weights to 1e-5: sums over two ranks run in another order, and nothing else."""
    # Each rank has dropout of its own, and Adam makes a full step of the smallest gradient: neither is asked here.
    network = {"encoder": "resnet18", "base_width": 8, "embed_dim": 16, "key_dim": 8, "head_dropout": 0.0}
    recipe = write_recipe(network=network, optimizer="sgd", learning_rate=0.01)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "sdcpc_ros.cli", "train"]
    paths = ["--config", recipe, "--root", camvid_root, "--output", tmp_path / "two", "--device", "cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    ranks = subprocess.run(
        [sys.executable, *torchrun, *map(str, paths)], env=environment, capture_output=True, text=True
    )
    assert ranks.returncode == 0, ranks.stderr
    trainer.train(recipe, camvid_root, tmp_path / "one", device="cpu")

    one, two = (_rows(tmp_path / name / trainer.LOG) for name in ("one", "two"))
    assert [row["step"] for row in one] == [row["step"] for row in two] == [2, 3, 4, 6]
    for a, b in zip(one, two):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-4)
        assert a["gradient_norm"] == pytest.approx(b["gradient_norm"], rel=1e-3)
    states = [load_file(tmp_path / name / trainer.STATE) for name in ("one", "two")]
    assert states[0].keys() == states[1].keys()
    for name, tensor in states[0].items():
        torch.testing.assert_close(states[1][name], tensor, atol=1e-5, rtol=1e-4, msg=name)
    moved = states[0]["objective/prototypes.prototypes"]
    assert len(_rows(tmp_path / "two" / trainer.VALIDATION_LOG)) == 2  # rank 0 alone wrote
    assert moved.isfinite().all()
    assert ranks.stdout.count("wrote") == 1


def test_alone_joined_norms_are_batch_norms():
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    other = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    other.load_state_dict(plain.state_dict())
    other = with_joined_norms(other, CPU)
    assert type(other[1]) is not nn.BatchNorm2d and other.state_dict().keys() == plain.state_dict().keys()
    x = torch.randn(2, 3, 8, 8)
    for _ in range(2):
        a, b = plain(x), other(x)
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
    a.square().sum().backward()
    b.square().sum().backward()
    for (name, p), q in zip(plain.named_parameters(), other.parameters()):
        torch.testing.assert_close(p.grad, q.grad, atol=1e-3, rtol=1e-4, msg=name)
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], tensor, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(plain.eval()(x), other.eval()(x), atol=1e-5, rtol=1e-5)


def test_clips_that_cannot_be_shared_are_refused():
    assert World(0, 2, CPU).share_of(4) == 2
    with pytest.raises(RecipeError, match="5 clips, which 2 ranks cannot share"):
        World(0, 2, CPU).share_of(5)


def test_devices_that_are_not_there_are_refused():
    with pytest.raises(RecipeError, match="device is 'tpu'"), joined("tpu"):
        pass
    if not torch.cuda.is_available():
        with pytest.raises(RecipeError, match="no GPU"), joined("cuda"):
            pass
    with joined("cpu") as world:
        assert world == World(0, 1, CPU) and world.leads
