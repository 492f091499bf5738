"""A second view of a frame: what the camera would see a moment later. The two should be labelled alike.

What flickers in video is what changes with a small movement and fresh sensor noise. A labelled frame, moved a little
and made noisy anew, shows a network just that, whether or not its true neighbours were recorded.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from sdcpc_ros.label_set import IGNORE

_SHIFT = 0.04  #: share of the image's side
_ZOOM = 0.03
_ROTATION_DEG = 1.0
_NOISE = 6.0  #: grey levels
_LIGHT = 0.05


def random_motion(batch: int) -> Tensor:
    """(B, 2, 3) affine maps, as `torch.nn.functional.affine_grid` takes them, close to the identity."""
    angle = torch.empty(batch).uniform_(-_ROTATION_DEG, _ROTATION_DEG) * (math.pi / 180)
    zoom = 1 + torch.empty(batch).uniform_(-_ZOOM, _ZOOM)
    shift = torch.empty(batch, 2).uniform_(-2 * _SHIFT, 2 * _SHIFT)  # the grid runs from -1 to 1
    cos, sin = zoom * angle.cos(), zoom * angle.sin()
    return torch.stack((torch.stack((cos, -sin, shift[:, 0]), 1), torch.stack((sin, cos, shift[:, 1]), 1)), 1)


def second_view(images: Tensor, labels: Tensor, motion: Tensor) -> tuple[Tensor, Tensor]:
    """Images (B, 3, H, W) float in 0..255 and labels (B, H, W) int64, moved; what comes into view is void."""
    batch = len(images)
    grid = F.affine_grid(motion, [batch, 1, *labels.shape[1:]], align_corners=False)
    moved = F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    light = 1 + torch.empty(batch, 1, 1, 1).uniform_(-_LIGHT, _LIGHT).to(images)
    noise = torch.randn_like(moved) * torch.empty(batch, 1, 1, 1).uniform_(0, _NOISE).to(images)
    # One more than the class, so that what lies outside, 0, can be told from class 0.
    shifted = (
        F.grid_sample((labels + 1).to(images)[:, None], grid, mode="nearest", align_corners=False)[:, 0].long() - 1
    )
    return (moved * light + noise).clamp(0, 255), torch.where(shifted < 0, IGNORE, shifted)


def consistency_loss(logits: Tensor, view_logits: Tensor, motion: Tensor) -> Tensor:
    """Jensen-Shannon divergence, in nats, between what a frame and its second view are taken for, where both see.

    logits, view_logits: (B, C, h, w). The gradient flows to both: neither is the teacher.
    """
    grid = F.affine_grid(motion, [*logits.shape], align_corners=False)
    probabilities = F.grid_sample(logits.float().softmax(1), grid, padding_mode="zeros", align_corners=False)
    seen = (grid.abs() <= 1).all(-1)  # (B, h, w)
    view_probabilities = view_logits.float().softmax(1)
    middle = ((probabilities + view_probabilities) / 2).clamp_min(1e-8).log()
    divergence = (_relative_entropy(probabilities, middle) + _relative_entropy(view_probabilities, middle)) / 2
    return (divergence * seen).sum() / seen.sum().clamp_min(1)


def _relative_entropy(probabilities: Tensor, log_other: Tensor) -> Tensor:
    """KL(p || q) over the classes, (B, h, w)."""
    return (probabilities * (probabilities.clamp_min(1e-8).log() - log_other)).sum(1)
