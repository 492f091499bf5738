"""Losses on cases with known answers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from sdcpc_ros.label_set import IGNORE
from sdcpc_ros.network import ClipOutput
from sdcpc_ros.training.losses import class_weights, segmentation_loss


def _output(logits):
    return ClipOutput(logits, logits[:, :, ::2, ::2], static=logits)


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
