"""SD-CPC, the whole network, in streaming form (`encode`, `aggregate`) and in clip form (`forward`) built from it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sdcpc_ros.network.config import SDCPCConfig
from sdcpc_ros.network.cross_frame import FrameMemory, concat_channels_last
from sdcpc_ros.network.dssa import DSSA, STRIDE, DSSAOutput, memory_shapes
from sdcpc_ros.network.encoders import build_encoder
from sdcpc_ros.network.optical_flow import standard_luminance
from sdcpc_ros.network.ssea import SSEA

#: Smallest side of an image, px: one cell at stride 32.
MIN_SIDE = 32
#: Frame rate that is assumed where nothing tells the age of references.
DEFAULT_RATE_HZ = 15.0


class EncodedFrame(NamedTuple):
    """One frame, encoded: its classes by itself, what aggregation needs, and what it leaves for later frames."""

    logits: Tensor  #: (B, C, H/4, W/4)
    static: Tensor  #: (B, D, h, w), static features S at stride 8
    context: Tensor  #: (B, D + C2, h, w), S concatenated with the encoder's level at stride 8, channels-last in memory
    detail: Tensor  #: (B, C1, H/4, W/4), the encoder's level at stride 4
    luminance: Tensor  #: (B, 1, H/4, W/4), see `standard_luminance`
    memory: FrameMemory  #: with the classes of the frame by itself


class ClipOutput(NamedTuple):
    """What the clip form returns, for the last frame of the clip."""

    logits: Tensor  #: (B, C, H/4, W/4)
    static_logits: Tensor  #: (B, C, h, w), the static head's classes Y: an auxiliary output, for training
    static: Tensor  #: (B, D, h, w), what the static logits are read from
    single: Tensor  #: (B, C, H/4, W/4), the logits of the frame by itself; without references, the very logits
    aggregation: DSSAOutput | None = None  #: what DSSA found, if there are references


class SDCPC(nn.Module):
    """Static-Dynamic Class-level Perceptual Consistency (Cen et al., Neural Networks 2025).

    Images are (B, 3, H, W) float, normalised, of any size from 32 px a side. Sizes at stride s are rounded up.
    """

    #: Whether compilers take the network whole.
    compiles = True
    #: A (height, width) at which the network can be tried.
    example_size = (64, 64)

    def __init__(self, config: SDCPCConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = build_encoder(config)
        self.ssea = SSEA(config, self.encoder.channels)
        self.static_head = nn.Conv2d(config.embed_dim, config.num_classes, 1)
        self.head = RefinementHead(config, self.encoder.channels[0])
        self.dssa = DSSA(config, self.encoder.channels[1], self.encoder.channels[0])

    def encode(self, image: Tensor) -> EncodedFrame:
        """Encode one frame, (B, 3, H, W): all of its cost but the aggregation. Raises ValueError on its shape."""
        if image.dim() != 4 or image.shape[1] != 3 or min(image.shape[2:]) < MIN_SIDE:
            raise ValueError(
                f"SDCPC.encode: the image is {tuple(image.shape)}; (B, 3, H, W) with H, W >= {MIN_SIDE} is needed"
            )
        pyramid = self.encoder(image)
        level = pyramid[1]
        static = self.ssea(pyramid, (level.shape[2], level.shape[3]))
        logits = self.head(static, pyramid[0])
        context, luminance = concat_channels_last(static, level), standard_luminance(image, STRIDE)
        memory = self.dssa.make_memory(context, pyramid[0], logits, luminance)
        return EncodedFrame(logits, static, context, pyramid[0], luminance, memory)

    def aggregate(self, frame: EncodedFrame, references: FrameMemory, age_s: Tensor) -> tuple[Tensor, FrameMemory]:
        """Logits of a frame with its references, (B, C, H/4, W/4), and the memory that it leaves for later frames.

        references: the memories of K earlier frames, (B, K, ...) each, in any order. age_s: (B, K) float, how much
        older than the frame each is, in seconds; negative where one is missing, and its contents are then ignored, as
        long as they are finite.
        """
        logits, _ = self._aggregate(frame, references, age_s, with_coarse_votes=False)
        return logits, self._remember(frame, logits)

    def _remember(self, frame: EncodedFrame, logits: Tensor) -> FrameMemory:
        """The memory of a frame that was given `logits`, (B, C, H/4, W/4)."""
        if not self.config.recurrent:
            return frame.memory
        return self.dssa.with_classes(frame.memory, logits)

    def memory_shapes(self, size: tuple[int, int]) -> tuple[tuple[int, int, int], ...]:
        """The (C, h, w) of each part of the `FrameMemory` that a frame of `size` (height, width), px, leaves."""
        return memory_shapes(self.config, size)

    def fold_norms(self) -> None:
        """Fold those batch norms, in evaluation mode, that feed several layers; the others are the caller's."""
        self.ssea.fold_norm()
        self.dssa.fold_norm()

    def forward(self, clip: Tensor, age_s: Tensor | None = None, views: int = 1) -> ClipOutput:
        """Clip form: (B, K + 1, 3, H, W), references first, the oldest of them first, the frame to be labelled last.

        age_s: (B, K) as in `aggregate`; without, the configuration's offsets at 15 frames a second. The logits are
        those that streaming these frames gives. In training, references are encoded without gradient and in evaluation
        mode, as in a stream; gradients reach their keys. With `views` V above 1 the clip is (B, K + V, 3, H, W): its
        last V frames are all labelled with the same references, and the output's batch is B * V, the views of a clip
        side by side. Raises ValueError on other shapes, and on more references than offsets where no age is given.
        """
        if clip.dim() != 5 or not 1 <= views <= clip.shape[1]:
            raise ValueError(f"SDCPC: the clip is {tuple(clip.shape)}; (B, K + {views}, 3, H, W) is needed")
        batch, references = clip.shape[0], clip.shape[1] - views
        frame = self.encode(clip[:, references:].flatten(0, 1))
        static_logits = self.static_head(frame.static)
        if references == 0 or not self.config.temporal:
            return ClipOutput(frame.logits, static_logits, frame.static, frame.logits)
        if age_s is None:
            offsets = self.config.reference_offsets[:references][::-1]
            age_s = torch.tensor(offsets, device=clip.device).expand(batch, -1) / DEFAULT_RATE_HZ
        if tuple(age_s.shape) != (batch, references):
            raise ValueError(
                f"SDCPC: the clip has {references} references; age_s of {(batch, references)} is needed, "
                f"not {tuple(age_s.shape)}"
            )
        memories = self._reference_memories(clip[:, :references], age_s)
        if views > 1:
            memories = FrameMemory(*(part.repeat_interleave(views, 0) for part in memories))
            age_s = age_s.repeat_interleave(views, 0)
        logits, aggregation = self._aggregate(frame, memories, age_s)
        return ClipOutput(logits, static_logits, frame.static, frame.logits, aggregation)

    def _aggregate(
        self, frame: EncodedFrame, references: FrameMemory, age_s: Tensor, *, with_coarse_votes: bool = True
    ) -> tuple[Tensor, DSSAOutput | None]:
        if not self.config.temporal:
            return frame.logits, None
        found = self.dssa(frame.memory, references, age_s, with_coarse_votes)
        return frame.logits + found.change, found

    def _reference_memories(self, frames: Tensor, age_s: Tensor) -> FrameMemory:
        """The memories of K frames (B, K, 3, H, W), oldest first; if `recurrent`, each made with the earlier ones."""
        shape = frames.shape[:2]
        with torch.no_grad(), _evaluating(self):
            encoded = self.encode(frames.flatten(0, 1))
        # Once more, because keys have a gradient.
        memory = self.dssa.make_memory(encoded.context, encoded.detail, encoded.logits, encoded.luminance)
        memory = FrameMemory(*(part.unflatten(0, shape) for part in memory))
        if not self.config.recurrent:
            return memory
        parts = [part.unflatten(0, shape) for part in encoded[:-1]]
        memories: list[FrameMemory] = []
        for k in range(shape[1]):
            own = FrameMemory(*(part[:, k] for part in memory))
            frame = EncodedFrame._make([*(part[:, k] for part in parts), own])
            labelled = frame.logits
            if memories:
                known = (age_s[:, :k] >= 0) & (age_s[:, k : k + 1] >= 0)
                ages = torch.where(known, age_s[:, :k] - age_s[:, k : k + 1], -1.0)
                with torch.no_grad(), _evaluating(self.dssa):
                    labelled, _ = self._aggregate(frame, _stacked(memories), ages, with_coarse_votes=False)
                # PyTorch before 2.11 keeps the weights that autocast casts here, and with them no gradient.
                torch.clear_autocast_cache()
            memories.append(self._remember(frame, labelled))
        return _stacked(memories)


def _stacked(memories: list[FrameMemory]) -> FrameMemory:
    """Memories of K frames, (B, ...) each -> (B, K, ...) each."""
    return FrameMemory(*(torch.stack(parts, 1) for parts in zip(*memories)))


@contextmanager
def _evaluating(*modules: nn.Module) -> Iterator[None]:
    """Norms use, and keep, the statistics they have: earlier frames leave no trace in them."""
    training = [part for module in modules for part in module.modules() if part.training]
    for part in training:
        part.training = False
    try:
        yield
    finally:
        for part in training:
            part.training = True


class RefinementHead(nn.Module):
    """Static features at stride 8, refined with the encoder's finest level, to class logits at stride 4."""

    def __init__(self, config: SDCPCConfig, detail_channels: int) -> None:
        super().__init__()
        inner = config.key_dim
        self.fuse = nn.Conv2d(config.embed_dim, inner, 1, bias=False)
        self.fuse_norm = nn.BatchNorm2d(inner)
        self.detail = nn.Conv2d(detail_channels, inner, 1, bias=False)
        self.detail_norm = nn.BatchNorm2d(inner)
        self.refine = nn.Sequential(*_separable(inner, 5), *_separable(inner, 3), nn.Dropout2d(config.head_dropout))
        self.classify = nn.Conv2d(inner, config.num_classes, 1)

    def forward(self, features: Tensor, detail: Tensor) -> Tensor:
        coarse = self.fuse_norm(self.fuse(features))
        coarse = F.interpolate(coarse, detail.shape[2:], mode="bilinear", align_corners=False)
        return self.classify(self.refine(F.relu(coarse + self.detail_norm(self.detail(detail)))))


def _separable(width: int, kernel: int) -> list[nn.Module]:
    """A depth-wise and a point-wise convolution."""
    return [
        nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, width, 1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
    ]
