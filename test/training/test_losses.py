"""Losses on cases with known answers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sdcpc_ros.label_set import IGNORE
from sdcpc_ros.network import ClipOutput
from sdcpc_ros.training.losses import class_weights, jaccard_loss, segmentation_loss, vote_loss


def _output(logits):
    return ClipOutput(logits, logits[:, :, ::2, ::2], static=logits, alone=logits)


def test_indifference_costs_the_logarithm_of_the_classes():
    labels = torch.randint(0, 4, (2, 16, 16), generator=torch.Generator().manual_seed(0))
    loss = segmentation_loss(_output(torch.zeros(2, 4, 4, 4)), labels, torch.tensor([0.5, 1, 2, 3]), 0.0)
    assert loss.item() == pytest.approx(math.log(4), rel=1e-5)
    with_auxiliary = segmentation_loss(_output(torch.zeros(2, 4, 4, 4)), labels, torch.ones(4), 0.5)
    assert with_auxiliary.item() == pytest.approx(1.5 * math.log(4), rel=1e-5)


def test_void_pixels_do_not_count():
    logits = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.zeros(1, 4, 4, dtype=torch.long)
    labels[:, 2:] = IGNORE
    before = segmentation_loss(_output(logits), labels, torch.ones(3), 0.0)
    changed = logits.clone()
    changed[:, :, 2:] += torch.tensor([9.0, -9, 0]).view(1, 3, 1, 1)
    assert segmentation_loss(_output(changed), labels, torch.ones(3), 0.0).item() == pytest.approx(before.item())


def test_a_batch_without_labels_costs_nothing_and_breaks_nothing():
    logits = torch.zeros(1, 3, 4, 4, requires_grad=True)
    loss = segmentation_loss(_output(logits), torch.full((1, 8, 8), IGNORE), torch.ones(3), 0.5)
    loss.backward()
    assert loss.item() == 0 and logits.grad.isfinite().all()


def test_rare_classes_weigh_more_within_bounds():
    weights = class_weights(np.array([0.5, 0.3, 0.19, 0.01, 0.0]), 0.5)
    assert weights[0] < weights[1] < weights[2] < weights[3]
    assert weights.min() >= 0.3 and weights.max() <= 4
    assert torch.equal(class_weights(np.array([0.9, 0.1]), 0.0), torch.ones(2))


def _votes(labels, classes=4):
    """What references would stand for that had the truth: the shares of classes in cells of 8 and 32 px."""
    shares = F.one_hot(labels, classes).permute(0, 3, 1, 2).float()
    return F.avg_pool2d(shares, 32), F.avg_pool2d(shares, 8)


def test_a_vote_costs_least_when_it_is_what_is_there():
    labels = torch.randint(0, 4, (2, 64, 96), generator=torch.Generator().manual_seed(0))
    labels = labels[:, ::16, ::16].repeat_interleave(16, 1).repeat_interleave(16, 2)
    valid = torch.ones(2, 3, dtype=torch.bool)
    right = _votes(labels)
    wrong = tuple(vote.roll(1, 1) for vote in right)
    indifferent = tuple(torch.full_like(vote, 0.25) for vote in right)
    costs = [vote_loss(votes, labels, valid).item() for votes in (right, indifferent, wrong)]
    assert costs == sorted(costs) and costs[0] < costs[1] < costs[2]
    assert costs[1] == pytest.approx(2 * np.log(4), rel=1e-3)  # one for each stage


def test_a_vote_without_references_or_labels_costs_nothing():
    labels = torch.zeros(2, 64, 96, dtype=torch.int64)
    votes = _votes(labels)
    wrong = tuple(vote.roll(1, 1).requires_grad_() for vote in votes)
    valid = torch.tensor([[False, False], [True, False]])
    assert vote_loss(wrong, torch.full_like(labels, IGNORE), torch.ones_like(valid)).item() == 0
    loss = vote_loss(wrong, labels, valid)
    loss.backward()
    assert loss.item() > 0
    for vote in wrong:
        assert not vote.grad[0].any() and vote.grad[1].any()


def test_the_jaccard_loss_is_one_minus_the_mean_iou_of_decisions():
    labels = torch.tensor([[[0, 0, 1, 1], [0, 0, 1, IGNORE]]])
    decided = torch.tensor([[[0, 0, 0, 1], [0, 2, 1, 2]]])
    logits = 50.0 * F.one_hot(decided, 4).permute(0, 3, 1, 2)
    # class 0: 3 of 5; class 1: 2 of 3; classes 2 and 3 are not there, and void counts for nothing
    assert jaccard_loss(logits, labels).item() == pytest.approx(1 - (3 / 5 + 2 / 3) / 2, abs=1e-5)
    assert jaccard_loss(logits, torch.full_like(labels, IGNORE)).item() == 0


def test_the_jaccard_loss_has_a_gradient_that_improves_it():
    labels = torch.randint(0, 3, (2, 8, 8), generator=torch.Generator().manual_seed(0))
    logits = torch.zeros(2, 3, 8, 8, requires_grad=True)
    before = jaccard_loss(logits, labels)
    before.backward()
    assert jaccard_loss(logits.detach() - 50 * logits.grad, labels).item() < before.item()
