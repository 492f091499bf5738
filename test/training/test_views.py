"""Two views that agree cost nothing, wherever the second has moved to."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from sdcpc_ros.training.views import consistency_loss

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
