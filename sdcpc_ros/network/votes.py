"""Votes: class probabilities that references have at the matched places, beside the frame's own."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sdcpc_ros.network.cross_frame import COARSE, ramp, to_fine
from sdcpc_ros.network.optical_flow import window_counts, window_sums

#: Probabilities well below this are not told apart: a vote is about the classes that are in question.
_MIN_PROBABILITY = 1e-4
#: Share of the 5 x 5 positions around that the frame's own class fills: up to the first a vote changes nothing, from
#: the second on all.
_THIN = (0.25, 0.45)
#: Highest probability of the frame's own class in the vote, in the cell of stage 1 and those around it: up to the first
#: the class is noise, from the second on it is not.
_UNKNOWN = (0.05, 0.15)


def compare_votes(own: Tensor, votes: Tensor) -> tuple[Tensor, Tensor]:
    """How far each vote differs from the frame's own classes, and its highest probability: (B, K, h, w), 0..1.

    own: (B, C, h, w). votes: (B, K, C, h, w).
    """
    return 1 - _overlap(own[:, None], votes), votes.amax(2)


def _overlap(a: Tensor, b: Tensor) -> Tensor:
    """The Bhattacharyya coefficient of class probabilities (B, K, C, h, w), in 0..1: 1 minus the static perceptual
    difference of the paper (that it takes this form is inferred). The small number keeps gradients at zero finite."""
    return (a * b + 1e-8).sqrt().sum(2).clamp(max=1)


def mix_votes(votes: Tensor, trust: Tensor) -> tuple[Tensor, Tensor]:
    """The vote of K references, (B, C, h, w), and the share of each in it, (B, K, h, w), which sums to the trust in it.

    votes: (B, K, C, h, w). trust: (B, K, h, w).
    """
    if trust.shape[1] == 1:
        return votes[:, 0], trust
    total = trust.sum(1, keepdim=True).clamp_min(1e-6)
    vote = (trust[..., None] * votes.movedim(2, -1)).sum(1).movedim(-1, 1) / total
    # Trusted references count by how far they are trusted, so that a poor one does not spoil a good one.
    return vote, trust.square() / total


def log_ratio(a: Tensor, b: Tensor) -> Tensor:
    """log(a / b) of probabilities, bounded below. A clamp would have no gradient where nobody votes for a class."""
    return ((a + _MIN_PROBABILITY) / (b + _MIN_PROBABILITY)).log()


def vote_support(own: Tensor, confidence: Tensor, vote: Tensor) -> Tensor:
    """How far the vote may change each position, (B, 1, h, w), by how wide the frame's own class is there: 0 where it
    fills less than a quarter of the 5 x 5 positions around, as a pole does, 1 where it fills nearly half, as at a
    border. A vote would erase what is thin. A class that the vote has nowhere in this cell of stage 1 and those around
    it is noise, however thin.

    own, vote: (B, C, h, w) class probabilities; confidence: the maximum of own, (B, 1, h, w).
    """
    # Compilers may round the two sides differently, so equality would not do.
    best = (own >= confidence - 1e-3).to(own.dtype)
    share = (window_sums(own) * best).sum(1, keepdim=True) / window_counts(own)
    nearby = F.max_pool2d(F.max_pool2d(vote, COARSE, ceil_mode=True), 3, 1, 1)
    known = (to_fine(nearby, (vote.shape[2], vote.shape[3])) * best).sum(1, keepdim=True)
    return torch.maximum(ramp(share, _THIN), 1 - ramp(known, _UNKNOWN))
