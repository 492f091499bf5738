"""DSSA, dynamic semantic selective aggregation: what the reference frames add to a frame, in two stages.

Cen et al. (2025) state a two-stage, selective cross-frame aggregation driven by cross-frame static perceptual
differences, computed by window attention. The form below is inferred:

    stage 1, at stride 16: a wide window finds, for each reference, where this cell was;
    stage 2, at stride 4: that motion is refined from luminance, for each position, and a narrow window around the
        place gathers the reference's features and class probabilities;
    trust: how far each reference is believed at each position, from the appearance of the matched place, the
        class-level difference, the reference's age and how well the motion fits;
    vote: the trusted class probabilities of the references, mixed with the frame's own;
    persistence: where the scene hardly moves, a bonus for the classes of the vote, so that labels do not flicker
        between classes that are almost as likely.

The result is a change of class logits at stride 4, so that thin structures and borders vote where they are. A reference
whose matched place looks different is not trusted, so after a cut, in a fast turn or at a low frame rate the frame
keeps the classes that it has by itself.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sdcpc_ros.network.config import SDCPCConfig
from sdcpc_ros.network.cross_frame import (
    FrameMemory,
    at_least_float32,
    attend_each_reference,
    concat_channels_last,
    memory_sizes,
    motion_smoothness,
    ramp,
    to_coarse,
    to_fine,
)
from sdcpc_ros.network.optical_flow import (
    misfit,
    nearest_index,
    refine_offset,
    roughness,
    warp,
    window_counts,
    window_sums,
)
from sdcpc_ros.network.votes import compare_votes, log_ratio, mix_votes, vote_support

#: Stride of the fine part of a memory, px; that of the coarse part is `cross_frame.COARSE` times as large.
STRIDE = 4
#: Features are so many channels fewer than key_dim (stage 1) or half of it (stage 2). Positions used to take these
#: channels, and the shapes of checkpoints stayed.
_FEWER_CHANNELS = 4
#: Ages of references that are told apart, seconds: 1/60 s to 4 s.
AGE_RANGE_S = (1 / 60, 4.0)
#: Trust falls by e where the motion differs by so many positions from its neighbours', and where luminance differs by
#: so many times the local contrast: there something is hidden or was matched by chance. docs/design_notes.md says what
#: they were chosen on.
_ROUGHNESS, _MISFIT = 1.0, 1.5
_GATE_WIDTH = 16
_TRUST_WIDTH = 16
#: Cosine, cosine of the neighbourhood, difference, own confidence, the vote's confidence, age, the frame's cosine:
#: `DSSA._fit`.
_TRUST_INPUTS = 7
#: Trust, sharpness, disagreement, own confidence, the vote's confidence; the classes of frame and vote come beside
#: them, since a vote blurs some classes more than others: `DSSA._gate`.
_GATE_INPUTS = 5


def feature_channels(config: SDCPCConfig) -> tuple[int, int]:
    """How many features the fine and the coarse part of a `FrameMemory` have."""
    return config.key_dim // 2 - _FEWER_CHANNELS, config.key_dim - _FEWER_CHANNELS


def memory_shapes(config: SDCPCConfig, size: tuple[int, int]) -> tuple[tuple[int, int, int], ...]:
    """The (C, h, w) of each part of the `FrameMemory` that a frame of `size` (height, width), px, leaves."""
    fine, coarse = memory_sizes(size, STRIDE)
    fine_channels, coarse_channels = (count + config.num_classes for count in feature_channels(config))
    return (fine_channels + 1, *fine), (coarse_channels, *coarse)


class DSSAOutput(NamedTuple):
    """What `DSSA` returns. All but the change are for training."""

    change: Tensor  #: (B, C, H/4, W/4), to be added to the logits of the frame by itself
    trust: Tensor  #: (B, K, H/4, W/4) in 0..1, of each reference at each position; 0 where a reference is missing
    votes: Tensor  #: (B, K, C, H/4, W/4), class probabilities of each reference at the matched place, stage 2
    coarse_votes: Tensor  #: (B, K, C, H/16, W/16), the same in stage 1; C is 0 without `with_coarse_votes`
    whole_fit: Tensor  #: (B, K, 2), of each reference: mean cosine of the matched places, smoothness of the motion


class DSSA(nn.Module):
    """A frame and the memories of its references -> a change of class logits.

    The context of a frame is static features S concatenated with the encoder's level at stride 8, which tells places
    apart better than S alone; its detail is the encoder's level at stride 4. Freshly initialised, the change is zero
    without persistence.
    """

    frame_fit: Tensor

    def __init__(self, config: SDCPCConfig, level_channels: int, detail_channels: int) -> None:
        """level_channels, detail_channels: of the encoder's levels at stride 8 and 4."""
        super().__init__()
        width = config.embed_dim + level_channels
        self.config = config
        self.fine_features, self.coarse_features = feature_channels(config)
        self.norm: nn.Module = nn.BatchNorm2d(width)  #: of the context; see `fold_norm`
        self.detail_norm: nn.Module = nn.BatchNorm2d(detail_channels)
        self.coarse_key = nn.Conv2d(width, self.coarse_features, 1)
        self.context_key = nn.Conv2d(width, self.fine_features, 1)
        self.detail_key = nn.Conv2d(detail_channels, self.fine_features, 1)
        #: Logits of the attention: log of the scale of cosines, and the weight of the position, of each stage.
        self.log_scale = nn.Parameter(torch.full((2,), math.log(16.0)))
        self.position_weight = nn.Parameter(torch.ones(2))
        #: Where the trust in a whole reference goes from 0 to 1, a row for each number of `DSSAOutput.whole_fit`. Set
        #: after training (`training.frame_fit`), from cuts and running cameras; so far, every frame passes.
        self.register_buffer("frame_fit", torch.tensor([[-2.0, -1.0], [-2.0, -1.0]]))
        #: Trust and gate see how well references fit, and no features of the frame: they cannot memorise scenes.
        self.trust = nn.Sequential(
            nn.Conv2d(_TRUST_INPUTS, _TRUST_WIDTH, 1), nn.ReLU(inplace=True), nn.Conv2d(_TRUST_WIDTH, 1, 1)
        )
        open_gate = nn.Conv2d(_GATE_WIDTH, 1, 1)
        for parameter in open_gate.parameters():
            nn.init.zeros_(parameter)
        inputs = _GATE_INPUTS + 2 * config.num_classes
        self.gate = nn.Sequential(nn.Conv2d(inputs, _GATE_WIDTH, 1), nn.ReLU(inplace=True), open_gate)

    def make_memory(self, context: Tensor, detail: Tensor, logits: Tensor, luminance: Tensor) -> FrameMemory:
        """What a frame leaves for later ones, float32 or wider: features, class probabilities and luminance.

        context: (B, D + C2, H/8, W/8). detail: (B, C1, H/4, W/4). logits: (B, C, H/4, W/4), of the frame by itself.
        luminance: (B, 1, H/4, W/4), see `standard_luminance`.
        """
        normed = self.norm(context)
        keys = self.detail_key(self.detail_norm(detail)) + _upsample(self.context_key(normed), logits)
        # Averaged first: the convolution of 1 x 1 then has a quarter of the positions.
        coarse = self.coarse_key(F.avg_pool2d(normed, 2, ceil_mode=True, count_include_pad=False))
        keys, coarse = (F.normalize(at_least_float32(part), dim=1) for part in (keys, coarse))
        return _join(keys, coarse, logits, luminance)

    def with_classes(self, memory: FrameMemory, logits: Tensor) -> FrameMemory:
        """The memory of a frame, (B, ...) each, with the classes of other logits, (B, C, H/4, W/4)."""
        keys, coarse_keys = memory.fine[:, : self.fine_features], memory.coarse[:, : self.coarse_features]
        return _join(keys, coarse_keys, logits, memory.fine[:, -1:])

    def forward(
        self, memory: FrameMemory, references: FrameMemory, age_s: Tensor, with_coarse_votes: bool = True
    ) -> DSSAOutput:
        """Aggregate.

        memory: of this frame. references: the memories of K frames, (B, K, ...) each. age_s: (B, K) float, how much
        older than this frame each reference is, seconds; negative or NaN for a missing reference, which takes no part:
        its memory may hold any numbers, as long as they are finite and not beyond 1e30. Without any reference nothing
        changes. The result is float32 or wider, whatever the types given. with_coarse_votes: only training needs them.
        """
        size, valid, n = (memory.fine.shape[2], memory.fine.shape[3]), age_s >= 0, self.fine_features
        classes = slice(n, n + self.config.num_classes)
        age_s = age_s.masked_fill(~valid, 0)  # a weight of zero does not remove a NaN
        coarse_votes, offset = self._match(memory.coarse, references.coarse, valid, with_coarse_votes)
        flow, fit = self._flow(memory.fine, references.fine, valid, offset)
        matched = at_least_float32(self._gather(memory.fine, references.fine, valid, flow))
        fine = at_least_float32(memory.fine)
        # Own and votes dense and channels-last: on a CPU operators on mixed layouts take several times as long.
        own = fine[:, classes].contiguous(memory_format=torch.channels_last)
        votes = matched[:, :, classes].movedim(2, -1).contiguous().movedim(-1, 2)
        cosine = (fine[:, None, :n] * matched[:, :, :n]).sum(2)  # lower too where the matched places differ
        smoothness = motion_smoothness(offset.to(cosine.dtype))
        whole_fit = torch.stack((cosine.mean((2, 3)), smoothness.mean((2, 3))), 2)
        confidence, compared = own.amax(1, keepdim=True), compare_votes(own, votes)
        fit_inputs = self._fit(cosine, confidence, *compared, age_s)
        trust = _pointwise(self.trust, fit_inputs.flatten(0, 1)).unflatten(0, age_s.shape)[:, :, 0]
        trust = at_least_float32(trust).sigmoid() * self._frame_trust(whole_fit, valid) * fit.view(trust.shape)
        vote, share = mix_votes(votes, trust)
        weight = share.sum(1, keepdim=True)
        compared = compared if votes.shape[1] == 1 else compare_votes(own, vote[:, None])
        support = vote_support(own, confidence, vote)
        change = support * weight * self._gate(weight, own, confidence, vote, *compared) * log_ratio(vote, own)
        if self.config.persistence > 0 and not self.training:
            kept = (share * _is_still(offset, size)).sum(1, keepdim=True)
            change = torch.addcmul(change, support * kept, vote, value=self.config.persistence)
        return DSSAOutput(change, trust, votes, at_least_float32(coarse_votes), whole_fit)

    def _match(self, query: Tensor, references: Tensor, valid: Tensor, with_votes: bool) -> tuple[Tensor, Tensor]:
        """Stage 1: votes (B, K, C, H/16, W/16), without them C is 0; and where each cell was, (B, K, 2, H/16, W/16)
        offsets in cells."""
        n = self.coarse_features
        found = attend_each_reference(
            query[:, :n] * self._scale(0),
            references,
            valid,
            radius=self.config.coarse_radius,
            position_weight=F.softplus(self.position_weight[0]),
            values=references[:, :, n:] if with_votes else None,
        )
        assert found.argmax_offset is not None
        return references[:, :, :0] if found.output is None else found.output, found.argmax_offset

    def _flow(self, query: Tensor, references: Tensor, valid: Tensor, offset: Tensor) -> tuple[Tensor, Tensor]:
        """The optical flow from the frame to each reference, (2, B * K, H/4, W/4): the offsets of stage 1, refined; and
        how well it fits, (B * K, 1, H/4, W/4) in 0..1."""
        now, then = query[:, None, -1:], references[:, :, -1:]
        then = torch.where(valid[:, :, None, None, None], then, now)  # a missing reference may hold any numbers
        now, then = (maps.flatten(0, 1).float().contiguous() for maps in (now.expand_as(then), then))
        flow = refine_offset(offset.flatten(0, 1), now, then)
        unlike = misfit((warp(then, flow) - now).abs(), now)
        return flow, (-roughness(flow) / _ROUGHNESS - (unlike / _MISFIT).square()).exp()

    def _gather(self, query: Tensor, references: Tensor, valid: Tensor, flow: Tensor) -> Tensor:
        """Stage 2: what each reference's memory holds at the matched place, (B, K, ., H/4, W/4)."""
        found = attend_each_reference(
            query[:, : self.fine_features] * self._scale(1),
            references,
            valid,
            values=references,
            radius=self.config.fine_radius,
            position_weight=F.softplus(self.position_weight[1]),
            gather_index=nearest_index(flow).unflatten(0, tuple(valid.shape)),
        )
        assert found.output is not None
        return found.output

    def _scale(self, stage: int) -> Tensor:
        return self.log_scale[stage].clamp(max=math.log(100.0)).exp()

    def _frame_trust(self, whole_fit: Tensor, valid: Tensor) -> Tensor:
        """How far each reference is trusted as a whole, (B, K, 1, 1): after a cut single places fit by chance."""
        cosine, smoothness = ramp(whole_fit, self.frame_fit.T).unbind(2)
        return (cosine * smoothness * valid)[:, :, None, None]

    def _fit(
        self, cosine: Tensor, confidence: Tensor, difference: Tensor, vote_confidence: Tensor, age_s: Tensor
    ) -> Tensor:
        """What trust is read from, (B, K, _TRUST_INPUTS, H/4, W/4). cosine: of the match, (B, K, H/4, W/4)."""
        around = window_sums(cosine) / window_counts(cosine)
        whole = cosine.mean((2, 3), keepdim=True).expand_as(cosine)
        age = age_s.clamp(*AGE_RANGE_S).log()[:, :, None, None].expand_as(cosine)
        own = confidence.expand_as(cosine)
        fit = (4 * cosine - 2, 4 * around - 2, difference, own, vote_confidence, 0.5 * age + 1, 4 * whole - 2)
        return torch.stack(fit, 2)

    def _gate(
        self, trust: Tensor, own: Tensor, confidence: Tensor, vote: Tensor, difference: Tensor, vote_confidence: Tensor
    ) -> Tensor:
        """How far the vote replaces the frame's own classes where it is trusted, -1..1, (B, 1, H/4, W/4)."""
        # Positive where something thin stands out, which a vote would blur.
        sharpness = confidence - F.avg_pool2d(confidence, 3, 1, 1, count_include_pad=False)
        fit = torch.cat((trust, sharpness, difference, confidence, vote_confidence), 1)
        return at_least_float32(_pointwise(self.gate, fit, own, vote)).tanh()

    @torch.no_grad()
    def fold_norm(self) -> None:
        """Make the norms, in evaluation mode, part of the convolutions after them: the same function, faster."""
        for name, layers in (
            ("norm", (self.coarse_key, self.context_key)),
            ("detail_norm", (self.detail_key,)),
        ):
            norm = getattr(self, name)
            if not isinstance(norm, nn.BatchNorm2d):
                continue
            assert not norm.training and norm.running_mean is not None and norm.running_var is not None
            scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
            shift = norm.bias - norm.running_mean * scale
            for layer in layers:
                assert layer.bias is not None
                layer.bias += layer.weight.flatten(1) @ shift
                layer.weight *= scale[:, None, None]
            setattr(self, name, nn.Identity())


def _pointwise(layers: nn.Sequential, *maps: Tensor) -> Tensor:
    """Two 1x1 convolutions with a ReLU between, of maps (B, ., h, w) that lie beside each other along the channels.

    Each map is multiplied in the layout that it has. A CPU takes longer to bring them into one than to multiply.
    """
    first, last = layers[0], layers[-1]
    assert isinstance(first, nn.Conv2d) and isinstance(last, nn.Conv2d)
    assert first.bias is not None and last.bias is not None
    hidden = first.bias[:, None]
    for part, weight in zip(maps, first.weight.flatten(1).split([part.shape[1] for part in maps], 1)):
        hidden = torch.baddbmm(hidden, weight.expand(len(part), -1, -1), part.flatten(2).to(weight.dtype))
    weight = last.weight.flatten(1).expand(len(hidden), -1, -1)
    return torch.baddbmm(last.bias[:, None], weight, hidden.relu()).unflatten(2, maps[0].shape[2:])


def _is_still(offset: Tensor, size: tuple[int, int]) -> Tensor:
    """Whether each position's cell was found within one cell of its place, (B, K, h, w) of 0 or 1, for a map of `size`.
    Persistence costs thin structures where matches are farther.

    offset: (B, K, 2, h/4, w/4), cells.
    """
    return to_fine((offset.abs().amax(2) <= 1).float(), size)  # TensorRT repeats numbers only


def _join(keys: Tensor, coarse_keys: Tensor, logits: Tensor, luminance: Tensor) -> FrameMemory:
    probabilities = at_least_float32(logits).softmax(1)
    fine = concat_channels_last(keys, probabilities, luminance)
    return FrameMemory(fine, concat_channels_last(coarse_keys, to_coarse(probabilities)))


def _upsample(x: Tensor, like: Tensor) -> Tensor:
    """Stride 8 to the size of a map at stride 4."""
    return F.interpolate(x, like.shape[2:], mode="bilinear", align_corners=False)
