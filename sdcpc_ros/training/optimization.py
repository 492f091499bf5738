"""The optimiser with its parameter groups and schedule, and the moving average of the weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from sdcpc_ros.training.losses import Objective
from sdcpc_ros.training.recipe import Recipe

_MOMENTUM = 0.9
_ADAM_BETAS = (0.9, 0.99)


def build_optimizer(objective: Objective, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW or SGD. A group's learning rate is the schedule's times its "rate".

    Weight decay is for matrices and filters: not for norms, biases, embeddings and depth-wise filters.
    """
    groups: list[dict[str, object]] = []
    for encoder in (True, False):
        own = [p for name, p in objective.named_parameters() if name.startswith("network.encoder.") is encoder]
        rate = recipe.encoder_rate if encoder else 1.0
        groups += [
            {"params": [p for p in own if _mixes_channels(p)], "rate": rate, "weight_decay": recipe.weight_decay},
            {"params": [p for p in own if not _mixes_channels(p)], "rate": rate, "weight_decay": 0.0},
        ]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, recipe.learning_rate, momentum=_MOMENTUM)
    return torch.optim.AdamW(groups, recipe.learning_rate, betas=_ADAM_BETAS)


def learning_rate(recipe: Recipe, step: int) -> float:
    """Linear warm-up, under a polynomial decay to zero over each stage (`Recipe.stage_at`)."""
    first, steps = recipe.stage_at(step)
    warmup = min(1.0, (step - first + 1) / max(1, recipe.warmup_steps))
    return recipe.learning_rate * warmup * (1 - (step - first) / steps) ** recipe.schedule_power


def _mixes_channels(parameter: Tensor) -> bool:
    return parameter.dim() in (2, 4) and parameter.shape[1] > 1


class WeightAverage:
    """Exponential moving average of a network's weights and buffers; with a decay of 0, the network's own."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network, self.decay = network, decay
        self.weights: dict[str, Tensor] = {}
        self.restart()

    def restart(self) -> None:
        """Begin from the network as it is."""
        if self.decay > 0:
            self.weights = {name: tensor.detach().clone() for name, tensor in self.network.state_dict().items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """After `step` steps. The decay is smaller at first, so that the random initial weights are soon forgotten."""
        if not self.weights:
            return
        now = self.network.state_dict()
        floats = [name for name, tensor in now.items() if tensor.is_floating_point()]
        average = get_ema_multi_avg_fn(min(self.decay, (1 + step) / (10 + step)))
        average([self.weights[name] for name in floats], [now[name] for name in floats], None)
        for name in now.keys() - set(floats):
            self.weights[name].copy_(now[name])

    def state_dict(self) -> dict[str, Tensor]:
        return self.weights if self.decay > 0 else dict(self.network.state_dict())
