"""Agreement between two views of a frame: what the camera sees now and would see a moment later.

Labels flicker in video where a small movement and new sensor noise change them. A second view of a labelled frame
(`clip_plan`) shows a network just that, whether or not the frame's true neighbours were recorded.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from sdcpc_ros.training.ranks import mean_share


def consistency_loss(logits: Tensor, view_logits: Tensor, motion: Tensor) -> Tensor:
    """Jensen-Shannon divergence, in nats, between what a frame and its second view are taken for, where both see.

    logits, view_logits: (B, C, h, w); motion: (B, 2, 3). The gradient flows to both: neither is the teacher. Over
    several ranks, this rank's share of their mean (`training.ranks.mean_share`).
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
