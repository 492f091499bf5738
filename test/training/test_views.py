"""The second view: labels move with the image, and two views that agree cost nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sdcpc_ros.label_set import IGNORE
from sdcpc_ros.training.views import consistency_loss, random_motion, second_view

IDENTITY = torch.tensor([[[1.0, 0, 0], [0, 1, 0]]])


def test_motions_are_small_and_not_nothing() -> None:
    rng = np.random.default_rng(0)
    motions = torch.stack([random_motion(rng) for _ in range(64)])
    away = (motions - IDENTITY).abs()
    assert motions.shape == (64, 2, 3)
    assert away.amax() <= 0.08 and (away.amax((1, 2)) > 0.003).all()


def test_labels_move_with_the_image() -> None:
    """A shift by a quarter of the width: both lose their left part, and what comes in is void."""
    columns = torch.arange(64).expand(48, 64)
    motion = torch.tensor([[1.0, 0, 0.5], [0, 1, 0]])  # half of the range -1..1, which is the whole width
    image = (columns * 2).expand(3, -1, -1).to(torch.uint8)
    view, labels = second_view(image, columns % 11, motion, np.random.default_rng(0))
    assert view.dtype == torch.uint8 and view.shape == image.shape
    assert torch.equal(labels[:, :48], columns[:, 16:] % 11)
    assert (labels[:, 48:] == IGNORE).all()
    seen = view.float().mean((0, 1))[:48]
    assert (seen - torch.arange(16, 64) * 2).abs().mean() < 8  # but for noise and light


def test_void_stays_void() -> None:
    void = torch.full((32, 32), IGNORE)
    _, labels = second_view(torch.zeros(3, 32, 32, dtype=torch.uint8), void, IDENTITY[0], np.random.default_rng(0))
    assert (labels == IGNORE).all()


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
