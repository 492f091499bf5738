"""DSSA, dynamic semantic selective aggregation: what the reference frames add to a frame, in two stages.

Cen et al. (2025) state a two-stage, selective cross-frame aggregation driven by cross-frame static perceptual
differences, computed by window attention. The form below is inferred:

    stage 1, at stride 32: a wide window finds, for each reference, where this cell was;
    stage 2, at stride 8: a narrow window around that place gathers the reference's features and class probabilities;
    trust: how far each reference is believed at each position, from the appearance of the matched place, the
        class-level difference and the reference's age;
    vote: the trusted class probabilities of the references, mixed with the frame's own.

The result is a change of class logits at stride 8. A reference whose matched place looks different is not trusted, so
after a cut, in a fast turn or at a low frame rate the frame keeps the classes that it has by itself.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sdcpc_ros.network.config import SDCPCConfig
from sdcpc_ros.network.cross_frame import (
    COARSE,
    FrameMemory,
    attend_each_reference,
    concat_channels_last,
    memory_sizes,
)
from sdcpc_ros.network.cross_frame import gather_index as _gather_index
from sdcpc_ros.network.cross_frame import log_probabilities as _log
from sdcpc_ros.network.cross_frame import overlap as _overlap
from sdcpc_ros.network.cross_frame import to_coarse as _to_coarse
from sdcpc_ros.network.window_attention import WindowAttention

__all__ = ["COARSE", "DSSA", "DSSAOutput", "FrameMemory", "concat_channels_last", "memory_shapes"]

#: Window attention adds four channels to keys and queries for its position term: together they make key_dim.
POSITION_CHANNELS = 4
#: Ages of references that are told apart, seconds: 1/60 s to 4 s.
AGE_RANGE_S = (1 / 60, 4.0)
_GATE_WIDTH = 32
_TRUST_WIDTH = 16


def memory_shapes(config: SDCPCConfig, size: tuple[int, int]) -> tuple[tuple[int, int, int], ...]:
    """The (C, h, w) of each part of the `FrameMemory` that a frame of `size` (height, width), px, leaves."""
    fine, coarse = memory_sizes(size)
    channels = config.key_dim - POSITION_CHANNELS + config.num_classes
    return (channels, *fine), (channels, *coarse)


class DSSAOutput(NamedTuple):
    """What `DSSA` returns. The last three are for training."""

    change: Tensor  #: (B, C, h, w), to be added to the logits of the frame by itself
    trust: Tensor  #: (B, K, h, w) in 0..1, of each reference at each position; 0 where a reference is missing
    votes: Tensor  #: (B, K, C, h, w), class probabilities of each reference at the matched place, stage 2
    coarse_votes: Tensor  #: (B, K, C, h/4, w/4), the same in stage 1


class DSSA(nn.Module):
    """The context of a frame and the memories of its references -> a change of class logits.

    The context is static features S concatenated with the encoder's level at stride 8, which tells places apart better
    than S alone. Freshly initialised, the change is zero: an untrained temporal path changes nothing.
    """

    def __init__(self, config: SDCPCConfig, level_channels: int) -> None:
        """level_channels: of the encoder's level at stride 8."""
        super().__init__()
        width, self.features = config.embed_dim + level_channels, config.key_dim - POSITION_CHANNELS
        self.config = config
        self.norm: nn.Module = nn.BatchNorm2d(width)  #: of the context; see `fold_norm`
        self.key = nn.Conv2d(width, self.features, 1)
        self.coarse_key = nn.Conv2d(width, self.features, 1)
        #: Logits of the attention: log of the scale of cosines, and the weight of nearness, of each stage.
        self.log_scale = nn.Parameter(torch.full((2,), math.log(16.0)))
        self.position_weight = nn.Parameter(torch.ones(2))
        #: Trust sees how well a reference fits, and nothing of what the frame shows: it cannot memorise scenes.
        self.trust = nn.Sequential(
            nn.Conv2d(_TRUST_INPUTS, _TRUST_WIDTH, 1), nn.ReLU(inplace=True), nn.Conv2d(_TRUST_WIDTH, 1, 1)
        )
        open_gate = nn.Conv2d(_GATE_WIDTH, 1, 1)
        for parameter in open_gate.parameters():
            nn.init.zeros_(parameter)
        self.gate = nn.Sequential(nn.Conv2d(width + _GATE_INPUTS, _GATE_WIDTH, 1), nn.ReLU(inplace=True), open_gate)

    def make_memory(self, context: Tensor, logits: Tensor) -> FrameMemory:
        """What a frame leaves for later ones. context: (B, D + C2, h, w). logits: (B, C, h, w), of it by itself."""
        normed = self.norm(context)
        keys = F.normalize(self.key(normed), dim=1)
        coarse_keys = F.normalize(self.coarse_key(_to_coarse(normed)), dim=1)
        return _join(keys, coarse_keys, logits)

    def with_classes(self, memory: FrameMemory, logits: Tensor) -> FrameMemory:
        """The memory of a frame, (B, ...) each, with the classes of other logits, (B, C, h, w)."""
        return _join(memory.fine[:, : self.features], memory.coarse[:, : self.features], logits)

    def forward(
        self, context: Tensor, logits: Tensor, memory: FrameMemory, references: FrameMemory, age_s: Tensor
    ) -> DSSAOutput:
        """Aggregate.

        context (B, D + C2, h, w), logits (B, C, H/4, W/4) and memory: of this frame. references: the memories of K
        frames, (B, K, ...) each. age_s: (B, K) float, how much older than this frame each reference is, seconds;
        negative for a missing reference, which takes no part. Without any reference nothing changes.
        """
        size, valid = (context.shape[2], context.shape[3]), age_s >= 0
        coarse_votes, source = self._match(memory.coarse, references.coarse, valid, size)
        matched = self._attend(memory.fine, references.fine, valid, 1, source)
        own = memory.fine[:, self.features :]
        votes, hints = matched[:, :, self.features :], self._fit(memory.fine, matched, age_s)
        trust = self.trust(hints.flatten(0, 1)).sigmoid().unflatten(0, age_s.shape)[:, :, 0]
        trust = trust * valid[:, :, None, None]
        total = trust.sum(1, keepdim=True)
        vote = (trust[:, :, None] * votes).sum(1) / total.clamp_min(1e-6)
        # Trusted references count by how far they are trusted, so that a poor one does not spoil a good one.
        weight = trust.square().sum(1, keepdim=True) / total.clamp_min(1e-6)
        weight = weight * self._gate(context, torch.cat((weight, _detail(logits, own)), 1), own, vote)
        return DSSAOutput(weight * (_log(vote) - _log(own)), trust, votes, coarse_votes)

    def _match(self, query: Tensor, references: Tensor, valid: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Stage 1: (B, K, C, h/4, w/4) votes, and the index into each reference's stride-8 map, (B, K, h, w)."""
        batch, count = valid.shape
        found = self._window(query, references, valid, 0, self.config.coarse_radius, None)
        assert found.offset is not None
        votes = found.output.unflatten(0, (batch, count))[:, :, self.features :]
        return votes, _gather_index(found.offset.unflatten(0, (batch, count))[:, :, 0], size)

    def _attend(self, query: Tensor, references: Tensor, valid: Tensor, stage: int, source: Tensor) -> Tensor:
        """Stage 2: features and class probabilities of each reference at the matched place, (B, K, d - 4 + C, h, w)."""
        found = self._window(query, references, valid, stage, self.config.fine_radius, source)
        return found.output.unflatten(0, tuple(valid.shape))

    def _window(
        self, memory: Tensor, references: Tensor, valid: Tensor, stage: int, radius: int, source: Tensor | None
    ) -> WindowAttention:
        """Window attention with a softmax of its own for each reference: B * K maps with one reference each."""
        query = memory[:, : self.features] * self.log_scale[stage].clamp(max=math.log(100.0)).exp()
        nearness = F.softplus(self.position_weight[stage])
        return attend_each_reference(query, references, valid, radius=radius, nearness=nearness, source=source)

    def _fit(self, memory: Tensor, matched: Tensor, age_s: Tensor) -> Tensor:
        """What trust is read from, (B, K, _TRUST_INPUTS, h, w)."""
        n = self.features
        cosine = (memory[:, None, :n] * matched[:, :, :n]).sum(2)  # lower too where the matched places differ
        around = F.avg_pool2d(cosine, 3, 1, 1, count_include_pad=False)
        own, votes = memory[:, None, n:], matched[:, :, n:]
        difference = 1 - _overlap(own, votes, 2)
        confidence = own.amax(2).expand_as(cosine)
        age = age_s.clamp(*AGE_RANGE_S).log()[:, :, None, None].expand_as(cosine)
        return torch.stack((4 * cosine - 2, 4 * around - 2, difference, confidence, votes.amax(2), 0.5 * age + 1), 2)

    def _gate(self, context: Tensor, hints: Tensor, own: Tensor, vote: Tensor) -> Tensor:
        """How far the vote replaces the frame's own classes where it is trusted, -1..1, (B, 1, h, w)."""
        disagreement = 1 - _overlap(own, vote, 1)
        hints = torch.cat((hints, disagreement, own.amax(1, keepdim=True), vote.amax(1, keepdim=True)), 1)
        first = self.gate[0]
        assert isinstance(first, nn.Conv2d)
        width = context.shape[1]
        hidden = F.conv2d(self.norm(context), first.weight[:, :width], first.bias)
        return self.gate[1:](hidden + F.conv2d(hints, first.weight[:, width:])).tanh()

    @torch.no_grad()
    def fold_norm(self) -> None:
        """Make the norm, in evaluation mode, part of the convolutions after it: the same function for a pass less."""
        norm, width = self.norm, self.key.in_channels
        if not isinstance(norm, nn.BatchNorm2d):
            return
        assert not norm.training and norm.running_mean is not None and norm.running_var is not None
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
        shift = norm.bias - norm.running_mean * scale
        first = self.gate[0]
        assert isinstance(first, nn.Conv2d)
        for layer in (self.key, self.coarse_key, first):
            weight = layer.weight[:, :width]
            assert layer.bias is not None
            layer.bias += weight.flatten(1) @ shift
            weight *= scale[:, None, None]
        self.norm = nn.Identity()


#: Cosine, cosine of the neighbourhood, difference, own confidence, the vote's confidence, age: `DSSA._fit`.
_TRUST_INPUTS = 6
#: Trust, detail, disagreement, own confidence, the vote's confidence: `DSSA._gate`.
_GATE_INPUTS = 5


def _join(keys: Tensor, coarse_keys: Tensor, logits: Tensor) -> FrameMemory:
    probabilities = logits.softmax(1)
    return FrameMemory(
        concat_channels_last(keys, probabilities), concat_channels_last(coarse_keys, _to_coarse(probabilities))
    )


def _detail(logits: Tensor, own: Tensor) -> Tensor:
    """How much surer the logits at stride 4 are than their average at stride 8, (B, 1, h, w): large where something
    thinner than a cell is, which a vote at stride 8 would blur."""
    sharp = F.avg_pool2d(logits.softmax(1).amax(1, keepdim=True), 2, ceil_mode=True, count_include_pad=False)
    return sharp - own.amax(1, keepdim=True)
