"""DSSA without weights: temporal aggregation for a segmenter that was not trained for it.

It follows `DSSA`: stage 1 finds, at stride 32, where a cell was; stage 2 gathers features and class probabilities at
stride 8 around that place; trusted references vote. Queries and keys are given features of unit norm. Trust is a fixed
function of how well the matched place fits, how smooth the motion around it is, and the reference's age; the vote
counts as far as the frame itself is unsure. Constants were chosen on the synthetic street.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sdcpc_ros.network.cross_frame import (
    COARSE,
    FrameMemory,
    attend_each_reference,
    concat_channels_last,
    gather_index,
    log_probabilities,
    motion_smoothness,
    ramp,
)

#: Stride of the fine part of a memory, px.
STRIDE = 8
#: Scale of the cosines in the attention of stages 1 and 2.
_SCALES = (30.0, 100.0)
#: Weight of nearness in the attention of stages 1 and 2.
_NEARNESS = (1.0, 0.3)
#: Trust falls by e in so many seconds.
_AGE_S = 1.0
#: The vote's largest weight, how fast it grows with the doubt 1 - p of the frame's best class, and how fast it falls
#: where something thinner than a cell is.
_MOST, _DOUBT, _DETAIL = 0.95, 4.0, 2.0


@dataclass(frozen=True)
class FitRanges:
    """Where trust goes from 0 to 1, for one kind of features."""

    cell: tuple[float, float]  #: of the cosine with the matched place
    frame: tuple[float, float]  #: of the mean cosine over the frame
    motion: tuple[float, float]  #: of the mean smoothness of motion over the frame


#: For `image_patches`.
PATCHES = FitRanges(cell=(0.3, 0.95), frame=(0.90, 0.94), motion=(0.78, 0.88))
#: For the levels of an encoder, see `standardised`.
FEATURES = FitRanges(cell=(0.4, 0.8), frame=(0.54, 0.62), motion=(0.90, 0.97))


class ParameterFreeDSSA(nn.Module):
    """The logits of a frame and the memories of its references -> a change of class logits at stride 8.

    Without any reference, or where none is trusted, the change is zero.
    """

    def __init__(self, num_classes: int, ranges: FitRanges, *, coarse_radius: int = 4, fine_radius: int = 1) -> None:
        """coarse_radius, fine_radius: reach of the windows at strides 32 and 8, cells."""
        super().__init__()
        self.num_classes, self.ranges = num_classes, ranges
        self.coarse_radius, self.fine_radius = coarse_radius, fine_radius

    def make_memory(self, fine: Tensor, coarse: Tensor, logits: Tensor) -> FrameMemory:
        """What a frame leaves for later ones. Unlike DSSA's, its coarse part has no class probabilities.

        fine: (B, F, h, w) features at stride 8; coarse: (B, G, h/4, w/4) at stride 32; logits: (B, C, H', W').
        """
        features = F.normalize(fine, dim=1)
        probabilities = _resized(logits.softmax(1), (fine.shape[2], fine.shape[3]))
        return FrameMemory(
            concat_channels_last(features, probabilities), concat_channels_last(F.normalize(coarse, dim=1))
        )

    def with_classes(self, memory: FrameMemory, logits: Tensor) -> FrameMemory:
        """The memory of a frame, (B, ...) each, with the classes of other logits, (B, C, H', W')."""
        features = memory.fine[:, : -self.num_classes]
        probabilities = _resized(logits.softmax(1), (memory.fine.shape[2], memory.fine.shape[3]))
        return FrameMemory(concat_channels_last(features, probabilities), memory.coarse)

    def forward(self, logits: Tensor, memory: FrameMemory, references: FrameMemory, age_s: Tensor) -> Tensor:
        """The change, (B, C, h, w).

        logits (B, C, H', W') at any stride up to 8, and memory: of this frame. references: the memories of K frames,
        (B, K, ...) each. age_s: (B, K) float, how much older than this frame each is, seconds; negative where missing.
        """
        size, count = (memory.fine.shape[2], memory.fine.shape[3]), memory.fine.shape[1] - self.num_classes
        matched, smooth = self._match(memory, references, age_s >= 0, size)
        own, votes = memory.fine[:, count:], matched[:, :, count:]
        cosine = (memory.fine[:, None, :count] * matched[:, :, :count]).sum(2)
        trust = self._trust(cosine, smooth, age_s)
        total = trust.sum(1, keepdim=True)
        vote = (trust[:, :, None] * votes).sum(1) / total.clamp_min(1e-6)
        # Trusted references count by how far they are trusted, so that a poor one does not spoil a good one.
        weight = trust.square().sum(1, keepdim=True) / total.clamp_min(1e-6)
        confidence = own.amax(1, keepdim=True)
        detail = _resized(logits.softmax(1).amax(1, keepdim=True), size) - confidence
        doubt = (_DOUBT * (1 - confidence)).clamp(max=1) * (1 - _DETAIL * detail).clamp(0, 1)
        return _MOST * weight * doubt * (log_probabilities(vote) - log_probabilities(own))

    def _match(
        self, memory: FrameMemory, references: FrameMemory, valid: Tensor, size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """What each reference holds at the matched place, (B, K, F + C, h, w), and how smooth the motion of each cell
        at stride 32 is, (B, K, h/4, w/4) in 0..1."""
        found = attend_each_reference(
            memory.coarse * _SCALES[0],
            references.coarse,
            valid,
            radius=self.coarse_radius,
            nearness=memory.coarse.new_full((), _NEARNESS[0]),
            values=references.coarse[:, :, :1],  # only the offset counts
        )
        assert found.offset is not None
        offset = found.offset.unflatten(0, tuple(valid.shape))[:, :, 0]
        features = memory.fine[:, : -self.num_classes]
        matched = attend_each_reference(
            features * _SCALES[1],
            references.fine,
            valid,
            radius=self.fine_radius,
            nearness=features.new_full((), _NEARNESS[1]),
            source=gather_index(offset, size),
        )
        return matched.output.unflatten(0, tuple(valid.shape)), motion_smoothness(offset.to(features.dtype))

    def _trust(self, cosine: Tensor, smooth: Tensor, age_s: Tensor) -> Tensor:
        """How far each reference is believed, (B, K, h, w) in 0..1. cosine: (B, K, h, w).

        A cell is trusted by its fit and its motion. After a cut single cells fit by chance, so the frame counts too.
        """
        fit = torch.minimum(cosine, F.avg_pool2d(cosine, 3, 1, 1, count_include_pad=False))
        whole = ramp(fit.mean((2, 3)), self.ranges.frame) * ramp(smooth.mean((2, 3)), self.ranges.motion)
        whole = whole * (-age_s / _AGE_S).exp() * (age_s >= 0)
        height, width = cosine.shape[2:]
        smooth = smooth.repeat_interleave(COARSE, 2).repeat_interleave(COARSE, 3)[:, :, :height, :width]
        return ramp(fit, self.ranges.cell) * smooth.square() * whole[:, :, None, None]


def standardised(features: Tensor) -> Tensor:
    """(B, C, h, w) with mean 0 and variance 1 of each channel over the frame: cosines of such features spread over
    -1..1 whatever the encoder."""
    mean = features.mean((2, 3), keepdim=True)
    variance = (features - mean).square().mean((2, 3), keepdim=True)
    return (features - mean) * (variance + 1e-5).rsqrt()


def _resized(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps (B, C, H', W') averaged to `size`; repeated where they are coarser."""
    factors = {-(-length // side) for length, side in zip(maps.shape[2:], size)}
    if len(factors) == 1:
        factor = factors.pop()
        if all(-(-length // factor) == side for length, side in zip(maps.shape[2:], size)):
            return maps if factor == 1 else F.avg_pool2d(maps, factor, ceil_mode=True, count_include_pad=False)
    return F.adaptive_avg_pool2d(maps, size)
