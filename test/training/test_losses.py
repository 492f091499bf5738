"""Losses on cases with known answers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sdcpc_ros.label_set import IGNORE
from sdcpc_ros.network import ClipOutput
from sdcpc_ros.network.dssa import DSSAOutput
from sdcpc_ros.training.losses import class_weights, jaccard_loss, segmentation_loss, temporal_losses


def _output(logits):
    return ClipOutput(logits, logits[:, :, ::2, ::2], static=logits, single=logits)


def _found(votes, trust=None):
    """What DSSA found. votes: (B, K, C, h, w), in both stages; trust: (B, K), everywhere the same."""
    trust = torch.full(votes.shape[:2], 0.5) if trust is None else torch.as_tensor(trust)
    maps = trust[:, :, None, None].expand(-1, -1, *votes.shape[3:])
    return DSSAOutput(torch.zeros_like(votes[:, 0]), maps, votes, votes.mean((3, 4), keepdim=True))


def _votes(*probabilities, clips=1):
    """Of two classes, for 32 x 32 px; probabilities: of class 0, of each reference; None for a missing one."""
    pairs = torch.tensor([[0.0, 0.0] if p is None else [p, 1 - p] for p in probabilities])
    return pairs[None, :, :, None, None].expand(clips, -1, -1, 4, 4).clone()


def test_indifference_costs_the_logarithm_of_the_classes():
    labels = torch.randint(0, 4, (2, 16, 16), generator=torch.Generator().manual_seed(0))
    loss = segmentation_loss(_output(torch.zeros(2, 4, 4, 4)), labels, torch.tensor([0.5, 1, 2, 3]), 0.0)
    assert loss.item() == pytest.approx(math.log(4), rel=1e-5)
    with_auxiliary = segmentation_loss(_output(torch.zeros(2, 4, 4, 4)), labels, torch.ones(4), 0.5)
    assert with_auxiliary.item() == pytest.approx(1.5 * math.log(4), rel=1e-5)
    # Where references took part, the frame by itself counts too.
    clip = _output(torch.zeros(2, 4, 4, 4))._replace(aggregation=_found(torch.full((2, 1, 4, 1, 1), 0.25)))
    assert segmentation_loss(clip, labels, torch.ones(4), 0.5).item() == pytest.approx(2 * math.log(4), rel=1e-5)


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


ZEROS = torch.zeros(1, 32, 32, dtype=torch.long)
LOGITS = torch.zeros(1, 2, 8, 8)


def test_a_vote_costs_the_cross_entropy_with_the_share_of_each_class():
    found = _found(_votes(0.8, 0.5))
    vote, _, _ = temporal_losses(found, LOGITS, ZEROS, torch.tensor([[True, False]]))
    assert vote.item() == pytest.approx(-2 * math.log(0.8), rel=1e-3)  # one for each stage
    vote, _, _ = temporal_losses(found, LOGITS, ZEROS, torch.tensor([[True, True]]))
    assert vote.item() == pytest.approx(-(math.log(0.8) + math.log(0.5)), rel=1e-3)
    quarter = ZEROS.clone()
    quarter[:, :, ::4] = 1  # of every cell
    vote, _, _ = temporal_losses(found, LOGITS, quarter, torch.tensor([[True, False]]))
    assert vote.item() == pytest.approx(-2 * (0.75 * math.log(0.8) + 0.25 * math.log(0.2)), rel=1e-3)


def test_void_counts_for_nothing_in_a_vote():
    half = ZEROS.clone()
    half[:, 16:] = IGNORE
    votes = _votes(0.8)
    votes[:, :, :, 2:] = votes[:, :, :, 2:].flip(2)  # wrong where nothing is known
    found = _found(votes)._replace(coarse_votes=_votes(0.8)[..., :1, :1])
    vote, trust, _ = temporal_losses(found, LOGITS, half, torch.ones(1, 1, dtype=torch.bool))
    assert vote.item() == pytest.approx(-2 * math.log(0.8), rel=1e-3)
    assert trust.item() == pytest.approx(math.log(2), rel=1e-4)


def test_trust_should_be_the_probability_that_the_vote_is_right():
    def loss(trust, *votes, usable=(True,)):
        return temporal_losses(_found(_votes(*votes), [trust]), LOGITS, ZEROS, torch.tensor([usable]))[1].item()

    assert loss([0.6], 0.8) == pytest.approx(-(0.8 * math.log(0.6) + 0.2 * math.log(0.4)), rel=1e-4)
    assert loss([0.8], 0.8) < min(loss([0.7], 0.8), loss([0.9], 0.8))
    # References of another scene take part: not to be trusted is what there is to learn from them.
    assert loss([0.6], 0.8, usable=(False,)) == loss([0.6], 0.8)
    # A missing one does not.
    assert loss([0.6, 0.0], 0.8, None, usable=(True, False)) == pytest.approx(loss([0.6], 0.8), rel=1e-5)


def test_stability_is_the_divergence_from_the_trusted_vote():
    usable = torch.ones(2, 1, dtype=torch.bool)
    labels, divergence = ZEROS.expand(2, -1, -1), 0.8 * math.log(1.6) + 0.2 * math.log(0.4)
    same = torch.tensor([0.8, 0.2]).log()[None, :, None, None].expand(1, -1, 8, 8)
    logits = torch.cat((same, LOGITS))  # the first clip agrees with its vote
    for trust in ([[0.5], [0.5]], [[0.1], [0.9]]):
        stability = temporal_losses(_found(_votes(0.8, clips=2), trust), logits, labels, usable)[2]
        share = trust[1][0] / (trust[0][0] + trust[1][0])
        assert stability.item() == pytest.approx(share * divergence, rel=1e-2)


def test_an_undecided_vote_counts_less_for_stability():
    usable = torch.ones(2, 1, dtype=torch.bool)
    votes = torch.cat((_votes(0.8), _votes(0.6)))
    stability = temporal_losses(_found(votes), LOGITS.expand(2, -1, -1, -1), ZEROS.expand(2, -1, -1), usable)[2]
    divergences = [p * math.log(2 * p) + (1 - p) * math.log(2 * (1 - p)) for p in (0.8, 0.6)]
    expected = (0.64 * divergences[0] + 0.36 * divergences[1]) / (0.64 + 0.36)
    assert stability.item() == pytest.approx(expected, rel=1e-2)


def test_the_losses_teach_what_they_are_for_and_nothing_else():
    votes, logits = _votes(0.8).requires_grad_(), LOGITS.clone().requires_grad_()
    trust = torch.full((1, 1, 4, 4), 0.6, requires_grad=True)
    found = DSSAOutput(torch.zeros(1, 2, 4, 4), trust, votes, votes.mean((3, 4), keepdim=True))
    losses = temporal_losses(found, logits, ZEROS, torch.ones(1, 1, dtype=torch.bool))
    for loss, learns in zip(losses, (votes, trust, logits)):
        gradients = torch.autograd.grad(loss, (votes, trust, logits), retain_graph=True, allow_unused=True)
        taught = [
            x for x, gradient in zip((votes, trust, logits), gradients) if gradient is not None and gradient.any()
        ]
        assert len(taught) == 1 and taught[0] is learns


@pytest.mark.parametrize(
    ("labels", "votes", "usable"),
    [(torch.full_like(ZEROS, IGNORE), _votes(0.8, 0.3), [True, True]), (ZEROS, _votes(None, None), [False, False])],
    ids=["all void", "no references"],
)
def test_where_there_is_nothing_to_learn_it_costs_nothing(labels, votes, usable):
    votes = votes.requires_grad_()
    trust = [[0.5, 0.5]] if usable[0] else [[0.0, 0.0]]
    logits = LOGITS.clone().requires_grad_()
    losses = temporal_losses(_found(votes, trust), logits, labels, torch.tensor([usable]))
    assert [loss.item() for loss in losses[:2]] == [0, 0]
    sum(losses).backward()
    assert votes.grad.isfinite().all() and logits.grad.isfinite().all()
    if not usable[0]:
        assert losses[2].item() == 0


def test_a_missing_reference_gets_no_gradient():
    votes = _votes(0.2, None).requires_grad_()
    vote, _, _ = temporal_losses(_found(votes, [[0.5, 0.0]]), LOGITS, ZEROS, torch.tensor([[True, False]]))
    vote.backward()
    assert votes.grad[:, 0].any() and not votes.grad[:, 1].any()
