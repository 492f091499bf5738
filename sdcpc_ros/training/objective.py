"""What training minimises: the network with its losses as one module, so that one wrapper spreads it over ranks."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from sdcpc_ros.network import SDCPC
from sdcpc_ros.network.class_prototypes import ClassPrototypes
from sdcpc_ros.training.losses import labels_at, segmentation_loss, vote_loss
from sdcpc_ros.training.recipe import PrototypeSettings, Recipe
from sdcpc_ros.training.views import consistency_loss


class Sample(NamedTuple):
    """A clip with its labels, or with a batch axis in front a batch of them. V views of the newest frame come last."""

    clip: Tensor  #: (K + V, 3, h, w) uint8 RGB, oldest first
    labels: Tensor  #: (V, h, w) int64
    valid: Tensor  #: (K,) bool, which of the references to use
    motion: Tensor  #: (2, 3), from the newest frame to its second view (`views.random_motion`)

    def to(self, device: torch.device) -> Sample:
        return Sample(*(tensor.to(device, non_blocking=True) for tensor in self))


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
        self.vote_weight, self.jaccard_weight = recipe.vote_weight, recipe.jaccard_weight
        self.views = recipe.views
        for name, values in (("mean", torch.tensor(mean)), ("std", torch.tensor(std))):
            self.register_buffer(name, values.view(3, 1, 1), persistent=False)
        self.register_buffer("class_weights", class_weights, persistent=False)

    def forward(self, batch: Sample, step: int) -> Tensor:
        """The loss of a batch of samples; step: seeds what the prototypes draw."""
        clip = (batch.clip.float() - self.mean) / self.std
        output = self.network(clip, batch.valid, self.views)
        labels = batch.labels.flatten(0, 1)
        loss = segmentation_loss(output, labels, self.class_weights, self.auxiliary_weight, self.jaccard_weight)
        if self.consistency_weight:
            # With references, of the frames by themselves too: the steadier they are, the less there is to mend.
            for logits in (output.logits, output.alone) if output.votes else (output.logits,):
                divergence = consistency_loss(logits[::2], logits[1::2], batch.motion)
                loss = loss + self.consistency_weight * divergence
        if self.vote_weight and output.votes:
            valid = batch.valid.repeat_interleave(self.views, 0)
            loss = loss + self.vote_weight * vote_loss(output.votes, labels, valid)
        if self.prototypes is not None:
            coarse = labels_at(labels, output.static)
            contrast = self.prototypes(output.static, output.static_logits.detach(), coarse, step)
            loss = loss + self.prototype_weight * contrast
        return loss


def _prototypes(network: SDCPC, settings: PrototypeSettings, seed: int) -> ClassPrototypes:
    values = {name: value for name, value in vars(settings).items() if name != "weight"}
    return ClassPrototypes(network.config.embed_dim, network.config.num_classes, **values, seed=seed)
