"""Losses on logits. Over several ranks each is this rank's share of the joined batch's (`network.ranks.mean_share`)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sdcpc_ros.label_set import IGNORE
from sdcpc_ros.network import ClipOutput
from sdcpc_ros.network.dynamic_alignment import COARSE
from sdcpc_ros.network.ranks import joined_sum, mean_share


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
        if output.votes:
            loss = loss + auxiliary_weight * _logits_loss(output.alone, labels, weights, jaccard_weight)
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
    intersection, truth, predicted = joined_sum(torch.stack((intersection, truth, predicted)))
    iou = intersection / (truth + predicted - intersection).clamp_min(1e-6)
    present = truth > 0
    return ((1 - iou) * present).sum() / present.sum().clamp_min(1)


def vote_loss(votes: Sequence[Tensor], labels: Tensor, valid: Tensor) -> Tensor:
    """Cross-entropy of what the references stand for with what is there now: it teaches attention where things were.

    votes: (B, C, ., .) at strides 32 and 8 (`dynamic_alignment.DynamicOutput`), each against the share that classes
    have in its cells. labels: (B, H, W) int64, IGNORE where void. valid: (B, K) bool; without a reference there is no
    vote to judge.
    """
    known = (labels != IGNORE) & valid.any(1)[:, None, None]
    shares = F.one_hot(labels.where(known, 0), votes[0].shape[1]).permute(0, 3, 1, 2) * known[:, None].float()
    shares = F.avg_pool2d(shares, 8, ceil_mode=True, count_include_pad=False)
    loss = shares.new_zeros(())
    for vote in votes:
        if vote.shape[2:] != shares.shape[2:]:  # at stride 32
            wanted = F.avg_pool2d(shares, COARSE, ceil_mode=True, count_include_pad=False)
        else:
            wanted = shares
        loss = loss + mean_share(-(wanted * (vote.float() + 1e-4).log()).sum(), wanted.sum().detach())
    return loss


def labels_at(labels: Tensor, features: Tensor) -> Tensor:
    """Labels (B, H, W) at the size of features (B, ., h, w), each position's nearest: (B, h, w) int64."""
    return F.interpolate(labels[:, None].float(), features.shape[2:], mode="nearest")[:, 0].long()


def _cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    total = F.cross_entropy(logits.float(), labels, weights, ignore_index=IGNORE, reduction="sum")
    mass = torch.where(labels == IGNORE, 0.0, weights[labels.clamp(max=len(weights) - 1)]).sum()
    return mean_share(total, mass)
