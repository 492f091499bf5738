"""Losses on cases with known answers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sdcpc_ros.labels.label_set import IGNORE
from sdcpc_ros.network import ClipOutput
from sdcpc_ros.network.cross_frame import COARSE
from sdcpc_ros.network.dssa import DSSAOutput
from sdcpc_ros.training.losses import class_weights, consistency_loss, jaccard_loss, segmentation_loss, temporal_losses


def _output(logits):
    return ClipOutput(logits, logits[:, :, ::2, ::2], static=logits, single=logits)


def _found(votes, trust=None):
    """What DSSA found. votes: (B, K, C, h, w), averaged in the first stage; trust: (B, K), everywhere the same."""
    trust = torch.full(votes.shape[:2], 0.5) if trust is None else torch.as_tensor(trust)
    maps = trust[:, :, None, None].expand(-1, -1, *votes.shape[3:])
    return DSSAOutput(torch.zeros_like(votes[:, 0]), maps, votes, _coarse(votes), torch.ones(*votes.shape[:2], 2))


def _coarse(votes):
    """(B, K, C, h, w), from stride 4 to stride 16."""
    return F.avg_pool2d(votes.flatten(0, 1), COARSE, ceil_mode=True).unflatten(0, votes.shape[:2])


def _votes(*probabilities, clips=1):
    """Of two classes, for 32 x 32 px; probabilities: of class 0, of each reference; None for a missing one."""
    pairs = torch.tensor([[0.0, 0.0] if p is None else [p, 1 - p] for p in probabilities])
    return pairs[None, :, :, None, None].expand(clips, -1, -1, 8, 8).clone()


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


def _losses(found, labels, usable, logits=LOGITS, single=LOGITS, weights=(1.0, 1.0)):
    return temporal_losses(found, logits, single, labels, torch.as_tensor(usable), torch.tensor(weights))


def _logits(*probabilities):
    """Of two classes, (clips, 2, 8, 8); probabilities: of class 0, of each clip."""
    pairs = torch.tensor([[p, 1 - p] for p in probabilities])
    return pairs.log()[:, :, None, None].expand(-1, -1, 8, 8)


def test_a_vote_costs_the_cross_entropy_with_the_share_of_each_class():
    found = _found(_votes(0.8, 0.5))
    vote, _, _ = _losses(found, ZEROS, [[True, False]])
    assert vote.item() == pytest.approx(-2 * math.log(0.8), rel=1e-3)  # one for each stage
    vote, _, _ = _losses(found, ZEROS, [[True, True]])
    assert vote.item() == pytest.approx(-(math.log(0.8) + math.log(0.5)), rel=1e-3)
    quarter = ZEROS.clone()
    quarter[:, :, ::4] = 1  # of every cell
    vote, _, _ = _losses(found, quarter, [[True, False]])
    assert vote.item() == pytest.approx(-2 * (0.75 * math.log(0.8) + 0.25 * math.log(0.2)), rel=1e-3)


def test_rare_classes_weigh_more_in_a_vote():
    """Three quarters of the pixels are of a class of weight 1, the others of one of weight 3: both count alike."""
    quarter = ZEROS.clone()
    quarter[:, :, 24:] = 1
    vote, trust, _ = _losses(_found(_votes(0.8)), quarter, [[True]], weights=(1.0, 3.0))
    assert vote.item() == pytest.approx(-(math.log(0.8) + math.log(0.2)), rel=1e-3)
    assert trust == _losses(_found(_votes(0.8)), quarter, [[True]])[1]


def test_a_vote_is_judged_at_each_of_its_places():
    """Of 4 x 4 px in the second stage: a column of another class is voted for as wide as it is, or costs."""
    column = ZEROS.clone()
    column[:, :, 8:12] = 1
    votes = _votes(1.0)
    blurred, _, _ = _losses(_found(votes)._replace(coarse_votes=votes[..., :2, :2]), column, [[True]])
    votes[..., 2] = votes[..., 2].flip(2)
    sharp, _, _ = _losses(_found(votes)._replace(coarse_votes=_votes(1.0)[..., :2, :2]), column, [[True]])
    # An eighth of the places, by the logarithm of the smallest probability.
    assert (blurred - sharp).item() == pytest.approx(-math.log(1e-4) / 8, rel=1e-2)


def test_void_counts_for_nothing_in_a_vote():
    half = ZEROS.clone()
    half[:, 16:] = IGNORE
    votes = _votes(0.8)
    votes[:, :, :, 4:] = votes[:, :, :, 4:].flip(2)  # wrong where nothing is known
    vote, trust, stability = _losses(_found(votes), half, [[True]])
    assert vote.item() == pytest.approx(-2 * math.log(0.8), rel=1e-3)
    assert trust.item() == pytest.approx(math.log(2), rel=1e-4)
    assert stability.item() == pytest.approx(_losses(_found(_votes(0.8)), ZEROS, [[True]])[2].item(), rel=1e-4)


def test_trust_should_be_the_probability_that_the_vote_is_right():
    def loss(trust, *votes, usable=(True,)):
        return _losses(_found(_votes(*votes), [trust]), ZEROS, [usable])[1].item()

    assert loss([0.6], 0.8) == pytest.approx(-(0.8 * math.log(0.6) + 0.2 * math.log(0.4)), rel=1e-4)
    assert loss([0.8], 0.8) < min(loss([0.7], 0.8), loss([0.9], 0.8))
    # References of another scene take part: not to be trusted is what there is to learn from them.
    assert loss([0.6], 0.8, usable=(False,)) == loss([0.6], 0.8)
    # A missing one does not.
    assert loss([0.6, 0.0], 0.8, None, usable=(True, False)) == pytest.approx(loss([0.6], 0.8), rel=1e-5)


def test_trust_is_learnt_where_frame_and_vote_differ():
    """Each of two clips counts by the probability that its frame and its vote name different classes, plus 0.05."""
    votes = torch.cat((_votes(0.9), _votes(0.3)))
    single = _logits(0.8, 0.8)
    found = _found(votes, [[0.6], [0.6]])
    trust = _losses(found, ZEROS.expand(2, -1, -1), [[True], [True]], LOGITS.expand(2, -1, -1, -1), single)[1]
    costs = [-(p * math.log(0.6) + (1 - p) * math.log(0.4)) for p in (0.9, 0.3)]
    counts = [0.05 + 1 - (0.8 * p + 0.2 * (1 - p)) for p in (0.9, 0.3)]
    expected = sum(cost * count for cost, count in zip(costs, counts)) / sum(counts)
    assert trust.item() == pytest.approx(expected, rel=1e-3)


def test_stability_is_the_divergence_from_the_trusted_vote():
    labels, divergence = ZEROS.expand(2, -1, -1), 0.8 * math.log(1.6) + 0.2 * math.log(0.4)
    logits = _logits(0.8, 0.5)  # the first clip agrees with its vote
    for trust in ([[0.5], [0.5]], [[0.1], [0.9]]):
        found = _found(_votes(0.8, clips=2), trust)
        stability = _losses(found, labels, [[True], [True]], logits, LOGITS.expand(2, -1, -1, -1))[2]
        share = trust[1][0] / (trust[0][0] + trust[1][0])
        assert stability.item() == pytest.approx(share * divergence, rel=1e-2)


def test_a_wrong_and_an_undecided_vote_count_less_for_stability():
    """Each by its confidence, and by the probability that it gives to what is there."""
    chances = (0.8, 0.6, 0.1)
    found = _found(torch.cat([_votes(p) for p in chances]))
    logits = LOGITS.expand(3, -1, -1, -1)
    stability = _losses(found, ZEROS.expand(3, -1, -1), torch.ones(3, 1, dtype=torch.bool), logits, logits)[2]
    divergences = [p * math.log(2 * p) + (1 - p) * math.log(2 * (1 - p)) for p in chances]
    counts = [max(p, 1 - p) * p for p in chances]
    expected = sum(divergence * count for divergence, count in zip(divergences, counts)) / sum(counts)
    assert stability.item() == pytest.approx(expected, rel=1e-2)


def test_the_losses_teach_what_they_are_for_and_nothing_else():
    votes, logits, single = (part.clone().requires_grad_() for part in (_votes(0.8), LOGITS, _logits(0.7)))
    trust = torch.full((1, 1, 8, 8), 0.6, requires_grad=True)
    inputs = (votes, trust, logits, single)
    found = DSSAOutput(torch.zeros(1, 2, 8, 8), trust, votes, _coarse(votes), torch.ones(1, 1, 2))
    for loss, learns in zip(_losses(found, ZEROS, [[True]], logits, single), inputs):
        gradients = torch.autograd.grad(loss, inputs, retain_graph=True, allow_unused=True)
        taught = [x for x, gradient in zip(inputs, gradients) if gradient is not None and gradient.any()]
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
    losses = _losses(_found(votes, trust), labels, [usable], logits)
    assert [loss.item() for loss in losses] == [0, 0, 0]
    sum(losses).backward()
    assert votes.grad.isfinite().all() and logits.grad.isfinite().all()


def test_a_missing_reference_gets_no_gradient():
    votes = _votes(0.2, None).requires_grad_()
    vote, _, _ = _losses(_found(votes, [[0.5, 0.0]]), ZEROS, [[True, False]])
    vote.backward()
    assert votes.grad[:, 0].any() and not votes.grad[:, 1].any()


IDENTITY = torch.tensor([[[1.0, 0, 0], [0, 1, 0]]])


def test_agreement_costs_nothing_and_contradiction_the_logarithm_of_two() -> None:
    certain = F.one_hot(torch.randint(0, 4, (2, 8, 8), generator=torch.Generator().manual_seed(0)), 4)
    logits = certain.permute(0, 3, 1, 2).float() * 50
    motion = IDENTITY.expand(2, -1, -1)
    assert consistency_loss(logits, logits, motion).item() == pytest.approx(0, abs=1e-5)
    assert consistency_loss(logits, logits.roll(1, 1), motion).item() == pytest.approx(math.log(2), rel=1e-4)


def test_a_view_that_is_labelled_as_it_has_moved_costs_nothing() -> None:
    torch.manual_seed(0)
    smooth = F.interpolate(torch.randn(1, 4, 3, 3) * 3, (32, 32), mode="bicubic")
    motion = torch.tensor([[[1.0, 0, 0.125], [0, 1, -0.0625]]])  # 2 cells and 1
    moved = smooth.roll((1, -2), (2, 3))
    inner = consistency_loss(smooth[:, :, 4:-4, 4:-4], moved[:, :, 4:-4, 4:-4], motion * torch.tensor([1, 1, 32 / 24]))
    assert inner.item() < 1e-3 < consistency_loss(smooth, smooth.flip(3), IDENTITY).item()


def test_gradients_reach_both_views_and_are_finite_where_nothing_is_seen() -> None:
    a, b = (torch.randn(1, 3, 4, 4).requires_grad_() for _ in range(2))
    consistency_loss(a, b, IDENTITY).backward()
    assert a.grad is not None and b.grad is not None and a.grad.abs().sum() > 0 and b.grad.abs().sum() > 0
    far = torch.tensor([[[1.0, 0, 5], [0, 1, 0]]])
    loss = consistency_loss(a, b, far)
    loss.backward()
    assert loss.item() == 0 and a.grad.isfinite().all() and b.grad.isfinite().all()
