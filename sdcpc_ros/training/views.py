"""A second view of a frame: what the camera would see a moment later. The two should be labelled alike.

What flickers in video is what changes with a small movement and fresh sensor noise. A labelled frame, moved a little
and made noisy anew, shows a network just that, whether or not its true neighbours were recorded.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sdcpc_ros.label_set import IGNORE
from sdcpc_ros.network.ranks import mean_share

_SHIFT = 0.04  #: share of the image's side
_ZOOM = 0.03
_ROTATION_DEG = 1.0
_NOISE = 6.0  #: grey levels
_LIGHT = 0.05


def random_motion(rng: np.random.Generator) -> Tensor:
    """A (2, 3) affine map, as `torch.nn.functional.affine_grid` takes it, close to the identity."""
    angle = math.radians(rng.uniform(-_ROTATION_DEG, _ROTATION_DEG))
    zoom = 1 + rng.uniform(-_ZOOM, _ZOOM)
    x, y = rng.uniform(-2 * _SHIFT, 2 * _SHIFT, 2)  # the grid runs from -1 to 1
    cos, sin = zoom * math.cos(angle), zoom * math.sin(angle)
    return torch.tensor([[cos, -sin, x], [sin, cos, y]], dtype=torch.float32)


def second_view(image: Tensor, labels: Tensor, motion: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Image (3, H, W) uint8 and labels (H, W) int64, moved, with new noise and light; what comes into view is void."""
    grid = F.affine_grid(motion[None], [1, 1, *labels.shape], align_corners=False)
    moved = F.grid_sample(image[None].float(), grid, mode="bilinear", padding_mode="reflection", align_corners=False)[0]
    noise = torch.from_numpy(rng.standard_normal(moved.shape, np.float32)) * rng.uniform(0, _NOISE)
    view = (moved * (1 + rng.uniform(-_LIGHT, _LIGHT)) + noise).round().clamp(0, 255).to(torch.uint8)
    # One more than the class, so that what lies outside, 0, can be told from class 0.
    shifted = (
        F.grid_sample((labels + 1).float()[None, None], grid, mode="nearest", align_corners=False)[0, 0].long() - 1
    )
    return view, torch.where(shifted < 0, IGNORE, shifted)


def consistency_loss(logits: Tensor, view_logits: Tensor, motion: Tensor) -> Tensor:
    """Jensen-Shannon divergence, in nats, between what a frame and its second view are taken for, where both see.

    logits, view_logits: (B, C, h, w); motion: (B, 2, 3). The gradient flows to both: neither is the teacher. Over
    several ranks, this rank's share of their mean (`network.ranks.mean_share`).
    """
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
