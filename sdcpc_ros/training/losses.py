"""The losses, and the network with them as one module for DistributedDataParallel.

Over several ranks each loss is this rank's share of the whole batch's (`distributed.mean_share`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sdcpc_ros.labels.label_set import IGNORE
from sdcpc_ros.network import SDCPC, ClipOutput
from sdcpc_ros.network.cross_frame import COARSE
from sdcpc_ros.network.dssa import DSSAOutput
from sdcpc_ros.training.class_prototypes import ClassPrototypes
from sdcpc_ros.training.distributed import differentiable_sum, mean_share
from sdcpc_ros.training.recipe import Recipe


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
        self, network: SDCPC, recipe: Recipe, class_weights: Tensor, mean: tuple[float, ...], std: tuple[float, ...]
    ) -> None:
        """class_weights: (C,) float, of the cross-entropy; mean, std: of RGB, in units of 0..255."""
        super().__init__()
        self.network, self.recipe = network, recipe
        self.prototypes: ClassPrototypes | None = None
        if recipe.prototypes is not None:
            config = network.config
            self.prototypes = ClassPrototypes(config.embed_dim, config.num_classes, recipe.prototypes, recipe.seed)
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)
        self.register_buffer("class_weights", class_weights, persistent=False)

    def forward(self, batch: Sample, step: int) -> Tensor:
        """The loss of a batch of samples; step: seeds what the prototypes draw."""
        recipe = self.recipe
        output = self.network((batch.clip - self.mean) / self.std, batch.age_s, recipe.views)
        labels, found = batch.labels.flatten(0, 1), output.aggregation
        # In the temporal stage the frames by themselves are as they are: their losses have no gradient.
        is_frozen = torch.is_grad_enabled() and not output.static.requires_grad
        auxiliary_weight = 0.0 if is_frozen else recipe.auxiliary_weight
        loss = segmentation_loss(output, labels, self.class_weights, auxiliary_weight, recipe.jaccard_weight)
        if recipe.consistency_weight:
            # With references, of the frames by themselves too: the steadier they are, the less there is to correct.
            for logits in (output.logits,) if found is None or is_frozen else (output.logits, output.single):
                divergence = consistency_loss(logits[::2], logits[1::2], batch.motion)
                loss = loss + recipe.consistency_weight * divergence
        if found is not None:
            usable = ((batch.age_s >= 0) & ~batch.cut[:, None]).repeat_interleave(recipe.views, 0)
            losses = temporal_losses(found, output.logits, output.single, labels, usable, self.class_weights)
            weights = recipe.vote_weight, recipe.trust_weight, recipe.stability_weight
            loss = loss + sum(weight * value for weight, value in zip(weights, losses))
        if self.prototypes is not None and not is_frozen:
            coarse = labels_at(labels, output.static)
            contrast = self.prototypes(output.static, output.static_logits.detach(), coarse, step)
            loss = loss + self.prototypes.settings.weight * contrast
        return loss


def class_weights(frequencies: np.ndarray, power: float) -> Tensor:
    """(C,) float: median-frequency balancing to a power, held to 0.3..4: 0 counts pixels alike, 1 counts classes alike.

    What is rare is then found more readily, and drawn too large: a pole several pixels wider than it is.
    """
    present = np.maximum(frequencies, 1e-6)
    weights = ((np.median(present) / present) ** power).clip(0.3, 4.0)
    return torch.tensor(weights, dtype=torch.float32)


def segmentation_loss(
    output: ClipOutput, labels: Tensor, weights: Tensor, auxiliary_weight: float, jaccard_weight: float = 0.0
) -> Tensor:
    """Class-weighted cross-entropy at image size, plus that of the static head at its own stride.

    labels: (B, H, W) int64, IGNORE where void; a batch that is all void costs 0. jaccard_weight: of `jaccard_loss`.
    auxiliary_weight: of the static head, and where references took part, of the frame's logits by itself: they are what
    a stream begins with, and what votes later.
    """
    loss = _logits_loss(output.logits, labels, weights, jaccard_weight)
    if auxiliary_weight:
        coarse = labels_at(labels, output.static_logits)
        loss = loss + auxiliary_weight * _cross_entropy(output.static_logits, coarse, weights)
        if output.aggregation is not None:
            loss = loss + auxiliary_weight * _logits_loss(output.single, labels, weights, jaccard_weight)
    return loss


def _logits_loss(logits: Tensor, labels: Tensor, weights: Tensor, jaccard_weight: float) -> Tensor:
    logits = F.interpolate(logits, labels.shape[1:], mode="bilinear", align_corners=False)
    loss = _cross_entropy(logits, labels, weights)
    return loss + jaccard_weight * jaccard_loss(logits, labels) if jaccard_weight else loss


def jaccard_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """1 - the mean IoU of the batch, over all ranks, with probabilities in place of decisions; classes present only.

    logits: (B, C, H, W); labels: (B, H, W) int64, IGNORE where void. Every class counts alike, and where a
    class weight would draw a rare one too wide, what is drawn in vain counts against it here. 0 without any label.
    """
    known = labels != IGNORE
    probabilities = logits.float().softmax(1) * known[:, None]
    at_truth = probabilities.gather(1, labels.where(known, 0)[:, None])[:, 0]
    classes = labels[known]
    counts = torch.zeros(3, logits.shape[1], device=logits.device)
    intersection = counts[0].index_add(0, classes, at_truth[known])
    truth = counts[1].index_add(0, classes, torch.ones_like(classes, dtype=torch.float32))
    predicted = probabilities.sum((0, 2, 3))
    intersection, truth, predicted = differentiable_sum(torch.stack((intersection, truth, predicted)))
    iou = intersection / (truth + predicted - intersection).clamp_min(1e-6)
    present = truth > 0
    return ((1 - iou) * present).sum() / present.sum().clamp_min(1)


def temporal_losses(
    found: DSSAOutput, logits: Tensor, single: Tensor, labels: Tensor, usable: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The vote, trust and stability losses of an aggregation.

    logits, single: (B, C, H/4, W/4), with references and of the frame by itself. labels: (B, H, W) int64, IGNORE where
    void: nothing is learnt there. usable: (B, K) bool, the references that are there and show the same scene: those
    that a vote can be expected of. weights: (C,) float, of the classes.

    vote: cross-entropy of each reference's vote, in both stages, with the share that classes have in the cells now,
    class-weighted; it teaches the attention where things were. trust: binary cross-entropy of the trust with the
    probability that the vote is right, weighted by 0.05 plus the probability that frame and vote name different
    classes; references of another scene take part: they are not to be trusted. stability: divergence of the result
    from the trusted vote, weighted by how far the vote is trusted, how sure it is, and the probability that it is
    right; it makes trusted references count, so that labels are stable over time, and no mistake is made to last.
    """
    known = labels != IGNORE
    shares = F.one_hot(labels.where(known, 0), found.votes.shape[2]).permute(0, 3, 1, 2) * known[:, None].float()
    shares = F.avg_pool2d(shares, 4, ceil_mode=True, count_include_pad=False)
    coarse = F.avg_pool2d(shares, COARSE, ceil_mode=True, count_include_pad=False)
    vote = _vote_loss(found.votes, shares, usable, weights) + _vote_loss(found.coarse_votes, coarse, usable, weights)
    return vote, _trust_loss(found, single, shares), _stability_loss(found, logits, shares)


def _vote_loss(votes: Tensor, shares: Tensor, usable: Tensor, weights: Tensor) -> Tensor:
    shares = shares * weights[:, None, None]
    weight = shares.sum(1)[:, None] * usable[:, :, None, None]  # (B, K, h, w)
    entropy = -(shares[:, None] * (votes.float() + 1e-4).log()).sum(2) * usable[:, :, None, None]
    return mean_share(entropy.sum(), weight.sum().detach())


def _trust_loss(found: DSSAOutput, single: Tensor, shares: Tensor) -> Tensor:
    """A missing reference has no trust to judge: its vote is zero."""
    votes = found.votes.detach().float()
    there = votes.sum(2) > 0.5
    right = (shares[:, None] * votes).sum(2)
    # Where vote and frame agree there is nothing to decide.
    difference = 1 - (single.detach().float().softmax(1)[:, None] * votes).sum(2)
    weight = shares.sum(1)[:, None] * there * (0.05 + difference)
    right = right / shares.sum(1)[:, None].clamp_min(1e-6)
    trust = found.trust.float().clamp(1e-6, 1 - 1e-6)
    entropy = -(right * trust.log() + (1 - right) * (1 - trust).log())
    return mean_share((entropy * weight).sum(), weight.sum())


def _stability_loss(found: DSSAOutput, logits: Tensor, shares: Tensor) -> Tensor:
    trust = found.trust.detach().float()
    total = trust.sum(1)
    vote = (trust[:, :, None] * found.votes.detach().float()).sum(1) / total.clamp_min(1e-6)[:, None]
    # A wrong vote, and a mixed one, as at a border, is no example.
    right = (shares * vote).sum(1)
    weight = trust.square().sum(1) / total.clamp_min(1e-6) * vote.amax(1) * right
    result = logits.float().log_softmax(1)
    divergence = (vote * ((vote + 1e-4).log() - result)).sum(1)
    return mean_share((divergence * weight).sum(), weight.sum())


def consistency_loss(logits: Tensor, view_logits: Tensor, motion: Tensor) -> Tensor:
    """Jensen-Shannon divergence, in nats, of the class probabilities of a frame and its second view, where both see.

    logits, view_logits: (B, C, h, w); motion: (B, 2, 3), see `clip_plan`. Labels flicker where small movements and
    sensor noise change them; this loss trains the network to label both views alike. The gradient flows to both. Over
    several ranks, this rank's share of their mean (`distributed.mean_share`).
    """
    # A matrix product inside, of which autocast would round the places: in bfloat16 to half a position.
    with torch.autocast(motion.device.type, enabled=False):
        grid = F.affine_grid(motion, [*logits.shape], align_corners=False)
    probabilities = F.grid_sample(logits.float().softmax(1), grid, padding_mode="zeros", align_corners=False)
    seen = (grid.abs() <= 1).all(-1)  # (B, h, w)
    view_probabilities = view_logits.float().softmax(1)
    middle = ((probabilities + view_probabilities) / 2).clamp_min(1e-8).log()
    divergence = (_relative_entropy(probabilities, middle) + _relative_entropy(view_probabilities, middle)) / 2
    return mean_share((divergence * seen).sum(), seen.sum().float())


def _relative_entropy(probabilities: Tensor, log_other: Tensor) -> Tensor:
    """KL(p || q) over the classes, (B, h, w)."""
    return (probabilities * (probabilities.clamp_min(1e-8).log() - log_other)).sum(1)


def labels_at(labels: Tensor, features: Tensor) -> Tensor:
    """Labels (B, H, W) at the size of features (B, ., h, w), each position's nearest: (B, h, w) int64."""
    return F.interpolate(labels[:, None].float(), features.shape[2:], mode="nearest")[:, 0].long()


def _cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    total = F.cross_entropy(logits.float(), labels, weights, ignore_index=IGNORE, reduction="sum")
    mass = torch.where(labels == IGNORE, 0.0, weights[labels.clamp(max=len(weights) - 1)]).sum()
    return mean_share(total, mass)
