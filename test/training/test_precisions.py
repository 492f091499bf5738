"""Each recipe that is shipped trains a clip in half precision, with the types that CUDA's autocast gives."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sdcpc_ros.model_files.checkpoint import normalization
from sdcpc_ros.network import SDCPC
from sdcpc_ros.training.losses import Objective, Sample, consistency_loss
from sdcpc_ros.training.recipe import load_recipe

_SPEC = importlib.util.spec_from_file_location("cuda_casts", Path(__file__).with_name("cuda_casts.py"))
_CASTS = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_CASTS)

RECIPES = sorted((Path(__file__).parents[2] / "config" / "training").glob("*.yaml"))
CROP, REFERENCES = 64, 2
#: Encoders of the same operators with fewer layers: types are the same, and a CPU is done sooner.
SMALLER = {"mit_b5": "mit_b0", "resnet101": "resnet50"}


def _batch(views):
    generator = torch.Generator().manual_seed(1)
    return Sample(
        torch.randint(0, 256, (2, REFERENCES + views, 3, CROP, CROP), generator=generator).float(),
        torch.randint(0, 11, (2, views, CROP, CROP), generator=generator),
        torch.tensor([[0.2, 0.1], [-1.0, 0.1]]),
        torch.tensor([[1.0, 0, 0.05], [0, 1, 0]]).expand(2, 2, 3),
        torch.tensor([False, True]),
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_clip_of_a_recipe_goes_forward_and_back(path, dtype):
    recipe = load_recipe(path)
    torch.manual_seed(0)
    config = recipe.network_config(11)
    config = replace(config, encoder=SMALLER.get(config.encoder, config.encoder))
    objective = Objective(SDCPC(config), recipe, torch.ones(11), *normalization(config.encoder)).train()
    with torch.no_grad():
        objective.network.head.classify.bias[0] += 3  # one class is wide: the gate of a thin one has no gradient
    with _CASTS.CudaCasts(dtype) as casts:
        loss = objective(_batch(recipe.views), 0)
    assert {"conv2d"} <= casts.lowered
    assert loss.dtype == torch.float32 and loss.isfinite()
    loss.backward()
    gradients = {name: p.grad for name, p in objective.network.named_parameters() if p.grad is not None}
    assert all(gradient.isfinite().all() for gradient in gradients.values())
    temporal = {name.split(".")[1] for name in gradients if name.startswith("dssa.") and gradients[name].any()}
    assert {"coarse_key", "context_key", "detail_key", "log_scale", "position_weight", "trust", "gate"} <= temporal


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_second_view_is_compared_at_exact_places(dtype):
    """Places rounded to bfloat16 are off by half a position at the borders of a map."""
    generator = torch.Generator().manual_seed(0)
    logits, view = (10 * torch.randn(1, 5, 72, 96, generator=generator) for _ in range(2))
    motion = torch.tensor([[[1.01, 0.02, 0.03], [-0.01, 0.99, -0.02]]])
    with _CASTS.CudaCasts(dtype):
        loss = consistency_loss(logits, view, motion)
    torch.testing.assert_close(loss, consistency_loss(logits, view, motion), rtol=0, atol=1e-6)
