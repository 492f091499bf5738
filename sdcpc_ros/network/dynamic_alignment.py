"""DSSA, dynamic semantic selective aggregation: what the reference frames add, in two stages.

Cen et al. (2025) state a two-stage, selective cross-frame aggregation driven by cross-frame static perceptual
differences, computed by window attention. The form below is inferred:

    stage 1, at stride 32: a wide window finds, for each reference, where this cell was then, and how well it fits;
    stage 2, at stride 8: a narrow window around that place gathers the detail;
    selection: only where frames disagree or the static head is unsure does the result change anything.

All that a frame contributes to later ones depends on that frame alone (`FrameMemory`), so it is computed once.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sdcpc_ros.network.config import SDCPCConfig
from sdcpc_ros.network.window_attention import window_attention

#: Stage 1 works on cells of COARSE x COARSE stride-8 positions, that is at stride 32.
COARSE = 4
_DIFFERENCE_SIGN = {"distrust": -1.0, "seek": 1.0, "none": 0.0}


class FrameMemory(NamedTuple):
    """What one frame contributes to later frames; with a reference axis K after B when it holds several frames."""

    key: Tensor  #: (B, d, h, w) at stride 8
    value: Tensor  #: (B, d, h, w)
    coarse_key: Tensor  #: (B, d, h/4, w/4) at stride 32, rounded up
    coarse_value: Tensor  #: (B, d, h/4, w/4)
    probability_root: Tensor  #: (B, C, h, w), square roots of the static class probabilities


def memory_shapes(config: SDCPCConfig, size: tuple[int, int]) -> tuple[tuple[int, int, int], ...]:
    """The (C, h, w) of each part of the `FrameMemory` that a frame of `size` (height, width), px, leaves."""
    fine = (-(-size[0] // 8), -(-size[1] // 8))
    coarse = (-(-fine[0] // COARSE), -(-fine[1] // COARSE))
    key, classes = config.key_dim, config.num_classes
    return (key, *fine), (key, *fine), (key, *coarse), (key, *coarse), (classes, *fine)


class DynamicAggregation(nn.Module):
    """Static features S and the memory of reference frames -> aggregated features O, both (B, D, h, w).

    Freshly initialised, O = S: an untrained temporal path changes nothing.
    """

    def __init__(self, config: SDCPCConfig) -> None:
        super().__init__()
        width, inner = config.embed_dim, config.key_dim
        self.config = config
        self.norm = nn.BatchNorm2d(width)
        self.query = nn.Conv2d(width, inner, 1)
        self.key_value = nn.Conv2d(width, 2 * inner, 1)
        self.coarse_query = nn.Conv2d(width, inner, 1)
        self.coarse_key_value = nn.Conv2d(width, 2 * inner, 1)
        #: How strongly a difference counts in each stage; kept positive, the sign is `difference_role`.
        self.difference_weight = nn.Parameter(torch.ones(2))
        self.gate = nn.Conv2d(width + inner + 3, width, 1)
        self.project = nn.Conv2d(inner, width, 1, bias=False)
        nn.init.zeros_(self.project.weight)

    def contribute(self, static: Tensor, static_logits: Tensor) -> FrameMemory:
        """What a frame with static features (B, D, h, w) and static logits (B, C, h, w) leaves for later ones."""
        normed = self.norm(static)
        key, value = self.key_value(normed).chunk(2, 1)
        coarse_key, coarse_value = self.coarse_key_value(_to_coarse(normed)).chunk(2, 1)
        # exp of half the log instead of sqrt: its gradient at zero is finite.
        root = (0.5 * static_logits.log_softmax(1)).exp()
        return FrameMemory(key, value, coarse_key, coarse_value, root)

    def forward(self, static: Tensor, probability_root: Tensor, references: FrameMemory, valid: Tensor) -> Tensor:
        """Aggregate.

        static: (B, D, h, w) of this frame; probability_root: (B, C, h, w), its own. references: the memories of K
        frames, (B, K, ...) each. valid: (B, K) bool; missing references are masked, and without any O = S.
        """
        size = (static.shape[2], static.shape[3])
        normed = self.norm(static)
        sign = _DIFFERENCE_SIGN[self.config.difference_role]
        coarse_weight, fine_weight = sign * F.softplus(self.difference_weight)

        coarse = window_attention(
            self.coarse_query(_to_coarse(normed)),
            references.coarse_key,
            references.coarse_value,
            radius=self.config.coarse_radius,
            valid=valid,
            bias=coarse_weight * _to_coarse(_difference(probability_root, references.probability_root)),
        )
        assert coarse.offset is not None
        aligned = _shift(references, coarse.offset, size)
        difference = _difference(probability_root, aligned.probability_root)  # (B, K, h, w)
        fit = _from_coarse(coarse.mass, size).clamp_min(1e-4).log()
        fine = window_attention(
            self.query(normed),
            aligned.key,
            aligned.value,
            radius=self.config.fine_radius,
            valid=valid,
            bias=fit + fine_weight * difference,
            with_offset=False,
        )
        upsampled = F.interpolate(coarse.output, scale_factor=COARSE, mode="bilinear", align_corners=False)
        aggregate = fine.output + upsampled[:, :, : size[0], : size[1]]

        least, most = _extremes(difference, valid)
        confidence = probability_root.amax(1, keepdim=True).square()
        # A map of one channel lies both ways in memory; left so, it would turn the whole concatenation channels-first.
        hints = torch.cat((least, most, confidence), 1).contiguous(memory_format=torch.channels_last)
        gate = self.gate(torch.cat((normed, aggregate, hints), 1)).sigmoid()
        update = gate * self.project(aggregate)
        if self.config.selection:
            disagree = most > self.config.selection_difference
            unsure = confidence < self.config.selection_confidence
            update = update * (disagree | unsure)
        return static + update


def _difference(root: Tensor, reference_roots: Tensor) -> Tensor:
    """The class-level static perceptual difference D_k = 1 - <sqrt P_t, sqrt P_k>, in [0, 1].

    root (B, C, h, w), reference_roots (B, K, C, h, w) -> (B, K, h, w). The Bhattacharyya form is inferred.
    """
    return 1 - (root[:, None] * reference_roots).sum(2).clamp(max=1)


def _extremes(difference: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """The least and the largest difference over the valid references, (B, 1, h, w) each; 1 and 0 without any."""
    missing = ~valid[:, :, None, None]
    return (
        difference.masked_fill(missing, 1.0).amin(1, keepdim=True),
        difference.masked_fill(missing, 0.0).amax(1, keepdim=True),
    )


def _to_coarse(x: Tensor) -> Tensor:
    """Stride 8 to stride 32; cells cut by the border average what lies inside."""
    return F.avg_pool2d(x, COARSE, ceil_mode=True, count_include_pad=False)


def _from_coarse(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Stride 32 to stride 8: every position takes its cell's value."""
    return x.repeat_interleave(COARSE, -2).repeat_interleave(COARSE, -1)[..., : size[0], : size[1]]


def _shift(references: FrameMemory, offset: Tensor, size: tuple[int, int]) -> FrameMemory:
    """The stride-8 memories, each moved by its coarse offset (B, K, 2, h/4, w/4) so that it lies over this frame."""
    height, width = size
    dy, dx = (_from_coarse(offset, size) * COARSE).unbind(2)  # (B, K, h, w)
    y = (torch.arange(height, device=offset.device)[:, None] + dy).clamp(0, height - 1)
    x = (torch.arange(width, device=offset.device) + dx).clamp(0, width - 1)
    batch, count = offset.shape[:2]
    frame = torch.arange(batch * count, device=offset.device).view(batch, count, 1, 1) * (height * width)
    index = (frame + y * width + x).flatten().int()  # which gathers faster than int64

    def gather(features: Tensor) -> Tensor:
        """(B, K, C, h, w), rows of C moved whole: fast where channels are last in memory, as they come out too."""
        rows = features.permute(0, 1, 3, 4, 2).flatten(0, 3).index_select(0, index)
        return rows.view(batch, count, height, width, -1).permute(0, 1, 4, 2, 3)

    return references._replace(
        key=gather(references.key),
        value=gather(references.value),
        probability_root=gather(references.probability_root),
    )
