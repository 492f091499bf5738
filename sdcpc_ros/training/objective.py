"""The network with its losses as one module, for DistributedDataParallel."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from sdcpc_ros.network import SDCPC
from sdcpc_ros.training.class_prototypes import ClassPrototypes
from sdcpc_ros.training.losses import consistency_loss, labels_at, segmentation_loss, temporal_losses
from sdcpc_ros.training.recipe import PrototypeSettings, Recipe


class Sample(NamedTuple):
    """A clip with its labels, or with a batch axis in front a batch of them. V views of the newest frame come last."""

    clip: Tensor  #: (K + V, 3, h, w) float32 RGB in 0..255, oldest first
    labels: Tensor  #: (V, h, w) int64
    age_s: Tensor  #: (K,) float32, seconds, negative for a missing reference
    motion: Tensor  #: (2, 3), from the newest frame to its second view
    cut: Tensor  #: () bool, whether the references show another scene


class Objective(nn.Module):
    """The loss of a batch. Holds the network, and MCP-CL's prototypes, which stay behind when it is exported."""

    mean: Tensor
    std: Tensor
    class_weights: Tensor

    def __init__(
        self,
        network: SDCPC,
        recipe: Recipe,
        class_weights: Tensor,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
    ) -> None:
        """class_weights: (C,) float, of the cross-entropy; mean, std: of RGB, in units of 0..255."""
        super().__init__()
        self.network = network
        self.prototypes = _prototypes(network, recipe.prototypes, recipe.seed) if recipe.prototypes else None
        self.prototype_weight = recipe.prototypes.weight if recipe.prototypes else 0.0
        self.auxiliary_weight, self.consistency_weight = recipe.auxiliary_weight, recipe.consistency_weight
        self.jaccard_weight = recipe.jaccard_weight
        self.temporal_weights = (recipe.vote_weight, recipe.trust_weight, recipe.stability_weight)
        self.views = recipe.views
        for name, values in (("mean", torch.tensor(mean)), ("std", torch.tensor(std))):
            self.register_buffer(name, values.view(3, 1, 1), persistent=False)
        self.register_buffer("class_weights", class_weights, persistent=False)

    def forward(self, batch: Sample, step: int) -> Tensor:
        """The loss of a batch of samples; step: seeds what the prototypes draw."""
        clip = (batch.clip - self.mean) / self.std
        output = self.network(clip, batch.age_s, self.views)
        labels, found = batch.labels.flatten(0, 1), output.aggregation
        # In the temporal stage the frames by themselves are as they are: their losses have no gradient.
        is_frozen = torch.is_grad_enabled() and not output.static.requires_grad
        auxiliary_weight = 0.0 if is_frozen else self.auxiliary_weight
        loss = segmentation_loss(output, labels, self.class_weights, auxiliary_weight, self.jaccard_weight)
        if self.consistency_weight:
            # With references, of the frames by themselves too: the steadier they are, the less there is to correct.
            for logits in (output.logits,) if found is None or is_frozen else (output.logits, output.single):
                divergence = consistency_loss(logits[::2], logits[1::2], batch.motion)
                loss = loss + self.consistency_weight * divergence
        if found is not None:
            usable = ((batch.age_s >= 0) & ~batch.cut[:, None]).repeat_interleave(self.views, 0)
            losses = temporal_losses(found, output.logits, output.single, labels, usable, self.class_weights)
            loss = loss + sum(weight * value for weight, value in zip(self.temporal_weights, losses))
        if self.prototypes is not None and not is_frozen:
            coarse = labels_at(labels, output.static)
            contrast = self.prototypes(output.static, output.static_logits.detach(), coarse, step)
            loss = loss + self.prototype_weight * contrast
        return loss


def _prototypes(network: SDCPC, settings: PrototypeSettings, seed: int) -> ClassPrototypes:
    values = {name: value for name, value in vars(settings).items() if name != "weight"}
    return ClassPrototypes(network.config.embed_dim, network.config.num_classes, **values, seed=seed)
