"""DSSA without weights: temporal aggregation for a segmenter that was not trained for it.

It follows `DSSA`: stage 1 finds, at stride 32, where a cell was; stage 2 gathers class probabilities at stride 8 around
that place; trusted references vote. Queries and keys are given features of unit norm. Trust is a fixed function of how
well the matched place fits, how smooth the motion around it is, and the reference's age; the vote counts as far as the
frame itself is unsure. Constants were chosen on the synthetic street.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sdcpc_ros.network.cross_frame import (
    FrameMemory,
    attend_each_reference,
    concat_channels_last,
    gather_index,
    log_probabilities,
    motion_smoothness,
    ramp,
    to_fine,
)
from sdcpc_ros.network.window_attention import gather_at
from sdcpc_ros.network.window_attention.tile_geometry import constant

#: Stride of the fine part of a memory, px.
STRIDE = 8
#: Scale of the cosines in the attention of stages 1 and 2.
_SCALES = (30.0, 100.0)
#: Weight of the relative position bias in the attention of stages 1 and 2.
_POSITION_WEIGHTS = (1.0, 0.3)
#: Trust falls by e in so many seconds.
_AGE_S = 1.0
#: The vote's largest weight, how fast it grows with the doubt 1 - p of the frame's best class, and how fast it falls
#: where something thinner than a cell is.
_MOST, _DOUBT, _DETAIL = 0.95, 4.0, 3.0


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

    def make_memory(self, fine: Tensor, coarse: Tensor, probabilities: Tensor) -> FrameMemory:
        """What a frame leaves for later ones. Unlike DSSA's, its coarse part has no class probabilities.

        fine: (B, F, h, w) features at stride 8; coarse: (B, G, h/4, w/4) at stride 32; probabilities: (B, C, h, w).
        """
        return FrameMemory(
            concat_channels_last(F.normalize(fine, dim=1), probabilities),
            concat_channels_last(F.normalize(coarse, dim=1)),
        )

    def with_change(self, memory: FrameMemory, change: Tensor) -> FrameMemory:
        """The memory of a frame, (B, ...) each, whose logits have changed by (B, C, h, w)."""
        features, own = memory.fine[:, : -self.num_classes], memory.fine[:, -self.num_classes :]
        changed = own * change.exp()
        return FrameMemory(concat_channels_last(features, changed / changed.sum(1, keepdim=True)), memory.coarse)

    def forward(self, peak: Tensor, memory: FrameMemory, references: FrameMemory, age_s: Tensor) -> Tensor:
        """The change, (B, C, h, w).

        peak: (B, 1, h, w), the probability of the best class, averaged over each cell; and memory: of this frame.
        references: the memories of K frames, (B, K, ...) each. age_s: (B, K) float, how much older than this frame each
        is, seconds; negative where missing.
        """
        haloed, smooth = self._align(memory, references, age_s >= 0)
        shifts = Shifts(haloed, self.fine_radius)
        features, own = memory.fine.contiguous().split((memory.fine.shape[1] - self.num_classes, self.num_classes), 1)
        weights, cosine = shifts.attention(features, _SCALES[1], _POSITION_WEIGHTS[1])
        trust = self._trust(cosine, smooth, age_s)
        total = trust.sum(1, keepdim=True)
        vote = shifts.weighted_sum(weights * trust, features.shape[1]) / total.clamp_min(1e-6)
        # Trusted references count by how far they are trusted, so that a poor one does not spoil a good one.
        weight = trust.square().sum(1, keepdim=True) / total.clamp_min(1e-6)
        confidence = own.amax(1, keepdim=True)
        doubt = (_DOUBT * (1 - confidence)).clamp(max=1) * (1 - _DETAIL * (peak - confidence)).clamp(0, 1)
        return _MOST * weight * doubt * (log_probabilities(vote) - log_probabilities(own))

    def _align(self, memory: FrameMemory, references: FrameMemory, valid: Tensor) -> tuple[Tensor, Tensor]:
        """The fine part of each reference, gathered where its cells at stride 32 are found in this frame, with the halo
        that `Shifts` needs: (B, K, F + C, h + 2 r, w + 2 r); and how smooth the motion of these cells is, (B, K, h/4,
        w/4) in 0..1."""
        found = attend_each_reference(
            memory.coarse * _SCALES[0],
            references.coarse,
            valid,
            radius=self.coarse_radius,
            position_weight=memory.coarse.new_full((), _POSITION_WEIGHTS[0]),
            values=references.coarse[:, :, :1],  # only the offset counts
        )
        offset = found.argmax_offset
        assert offset is not None
        index = gather_index(offset, (memory.fine.shape[2], memory.fine.shape[3])).flatten(0, 1)
        index = F.pad(index, [self.fine_radius] * 4)  # cheaper than a halo around the maps
        # One plane a channel: `Shifts` works on planes.
        haloed = gather_at(references.fine.flatten(0, 1), index).contiguous()
        return haloed.unflatten(0, tuple(valid.shape)), motion_smoothness(offset.to(memory.fine.dtype))

    def _trust(self, cosine: Tensor, smooth: Tensor, age_s: Tensor) -> Tensor:
        """How far each reference is believed, (B, K, h, w) in 0..1. cosine: (B, K, h, w).

        A cell is trusted by its fit and its motion. After a cut single cells fit by chance, so the frame counts too.
        """
        fit = torch.minimum(cosine, F.avg_pool2d(cosine, 3, 1, 1, count_include_pad=False))
        whole = ramp(fit.mean((2, 3)), self.ranges.frame) * ramp(smooth.mean((2, 3)), self.ranges.motion)
        whole = whole * (-age_s / _AGE_S).exp() * (age_s >= 0)
        smooth = to_fine(smooth, (cosine.shape[2], cosine.shape[3]))
        return ramp(fit, self.ranges.cell) * smooth.square() * whole[:, :, None, None]


class Shifts:
    """Window attention of a small radius, in two steps: its weights, and later the values under weights of one's own.

    As sums of shifted planes, which are quickest on a CPU with so few offsets.
    """

    def __init__(self, maps: Tensor, radius: int) -> None:
        """maps: (B, K, F + ., h + 2 * radius, w + 2 * radius), whose first F channels are the keys; others are values.
        The halo may hold any of the map's positions: a bias excludes it. The window has sides of 2 * radius + 1."""
        self._maps, self._radius = maps, radius
        self._size = maps.shape[3] - 2 * radius, maps.shape[4] - 2 * radius
        side = range(2 * radius + 1)
        self._corners = [(top, left) for top in side for left in side]

    def attention(self, query: Tensor, scale: float, position_weight: float) -> tuple[Tensor, Tensor]:
        """The weights of each offset, (offsets, B, K, h, w), one softmax a reference; and the products of the query,
        (B, F, h, w), with what these make of the keys, (B, K, h, w). scale, position_weight: see `window_attention`."""
        keys = slice(0, query.shape[1])
        products = torch.stack([(query[:, None] * self._at(corner, keys)).sum(2) for corner in self._corners])
        bias = constant(_position_bias, query, self._radius, position_weight, *self._size, query.dtype, query.device)
        weights = torch.add(bias, products, alpha=scale).softmax(0)
        return weights, (weights * products).sum(0)

    def weighted_sum(self, weights: Tensor, first: int) -> Tensor:
        """The channels from `first` on, (B, ., h, w), summed with weights (offsets, B, K, h, w)."""
        total = torch.zeros_like(self._at((0, 0), slice(first, None))[:, 0])
        for corner, of_corner in zip(self._corners, weights):
            values = self._at(corner, slice(first, None))
            for reference in range(values.shape[1]):
                total.addcmul_(values[:, reference], of_corner[:, reference, None])
        return total

    def _at(self, corner: tuple[int, int], channels: slice) -> Tensor:
        (top, left), (height, width) = corner, self._size
        return self._maps[:, :, channels, top : top + height, left : left + width]


def _position_bias(
    radius: int, weight: float, height: int, width: int, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Added to the logits of each offset, (offsets, 1, 1, h, w): weight * n(o), or very little beyond the frame."""
    y, x = torch.arange(height, device=device)[:, None], torch.arange(width, device=device)
    parts = []
    for dy, dx in product(range(-radius, radius + 1), repeat=2):
        near = weight * sum(math.cos(math.pi * step / (radius + 1)) for step in (dy, dx))
        inside = (y + dy >= 0) & (y + dy < height) & (x + dx >= 0) & (x + dx < width)
        parts.append(torch.where(inside, near, -1e4))
    return torch.stack(parts)[:, None, None].to(dtype)


def standardised(features: Tensor) -> Tensor:
    """(B, C, h, w) with mean 0 and variance 1 of each channel over the frame: cosines of such features spread over
    -1..1 whatever the encoder."""
    mean = features.mean((2, 3), keepdim=True)
    variance = (features - mean).square().mean((2, 3), keepdim=True)
    return (features - mean) * (variance + 1e-5).rsqrt()


def averaged(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps (B, C, H', W') averaged to `size`; repeated where they are coarser."""
    factors = {-(-length // side) for length, side in zip(maps.shape[2:], size)}
    if len(factors) == 1:
        factor = factors.pop()
        if all(-(-length // factor) == side for length, side in zip(maps.shape[2:], size)):
            return _pooled(maps, factor)
    return F.adaptive_avg_pool2d(maps, size)


def _pooled(maps: Tensor, factor: int) -> Tensor:
    """Cells of factor x factor averaged, sides rounded up."""
    if factor == 2 and maps.shape[2] % 2 == maps.shape[3] % 2 == 0:
        rows = maps[:, :, ::2] + maps[:, :, 1::2]  # several times as fast on a CPU as avg_pool2d
        return (rows[..., ::2] + rows[..., 1::2]) / 4
    return maps if factor == 1 else F.avg_pool2d(maps, factor, ceil_mode=True, count_include_pad=False)
