"""Votes of references beside the frame's own classes."""

import pytest
import torch

from sdcpc_ros.network.votes import compare_votes, log_ratio, mix_votes, vote_support


def _probabilities(*shape: int, dim: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))).mul(3).softmax(dim)


def test_a_second_reference_without_trust_changes_nothing() -> None:
    votes, trust = _probabilities(2, 2, 5, 6, 7, dim=2), torch.rand(2, 2, 6, 7) + 0.01
    trust[:, 1] = 0
    both, shares = mix_votes(votes, trust)
    alone, share = mix_votes(votes[:, :1], trust[:, :1])
    torch.testing.assert_close(both, alone)
    torch.testing.assert_close(shares[:, :1], share)
    assert not shares[:, 1].any()


def test_the_vote_is_a_mean_weighted_by_trust() -> None:
    votes = _probabilities(1, 3, 4, 2, 2, dim=2)
    trust = torch.tensor([0.5, 0.25, 0.25]).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    vote, share = mix_votes(votes, trust)
    torch.testing.assert_close(vote, votes[:, 0] / 2 + votes[:, 1] / 4 + votes[:, 2] / 4)
    torch.testing.assert_close(share.sum(1), torch.full((1, 2, 2), 0.375))


def test_equal_votes_differ_by_nothing_and_opposite_ones_by_one() -> None:
    own = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)
    difference, confidence = compare_votes(own, torch.stack((own, own.flip(1)), 1))
    torch.testing.assert_close(difference.flatten(), torch.tensor([0.0, 1.0]), atol=1e-3, rtol=0)
    assert confidence.flatten().tolist() == [1.0, 1.0]


def test_the_ratio_has_a_gradient_where_nobody_votes_for_a_class() -> None:
    vote = torch.zeros(1, 2, 1, 1, requires_grad=True)
    ratio = log_ratio(vote, torch.full((1, 2, 1, 1), 0.5))
    ratio.sum().backward()
    assert ratio.isfinite().all() and vote.grad is not None and (vote.grad > 0).all()


@pytest.mark.parametrize(("width", "support"), [(1, 0.0), (5, 1.0)])
def test_a_vote_may_change_what_is_wide_and_not_what_is_thin(width: int, support: float) -> None:
    """A pole of one position and a wall of five, of class 1, which the vote knows; everything else is class 0."""
    own = torch.zeros(1, 2, 12, 12)
    own[:, 1, :, 4 : 4 + width] = 1
    own[:, 0] = 1 - own[:, 1]
    found = vote_support(own, own.amax(1, keepdim=True), own)
    assert found[0, 0, 6, 4 + width // 2] == support


def test_a_thin_class_that_the_vote_has_nowhere_around_is_noise() -> None:
    own, vote = torch.zeros(1, 2, 12, 12), torch.zeros(1, 2, 12, 12)
    own[:, 1, 6, 6] = 1
    own[:, 0] = 1 - own[:, 1]
    vote[:, 0] = 1
    assert vote_support(own, own.amax(1, keepdim=True), vote)[0, 0, 6, 6] == 1
