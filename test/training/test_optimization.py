"""Parameter groups, the schedule, and the moving average."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sdcpc_ros.model_files.checkpoint import normalization
from sdcpc_ros.network import SDCPC
from sdcpc_ros.training.losses import Objective
from sdcpc_ros.training.optimization import WeightAverage, build_optimizer, learning_rate
from sdcpc_ros.training.run_files import optimizer_tensors, restore_optimizer


@pytest.fixture
def objective(make_recipe):
    recipe = make_recipe()
    network = SDCPC(recipe.network_config(11))
    return Objective(network, recipe, torch.ones(11), *normalization("resnet18"))


def test_every_parameter_is_in_one_group_with_its_rate_and_decay(objective, make_recipe):
    optimizer = build_optimizer(objective, make_recipe(weight_decay=0.02))
    found = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(objective.parameters()))
    for name, parameter in objective.named_parameters():
        group = found[id(parameter)]
        assert group["rate"] == (0.5 if name.startswith("network.encoder.") else 1.0)
        matrix = parameter.dim() in (2, 4) and parameter.shape[1] > 1
        assert group["weight_decay"] == (0.02 if matrix else 0.0), name
    assert any(name.startswith("prototypes.project") for name, _ in objective.named_parameters())


@pytest.mark.parametrize(("name", "kind"), [("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)])
def test_an_optimizer_goes_on_as_it_was(make_recipe, objective, name, kind):
    recipe = make_recipe(optimizer=name)
    optimizer = build_optimizer(objective, recipe)
    assert isinstance(optimizer, kind)
    objective.network.to(memory_format=torch.channels_last)
    generator = torch.Generator().manual_seed(0)
    for parameter in objective.network.encoder.parameters():  # the others have no state yet
        parameter.grad = torch.randn(parameter.shape, generator=generator).to(parameter)
    optimizer.step()
    saved = {name: tensor.contiguous() for name, tensor in optimizer_tensors(optimizer).items()}
    again = build_optimizer(objective, recipe)
    restore_optimizer(again, saved)
    restored = optimizer_tensors(again)
    assert restored.keys() == saved.keys() and saved
    assert all(torch.equal(restored[name], saved[name]) for name in saved)
    for parameter, state in again.state.items():
        assert all(t.stride() == parameter.stride() for t in state.values() if t is not None and t.dim() == 4)


def test_the_rate_warms_up_and_falls_to_nothing(make_recipe):
    recipe = make_recipe(
        learning_rate=0.1, warmup_steps=4, schedule_power=1.0, phases=[{"steps": 100, "references": 0}]
    )
    rates = [learning_rate(recipe, step) for step in range(100)]
    assert rates[0] == pytest.approx(0.025) and rates[3] == pytest.approx(0.1 * 0.97)
    assert rates[50] == pytest.approx(0.05) and 0 < rates[99] < 0.0011
    assert sorted(rates[3:], reverse=True) == rates[3:]


def test_the_rate_warms_up_and_falls_in_every_stage(make_recipe):
    stages = [
        {"steps": 10, "references": 0},
        {"steps": 10, "references": 1},
        {"steps": 10, "references": 1, "trains": "temporal"},
    ]
    recipe = make_recipe(learning_rate=0.1, warmup_steps=2, schedule_power=1.0, phases=stages)
    rates = [learning_rate(recipe, step) for step in range(30)]
    assert rates[0] == pytest.approx(0.05) and rates[10] == pytest.approx(0.05) and rates[19] == pytest.approx(0.005)
    assert rates[20] == pytest.approx(0.05) and rates[25] == pytest.approx(0.05) and rates[29] == pytest.approx(0.01)


def test_the_average_follows_closely_at_first():
    module = nn.BatchNorm1d(1)
    average = WeightAverage(module, 0.99)
    assert average.state_dict()["weight"].item() == 1
    with torch.no_grad():
        module.weight.fill_(2.0)
        module.num_batches_tracked += 5
    average.update(1)
    assert average.state_dict()["weight"].item() == pytest.approx(1 + 9 / 11)
    assert average.state_dict()["num_batches_tracked"].item() == 5
    for _ in range(3):
        average.update(10_000)
    assert average.state_dict()["weight"].item() == pytest.approx(2 - (2 / 11) * 0.99**3)


def test_without_decay_the_average_is_the_network():
    module = nn.Linear(1, 1)
    average = WeightAverage(module, 0.0)
    with torch.no_grad():
        module.weight.fill_(3.0)
    average.update(1)
    assert average.state_dict()["weight"].item() == 3 and average.weights == {}
