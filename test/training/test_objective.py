"""What is minimised: its parts add up, and it works in the precisions that a GPU trains in."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from sdcpc_ros.labels.label_set import IGNORE
from sdcpc_ros.model_files.checkpoint import normalization
from sdcpc_ros.network import SDCPC
from sdcpc_ros.training.losses import Objective, Sample, segmentation_loss

#: Weights with which little is left to add up.
NOTHING = {
    **{"consistency_weight": 1.0, "vote_weight": 0.0, "trust_weight": 0.0, "stability_weight": 0.0},
    **{"jaccard_weight": 0.0, "prototypes": None},
}


@pytest.fixture
def make(make_recipe):
    def objective(**changes):
        network = {
            "encoder": "resnet_tiny",
            "embed_dim": 16,
            "key_dim": 16,
            "head_dropout": 0.0,
            "reference_offsets": [1, 2],
        }
        recipe = make_recipe(network=network, **changes)
        torch.manual_seed(0)
        return Objective(SDCPC(recipe.network_config(11)), recipe, torch.ones(11), *normalization("resnet18"))

    return objective


def _batch(references, views, clips=2):
    generator = torch.Generator().manual_seed(1)
    return Sample(
        torch.randint(0, 256, (clips, references + views, 3, 48, 64), generator=generator).float(),
        torch.randint(0, 11, (clips, views, 48, 64), generator=generator),
        torch.arange(references, 0, -1).expand(clips, -1) / 10,
        torch.tensor([[1.0, 0, 0.05], [0, 1, 0]]).expand(clips, 2, 3),
        torch.zeros(clips, dtype=torch.bool),
    )


def test_without_more_it_is_the_segmentation_loss_of_the_normalised_clip(make):
    objective = make(**{**NOTHING, "consistency_weight": 0.0}, auxiliary_weight=0.25).eval()
    batch = _batch(references=2, views=1)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in normalization("resnet18"))
    output = objective.network((batch.clip - mean) / std, batch.age_s)
    expected = segmentation_loss(output, batch.labels[:, 0], torch.ones(11), 0.25)
    assert objective(batch, 0).item() == pytest.approx(expected.item(), rel=1e-6)
    assert not any("prototypes" in name for name in objective.state_dict())


def test_the_weights_of_its_parts_count(make):
    """The loss is linear in each weight, and each part adds to it."""
    batch = _batch(references=1, views=2)

    def loss(**changes):
        return make(**{**NOTHING, **changes}).eval()(batch, 0).item()

    base = loss()
    for name, low, high in (
        ("consistency_weight", 2.0, 3.0),
        ("vote_weight", 0.5, 1.0),
        ("trust_weight", 0.5, 1.0),
        ("stability_weight", 0.5, 1.0),
        ("jaccard_weight", 0.5, 1.0),
        ("prototypes", {"weight": 0.1, "dimension": 8}, {"weight": 0.2, "dimension": 8}),
    ):
        once, twice = loss(**{name: low}) - base, loss(**{name: high}) - base
        assert once > 0 and twice == pytest.approx(2 * once, rel=1e-3), name


def test_prototypes_move_in_training_alone_and_stay_out_of_the_network(make):
    objective = make(consistency_weight=0.0, prototypes={"dimension": 8, "momentum": 0.5})
    assert objective.prototypes is not None
    before = objective.prototypes.prototypes.clone()
    objective.eval()(_batch(0, 1), 0)
    assert torch.equal(objective.prototypes.prototypes, before)
    objective.train()(_batch(0, 1), 0)
    assert not torch.equal(objective.prototypes.prototypes, before)
    assert not any("prototypes" in name for name in objective.network.state_dict())


@pytest.mark.parametrize("references", [0, 2])
def test_autocast_gives_finite_gradients_near_the_exact_ones(make, references):
    gradients = []
    for enabled in (False, True):
        objective = make().train()
        with torch.autocast("cpu", torch.float16, enabled=enabled):
            loss = objective(_batch(references, 2), 0)
        loss.backward()
        gradients.append(torch.cat([p.grad.flatten() for p in objective.parameters() if p.grad is not None]))
        assert loss.isfinite() and gradients[-1].isfinite().all()
    assert torch.nn.functional.cosine_similarity(*gradients, dim=0) > 0.9


@pytest.mark.parametrize("references", [0, 2])
def test_a_batch_of_nothing_but_void_costs_the_disagreement_alone(make, references):
    """Of two views: it asks for no labels."""
    batch = _batch(references, 2)
    batch = batch._replace(labels=torch.full_like(batch.labels, IGNORE))
    every_loss = dict.fromkeys(("vote_weight", "trust_weight", "stability_weight"), 1.0)
    nothing = {**NOTHING, "consistency_weight": 1e-60}  # two views, whose divergence counts as 0
    objective = make(**{**nothing, "jaccard_weight": 0.5, "prototypes": {}, **every_loss})
    loss = objective(batch, 0)
    loss.backward()
    assert loss.item() == 0
    assert all(p.grad is None or p.grad.isfinite().all() for p in objective.parameters())
    objective.recipe = replace(objective.recipe, consistency_weight=1.0)
    assert objective(batch, 0).item() > 0


def test_references_of_another_scene_are_not_voted_for_and_not_to_be_trusted(make):
    batch = _batch(2, 1)
    cut = batch._replace(cut=torch.ones(2, dtype=torch.bool))

    def change(**weights):
        objective = make(**{**NOTHING, "consistency_weight": 0.0, **weights}).eval()
        return objective(batch, 0).item() - objective(cut, 0).item()

    assert change() == 0 and change(trust_weight=1.0) == 0 and change(stability_weight=1.0) == 0
    assert change(vote_weight=1.0) > 1  # the vote's loss is gone


def test_references_that_are_missing_change_nothing(make):
    """As if they were not there, whatever their frames show."""
    batch = _batch(2, 2)._replace(age_s=torch.full((2, 2), -1.0))
    objective = make(prototypes=None).eval()
    other = batch._replace(clip=torch.cat((255 - batch.clip[:, :2], batch.clip[:, 2:]), 1))
    assert objective(batch, 0).item() == objective(other, 0).item()


def test_where_all_but_the_temporal_path_is_frozen_it_alone_counts(make):
    """Losses of what is as it is would only add a constant; and prototypes stay."""
    objective = make().train()
    for part in objective.network.children():
        part.requires_grad_(part is objective.network.dssa).train(part is objective.network.dssa)
    before = objective.prototypes.prototypes.clone()
    losses = {}
    for weight in (0.0, 1.0):
        objective.auxiliary_weight = objective.prototype_weight = weight
        losses[weight] = objective(_batch(2, 2), 0)
    assert losses[0.0].item() == losses[1.0].item() and torch.equal(objective.prototypes.prototypes, before)
    losses[1.0].backward()
    trained = {name for name, parameter in objective.named_parameters() if parameter.grad is not None}
    assert trained and all(name.startswith("network.dssa.") for name in trained)
