"""Several ranks: two processes that torchrun starts learn what one process learns from the joined batch."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import nn

from sdcpc_ros.model_files.checkpoint import normalization
from sdcpc_ros.network import SDCPC
from sdcpc_ros.training import trainer
from sdcpc_ros.training.distributed import DistributedContext, convert_sync_batchnorm, init_distributed
from sdcpc_ros.training.losses import Objective
from sdcpc_ros.training.recipe import RecipeError
from sdcpc_ros.training.run_files import recipe_values

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")


def _rows(path: Path) -> list[dict[str, float]]:
    with path.open() as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


# Each rank draws its own dropout, and Adam makes a full step of the smallest gradient: neither is asked here.
_PLAIN = {
    "network": {
        "encoder": "resnet_tiny",
        "embed_dim": 16,
        "key_dim": 16,
        "head_dropout": 0.0,
        "reference_offsets": [1, 2],
    },
    "optimizer": "sgd",
    "learning_rate": 0.01,
    "ema_decay": 0.0,
    "phases": [
        {"steps": 3, "references": 2, "filmed_share": 0.3, "cut_share": 0.2, "disturbed_share": 0.5},
        {"steps": 1, "references": 2, "trains": "temporal"},
    ],
    "save_every": 1,
    "validation": None,
}
# Keeps what was saved after each step, where a run keeps the last alone.
_TRAIN = """
import sys
from sdcpc_ros.training import trainer
recipe, root, output = sys.argv[1:]
save = trainer.save_state
trainer.save_state = lambda path, recipe, parts, values: (
    save(path, recipe, parts, values), save(path.with_name(f"{values['step']}.safetensors"), recipe, parts, values)
)
trainer.train(recipe, root, output, device="cpu")
"""


@pytest.fixture(scope="module")
def two_ranks(camvid_root, make_recipe, tmp_path_factory):
    """A folder with a run of two ranks, and one of a single process, by the same recipe."""
    folder = tmp_path_factory.mktemp("ranks")
    (folder / "train.py").write_text(_TRAIN)
    values = {**recipe_values(make_recipe(**_PLAIN)), "save_every": 1, "workers": 0}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(values))
    save = trainer.save_state

    def keep(path, recipe, parts, values):
        save(path, recipe, parts, values)
        save(path.with_name(f"{values['step']}.safetensors"), recipe, parts, values)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "save_state", keep)
        trainer.train(folder / "recipe.yaml", camvid_root, folder / "alone", device="cpu")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*torchrun, folder / "train.py", folder / "recipe.yaml", camvid_root, folder / "ranks"]
    run = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True, timeout=250)
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("wrote") == 1  # rank 0 alone writes
    return folder


def _apart(folder: Path, step: int, start: dict[str, torch.Tensor]) -> float:
    """How far the runs are from each other after a step, as a share of how far they went from where they started."""
    alone, ranks = (load_file(folder / name / f"{step}.safetensors") for name in ("alone", "ranks"))
    assert alone.keys() == ranks.keys() and start
    one, two = (torch.cat([state[f"objective/{key}"].flatten() for key in start]) for state in (alone, ranks))
    moved = (one - torch.cat([tensor.flatten() for tensor in start.values()])).norm()
    assert moved > 0
    return float((one - two).norm() / moved)


@pytest.mark.parametrize(("step", "tolerance"), [(1, 1e-4), (3, 2e-2), (4, 2e-2)])
def test_two_ranks_equal_one(two_ranks, make_recipe, step, tolerance):
    """After a step, with every loss that there is, to the precision of sums in another order; after more the two go
    apart a little, since a pixel that lies on the kink of a ReLU falls to this side or that. The fourth trains the
    temporal path alone."""
    alone, ranks = (_rows(two_ranks / name / trainer.LOG)[step - 1] for name in ("alone", "ranks"))
    assert ranks["loss"] == pytest.approx(alone["loss"], rel=tolerance / 10)
    assert ranks["gradient_norm"] == pytest.approx(alone["gradient_norm"], rel=tolerance)
    recipe = make_recipe(**_PLAIN)
    assert recipe.prototypes and recipe.consistency_weight and recipe.jaccard_weight
    assert recipe.vote_weight and recipe.trust_weight and recipe.stability_weight
    torch.manual_seed(recipe.seed)
    network = SDCPC(recipe.network_config(11))
    start = Objective(network, recipe, torch.ones(11), *normalization("resnet18")).state_dict()
    parameters = {f"network.{key}" for key, _ in network.named_parameters()}
    for part in (
        {key: tensor for key, tensor in start.items() if key in parameters},
        {key: tensor for key, tensor in start.items() if "running_" in key},
        {key: tensor for key, tensor in start.items() if key == "prototypes.prototypes"},
        {key: tensor for key, tensor in start.items() if key.startswith("prototypes.project.")},
    ):
        assert _apart(two_ranks, step, part) < tolerance, next(iter(part))


def test_alone_joined_norms_are_batch_norms():
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    other = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    other.load_state_dict(plain.state_dict())
    other = convert_sync_batchnorm(other, CPU)
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
    assert DistributedContext(0, 2, CPU).share_of(4) == 2
    with pytest.raises(RecipeError, match="5 clips, which 2 ranks cannot share"):
        DistributedContext(0, 2, CPU).share_of(5)


def test_devices_that_are_not_there_are_refused():
    with pytest.raises(RecipeError, match="device is 'tpu'"), init_distributed("tpu"):
        pass
    if not torch.cuda.is_available():
        with pytest.raises(RecipeError, match="no GPU"), init_distributed("cuda"):
            pass
    with init_distributed("cpu") as world:
        assert world == DistributedContext(0, 1, CPU) and world.is_main
