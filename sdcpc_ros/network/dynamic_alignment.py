"""DSSA, dynamic semantic selective aggregation: what the reference frames add, in two stages.

Cen et al. (2025) state a two-stage, selective cross-frame aggregation driven by cross-frame static perceptual
differences, computed by window attention. The form below is inferred:

    stage 1, at stride 32: a wide window finds, for each reference, where this cell was then, and how well it fits;
    stage 2, at stride 8: a narrow window around that place gathers the detail;
    vote: what the attended places were taken for is what this place should be taken for too, unless they differ;
    selection: only where frames disagree or the static perception is unsure does the result change anything.

The result is a change of class logits at stride 8. All that a frame contributes to later ones depends on that frame
alone (`FrameMemory`), so it is computed once.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sdcpc_ros.network.config import SDCPCConfig
from sdcpc_ros.network.window_attention import window_attention

#: Stage 1 works on cells of COARSE x COARSE stride-8 positions, that is at stride 32.
COARSE = 4
#: Channels of keys and queries that say where they are (`_positions`).
POSITION_CHANNELS = 4
_DIFFERENCE_SIGN = {"distrust": -1.0, "seek": 1.0, "none": 0.0}
#: Probabilities well below this are not told apart: a vote is about the classes that are in question.
_LEAST_PROBABILITY = 1e-4
_GATE_WIDTH = 32


class FrameMemory(NamedTuple):
    """What one frame contributes to later frames; with a reference axis K after B when it holds several frames."""

    key: Tensor  #: (B, d - 4, h, w) at stride 8
    value: Tensor  #: (B, d, h, w)
    coarse_key: Tensor  #: (B, d - 4, h/4, w/4) at stride 32, rounded up
    coarse_value: Tensor  #: (B, d, h/4, w/4)
    #: (B, C, h, w), square roots of the frame's class probabilities, alone or, if `recurrent`, with its references
    probability_root: Tensor


def to_probability_root(logits: Tensor) -> Tensor:
    """Square roots of the class probabilities of logits (B, C, h, w)."""
    # exp of half the log instead of sqrt: its gradient at zero is finite.
    return (0.5 * logits.log_softmax(1)).exp()


def memory_shapes(config: SDCPCConfig, size: tuple[int, int]) -> tuple[tuple[int, int, int], ...]:
    """The (C, h, w) of each part of the `FrameMemory` that a frame of `size` (height, width), px, leaves."""
    fine = (-(-size[0] // 8), -(-size[1] // 8))
    coarse = (-(-fine[0] // COARSE), -(-fine[1] // COARSE))
    value, classes = config.key_dim, config.num_classes
    key = value - POSITION_CHANNELS
    return (key, *fine), (value, *fine), (key, *coarse), (value, *coarse), (classes, *fine)


class DynamicOutput(NamedTuple):
    """What `DynamicAggregation` finds."""

    change: Tensor  #: (B, C, h, w), to be added to the logits of the frame as it stands alone
    votes: tuple[Tensor, ...]  #: class probabilities that the references stand for, (B, C, ., .) at strides 32 and 8


class DynamicAggregation(nn.Module):
    """Static features S, the encoder's stride-8 level and the memory of reference frames -> a change of class logits.

    Freshly initialised the change is zero: an untrained temporal path changes nothing.
    """

    def __init__(self, config: SDCPCConfig, level_channels: int) -> None:
        """level_channels: of the encoder's level at stride 8, by which places are told apart better than by S alone."""
        super().__init__()
        width, inner = config.embed_dim + level_channels, config.key_dim
        content = inner - POSITION_CHANNELS
        self.config = config
        self.norm = nn.BatchNorm2d(width)
        self.query = nn.Conv2d(width, content, 1)
        self.key_value = nn.Conv2d(width, content + inner, 1)
        self.coarse_query = nn.Conv2d(width, content, 1)
        self.coarse_key_value = nn.Conv2d(width, content + inner, 1)
        #: How strongly a difference counts in each stage; kept positive, the sign is `difference_role`.
        self.difference_weight = nn.Parameter(torch.ones(2))
        #: How strongly nearness counts in each stage, kept positive: most of the world has moved little.
        self.position_weight = nn.Parameter(torch.ones(2))
        open_gate = nn.Conv2d(_GATE_WIDTH, 2, 1)
        for parameter in open_gate.parameters():
            nn.init.zeros_(parameter)
        self.gate = nn.Sequential(nn.Conv2d(width + inner + 4, _GATE_WIDTH, 1), nn.ReLU(inplace=True), open_gate)
        self.classify = nn.Conv2d(inner, config.num_classes, 1)

    def contribute(self, static: Tensor, level: Tensor, logits: Tensor) -> FrameMemory:
        """What a frame leaves for later ones.

        static: (B, D, h, w). level: (B, C2, h, w), the encoder's. logits: (B, C, h, w), of the frame by itself.
        """
        normed = self._normed(static, level)
        content = self.query.out_channels
        key, value = self.key_value(normed).tensor_split((content,), 1)
        coarse_key, coarse_value = self.coarse_key_value(_to_coarse(normed)).tensor_split((content,), 1)
        return FrameMemory(key, value, coarse_key, coarse_value, to_probability_root(logits))

    def forward(
        self, static: Tensor, level: Tensor, probability_root: Tensor, references: FrameMemory, valid: Tensor
    ) -> DynamicOutput:
        """Aggregate.

        static (B, D, h, w), level (B, C2, h, w), probability_root (B, C, h, w): of this frame. references: the memories
        of K frames, (B, K, ...) each. valid: (B, K) bool; missing references are masked, and without any nothing
        changes.
        """
        size = (static.shape[2], static.shape[3])
        normed = self._normed(static, level)
        sign = _DIFFERENCE_SIGN[self.config.difference_role]
        coarse_weight, fine_weight = sign * F.softplus(self.difference_weight)
        inner = self.config.key_dim

        coarse_positions = _positions(references.coarse_key, self.config.coarse_radius)
        coarse_classes = _to_coarse(references.probability_root.square().flatten(0, 1)).unflatten(0, valid.shape)
        coarse = window_attention(
            self._placed_query(self.coarse_query(_to_coarse(normed)), coarse_positions, 0),
            _placed_keys(references.coarse_key, coarse_positions),
            _join(references.coarse_value, coarse_classes),
            radius=self.config.coarse_radius,
            valid=valid,
            bias=coarse_weight * _to_coarse(_difference(probability_root, references.probability_root)),
        )
        assert coarse.offset is not None
        upsampled = F.interpolate(coarse.output, scale_factor=COARSE, mode="bilinear", align_corners=False)
        upsampled = upsampled[:, :, : size[0], : size[1]]
        aligned = _shift(references, coarse.offset, size)
        difference = _difference(probability_root, aligned.probability_root)  # (B, K, h, w)
        votes: tuple[Tensor, ...] = (coarse.output[:, inner:],)
        aggregate, vote = upsampled[:, :inner], upsampled[:, inner:]
        if self.config.dynamic_stages > 1:
            positions = _positions(aligned.key, self.config.fine_radius)
            fit = _from_coarse(coarse.mass, size).clamp_min(1e-4).log()
            fine = window_attention(
                self._placed_query(self.query(normed), positions, 1),
                _placed_keys(aligned.key, positions),
                _join(aligned.value, aligned.probability_root.square()),
                radius=self.config.fine_radius,
                valid=valid,
                bias=fit + fine_weight * difference,
                with_offset=False,
            )
            vote = fine.output[:, inner:]
            votes = (*votes, vote)
            aggregate = aggregate + fine.output[:, :inner]

        own = probability_root.square()
        confidence = own.amax(1, keepdim=True)
        least, most = _extremes(difference, valid)
        dissent = 1 - (probability_root * vote.clamp_min(0).add(1e-8).sqrt()).sum(1, keepdim=True).clamp(max=1)
        # A map of one channel lies both ways in memory; left so, it would turn the whole concatenation channels-first.
        hints = torch.cat((least, most, dissent, confidence), 1).contiguous(memory_format=torch.channels_last)
        gates = self.gate(torch.cat((normed, aggregate, hints), 1)).tanh()
        change = gates[:, 1:] * self.classify(aggregate)
        if self.config.class_vote:
            weight = gates[:, :1]
            if self.config.vote_floor > 0:
                # What is plainly something else now is not held to what it was, nor are thin things, whose vote is mixed.
                floor = self.config.vote_floor * (1 - dissent) * vote.amax(1, keepdim=True)
                weight = torch.maximum(weight, floor)
            change = change + weight * (_log(vote) - _log(own))
        if self.config.selection:
            disagree = most > self.config.selection_difference
            unsure = confidence < self.config.selection_confidence
            change = change * (disagree | unsure)
        return DynamicOutput(change * valid.any(1)[:, None, None, None], votes)

    def _normed(self, static: Tensor, level: Tensor) -> Tensor:
        return self.norm(torch.cat((static, level), 1))

    def _placed_query(self, query: Tensor, positions: Tensor, stage: int) -> Tensor:
        """A query (B, d - 4, h, w) with its position, (B, d, h, w), such that the logit gains weight * nearness."""
        weight = F.softplus(self.position_weight[stage]) * math.sqrt(self.config.key_dim)  # attention divides by it
        return torch.cat((query, (weight * positions).expand(len(query), -1, -1, -1)), 1)


def _positions(like: Tensor, radius: int) -> Tensor:
    """(4, h, w): where a position is, as points on two circles.

    The dot product of two depends on their offset alone, and falls from 2 at none as it grows to `radius` in each
    direction: nearness, without a table that window attention would have to look up.
    """
    frequency = math.pi / (radius + 1)
    y = frequency * torch.arange(like.shape[-2], dtype=like.dtype, device=like.device)[:, None].expand(like.shape[-2:])
    x = frequency * torch.arange(like.shape[-1], dtype=like.dtype, device=like.device).expand(like.shape[-2:])
    return torch.stack((y.cos(), y.sin(), x.cos(), x.sin()), -1).permute(2, 0, 1)  # channels-last in memory


def _placed_keys(keys: Tensor, positions: Tensor) -> Tensor:
    """Keys (B, K, d - 4, h, w) with their positions: (B, K, d, h, w)."""
    return _join(keys, positions.expand(*keys.shape[:2], -1, -1, -1))


def _join(*maps: Tensor) -> Tensor:
    """(B, K, C, h, w) each, joined along C, channels-last in memory, as window attention reads them fastest."""
    return torch.cat([part.permute(0, 1, 3, 4, 2) for part in maps], -1).permute(0, 1, 4, 2, 3)


def _log(probabilities: Tensor) -> Tensor:
    return (probabilities + _LEAST_PROBABILITY).log()  # a clamp would have no gradient where nobody votes for a class


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
