"""DSSA, dynamic semantic selective aggregation: what the reference frames add, in two stages.

Cen et al. (2025) state a two-stage, selective cross-frame aggregation driven by cross-frame static perceptual
differences, computed by window attention. The form below is inferred:

    stage 1, at stride 32: a wide window finds, for each reference, where this cell was then, and how well it fits;
    stage 2, at stride 8: a narrow window around that place gathers the detail;
    vote: what the attended places were taken for is what this place should be taken for too, unless they differ;
    selection: only where frames disagree or the static perception is unsure does the result change anything.

The result is a change of class logits at stride 8. What a frame contributes to later ones (`FrameMemory`) depends on
that frame alone, or in a recurrent network on it and those before it, and never on later ones: it is computed once.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sdcpc_ros.network.config import SDCPCConfig
from sdcpc_ros.network.window_attention import window_attention
from sdcpc_ros.network.window_attention.gathering import moved

#: Stage 1 works on cells of COARSE x COARSE stride-8 positions, that is at stride 32.
COARSE = 4
#: Channels of d that say where keys and queries are: window attention brings them in, as the term of nearness.
POSITION_CHANNELS = 4
_DIFFERENCE_SIGN = {"distrust": -1.0, "seek": 1.0, "none": 0.0}
#: Probabilities well below this are not told apart: a vote is about the classes that are in question.
_LEAST_PROBABILITY = 1e-4
_GATE_WIDTH = 32


class FrameMemory(NamedTuple):
    """What one frame contributes to later frames; with a reference axis K after B when it holds several frames."""

    key: Tensor  #: (B, d - 4, h, w) at stride 8
    value: Tensor  #: (B, d + C, h, w): features, then class probabilities: the frame's alone, or see `with_classes`
    coarse_key: Tensor  #: (B, d - 4, h/4, w/4) at stride 32, rounded up
    coarse_value: Tensor  #: (B, d + C, h/4, w/4): the same at stride 32
    probability_root: Tensor  #: (B, C, h, w), square roots of those class probabilities


def memory_shapes(config: SDCPCConfig, size: tuple[int, int]) -> tuple[tuple[int, int, int], ...]:
    """The (C, h, w) of each part of the `FrameMemory` that a frame of `size` (height, width), px, leaves."""
    fine = (-(-size[0] // 8), -(-size[1] // 8))
    coarse = (-(-fine[0] // COARSE), -(-fine[1] // COARSE))
    classes = config.num_classes
    key, value = config.key_dim - POSITION_CHANNELS, config.key_dim + classes
    return (key, *fine), (value, *fine), (key, *coarse), (value, *coarse), (classes, *fine)


class DynamicOutput(NamedTuple):
    """What `DynamicAggregation` finds."""

    change: Tensor  #: (B, C, h, w), to be added to the logits of the frame as it stands alone
    #: Class probabilities that the references stand for, (B, C, ., .) at strides 32 and 8; without gradients, those
    #: at stride 8 may be zero where selection leaves no change.
    votes: tuple[Tensor, ...]


class DynamicAggregation(nn.Module):
    """The context of a frame and the memory of reference frames -> a change of class logits.

    The context is what everything here is read from: static features S joined with the encoder's level at stride 8, by
    which places are told apart better than by S alone.
    Freshly initialised the change is zero: an untrained temporal path changes nothing.
    """

    def __init__(self, config: SDCPCConfig, level_channels: int) -> None:
        """level_channels: of the encoder's level at stride 8."""
        super().__init__()
        width, inner = config.embed_dim + level_channels, config.key_dim
        content = inner - POSITION_CHANNELS
        self.config = config
        self.norm: nn.Module = nn.BatchNorm2d(width)  #: of the context; see `fold_norm`
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

    def contribute(self, context: Tensor, logits: Tensor) -> FrameMemory:
        """What a frame leaves for later ones. context: (B, D + C2, h, w). logits: (B, C, h, w), of it by itself."""
        normed = self.norm(context)
        content = self.query.out_channels
        key, value = self.key_value(normed).tensor_split((content,), 1)
        coarse_key, coarse_value = self.coarse_key_value(_to_coarse(normed)).tensor_split((content,), 1)
        return to_memory(key, value, coarse_key, coarse_value, logits)

    def forward(
        self, context: Tensor, probability_root: Tensor, references: FrameMemory, valid: Tensor
    ) -> DynamicOutput:
        """Aggregate.

        context (B, D + C2, h, w), probability_root (B, C, h, w): of this frame. references: the memories of K frames,
        (B, K, ...) each. valid: (B, K) bool; missing references are masked, and without any nothing changes.
        """
        size = (context.shape[2], context.shape[3])
        normed = self.norm(context)
        sign = _DIFFERENCE_SIGN[self.config.difference_role]
        coarse_weight, fine_weight = sign * F.softplus(self.difference_weight)
        coarse_nearness, fine_nearness = F.softplus(self.position_weight)
        inner = self.config.key_dim
        scale = inner**-0.5

        coarse = window_attention(
            self.coarse_query(_to_coarse(normed)),
            references.coarse_key,
            references.coarse_value,
            radius=self.config.coarse_radius,
            valid=valid,
            bias=coarse_weight * _to_coarse(_difference(probability_root, references.probability_root)),
            scale=scale,
            nearness=coarse_nearness,
        )
        assert coarse.offset is not None and coarse.mass is not None
        source = _sources(coarse.offset, size)
        difference = _difference(probability_root, moved(references.probability_root, source))  # (B, K, h, w)
        votes: tuple[Tensor, ...] = (coarse.output[:, inner:],)
        least, most = _extremes(difference, valid)
        own = probability_root.square()
        confidence = own.amax(1, keepdim=True)
        selected = self._selected(most, confidence)
        query, gate = self._ask(normed)
        if self.config.dynamic_stages > 1:
            # The memories are gathered from where things were then: they come to lie over this frame.
            fine = window_attention(
                query,
                references.key,
                references.value,
                radius=self.config.fine_radius,
                valid=valid,
                bias=_from_coarse(coarse.mass.clamp_min(1e-4).log(), size) + fine_weight * difference,
                scale=scale,
                nearness=fine_nearness,
                source=source,
                # In training, votes are learnt everywhere.
                wanted=None if selected is None or torch.is_grad_enabled() else selected[:, 0],
                with_mass=False,
                with_offset=False,
            )
            vote = fine.output[:, inner:]
            votes = (*votes, vote)
            aggregate = _upsampled(coarse.output[:, :inner], size) + fine.output[:, :inner]
        else:
            aggregate, vote = _upsampled(coarse.output, size).tensor_split((inner,), 1)

        dissent = 1 - (probability_root * vote.clamp_min(0).add(1e-8).sqrt()).sum(1, keepdim=True).clamp(max=1)
        gates = self._gates(gate, aggregate, torch.cat((least, most, dissent, confidence), 1))
        change = gates[:, 1:] * self.classify(aggregate)
        if self.config.class_vote:
            weight = gates[:, :1]
            if self.config.vote_floor > 0:
                # Not where it is plainly something else now, nor where thin things make the vote a mixed one.
                floor = self.config.vote_floor * (1 - dissent) * vote.amax(1, keepdim=True)
                weight = torch.maximum(weight, floor)
            change = change + weight * (_log(vote) - _log(own))
        if selected is not None:
            change = change * selected
        return DynamicOutput(change * valid.any(1)[:, None, None, None], votes)

    def _selected(self, most: Tensor, confidence: Tensor) -> Tensor | None:
        """Where the references may change something, (B, 1, h, w) bool: where they differ from this frame or it is
        unsure. None for everywhere."""
        if not self.config.selection:
            return None
        return (most > self.config.selection_difference) | (confidence < self.config.selection_confidence)

    def _ask(self, normed: Tensor) -> tuple[Tensor, Tensor]:
        """The fine query (B, d - 4, h, w) and what this frame says to its gates (B, G, h, w): one product for both."""
        width, first = normed.shape[1], self._first_gate
        assert self.query.bias is not None and first.bias is not None
        asked = F.conv2d(
            normed,
            torch.cat((self.query.weight, first.weight[:, :width])),
            torch.cat((self.query.bias, first.bias)),
        )
        query, gate = asked.tensor_split((self.query.out_channels,), 1)
        return query, gate

    def _gates(self, gate: Tensor, aggregate: Tensor, hints: Tensor) -> Tensor:
        """What `self.gate` makes of this frame's features, the aggregate and four hints, in -1..1, (B, 2, h, w).

        gate: the features' part of its first layer, from `_ask`.
        """
        rest = joined(aggregate, hints)
        hidden = gate + F.conv2d(rest, self._first_gate.weight[:, -rest.shape[1] :])
        return self.gate[1:](hidden).tanh()

    @property
    def _first_gate(self) -> nn.Conv2d:
        first = self.gate[0]
        assert isinstance(first, nn.Conv2d)
        return first

    @torch.no_grad()
    def fold_norm(self) -> None:
        """Make the norm, in evaluation mode, part of the convolutions after it: the same function for a pass less."""
        norm, width = self.norm, self.query.in_channels
        if not isinstance(norm, nn.BatchNorm2d):
            return
        assert not norm.training and norm.running_mean is not None and norm.running_var is not None
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
        shift = norm.bias - norm.running_mean * scale
        for layer in (self.query, self.key_value, self.coarse_query, self.coarse_key_value, self._first_gate):
            weight = layer.weight[:, :width]
            assert layer.bias is not None
            layer.bias += weight.flatten(1) @ shift
            weight *= scale[:, None, None]
        self.norm = nn.Identity()


def to_memory(key: Tensor, value: Tensor, coarse_key: Tensor, coarse_value: Tensor, logits: Tensor) -> FrameMemory:
    """A memory of features, (B, ., h, w) and (B, ., h/4, w/4), and the classes that go with them, (B, C, h, w).

    Keys and values are channels-last in memory, as window attention reads them fastest.
    """
    # exp of half the log instead of sqrt: its gradient at zero is finite.
    root = (0.5 * logits.log_softmax(1)).exp()
    probability = root.square()
    return FrameMemory(key, joined(value, probability), coarse_key, joined(coarse_value, _to_coarse(probability)), root)


def with_classes(memory: FrameMemory, logits: Tensor) -> FrameMemory:
    """The memory of a frame, (B, ...) each, with the classes of other logits, (B, C, h, w)."""
    classes = logits.shape[1]
    value, coarse_value = memory.value[:, :-classes], memory.coarse_value[:, :-classes]
    return to_memory(memory.key, value, memory.coarse_key, coarse_value, logits)


def joined(*maps: Tensor) -> Tensor:
    """(B, ., h, w) each, joined along their channels, channels-last in memory whatever the maps are."""
    return torch.cat([part.permute(0, 2, 3, 1) for part in maps], -1).permute(0, 3, 1, 2)


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
    """Stride 32 to stride 8, (..., h/4, w/4) to (..., h, w): every position takes its cell's value."""
    cells = x[..., :, None, :, None].expand(*x.shape[:-1], COARSE, x.shape[-1], COARSE)
    return cells.flatten(-2).flatten(-3, -2)[..., : size[0], : size[1]]


def _upsampled(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Stride 32 to stride 8, bilinear."""
    x = F.interpolate(x, scale_factor=COARSE, mode="bilinear", align_corners=False)
    return x[:, :, : size[0], : size[1]]


def _sources(offset: Tensor, size: tuple[int, int]) -> Tensor:
    """Coarse offsets (B, K, 2, h/4, w/4) -> (B, K, h, w) int32: the position y * w + x at stride 8 whose memory, moved
    by its cell's offset and kept within the frame, lies over each position of this frame."""
    height, width = size
    cells = offset.int() * COARSE
    dy, dx = cells[:, :, 0, :, None, :, None], cells[:, :, 1, :, None, :, None]  # (B, K, h/4, 1, w/4, 1)
    rows, columns = offset.shape[3:]
    y = torch.arange(rows * COARSE, dtype=torch.int32, device=offset.device).view(rows, COARSE, 1, 1)
    x = torch.arange(columns * COARSE, dtype=torch.int32, device=offset.device).view(columns, COARSE)
    index = (y + dy).clamp(0, height - 1) * width + (x + dx).clamp(0, width - 1)
    return index.flatten(4).flatten(2, 3)[..., :height, :width]
