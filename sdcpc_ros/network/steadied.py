"""A single-frame segmenter with a temporal path that needs no training: what its kinds have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from sdcpc_ros.network.config import Colour, NetworkFields
from sdcpc_ros.network.cross_frame import FrameMemory, at_least_float32, memory_sizes
from sdcpc_ros.network.weightless import (
    COLOURS,
    PATCH_CHANNELS,
    STRIDE,
    ParameterFreeDSSA,
    PatchFeatures,
    averaged,
    memory_of,
    relative,
    update_gate,
)


@dataclass(frozen=True)
class SteadiedConfig(NetworkFields):
    """What decides how a foreign segmenter is made steady."""

    #: A frame leaves the classes that it was given with its references; see `SDCPCConfig.recurrent`.
    recurrent: ClassVar[bool] = True


class SteadiedFrame(NamedTuple):
    """One frame, segmented by itself."""

    logits: Tensor  #: (B, C, H', W'), at the segmenter's own stride
    gate: Tensor  #: (B, 1, h, w) at stride 4: how far a vote may change each position
    memory: FrameMemory  #: with the logits of the frame by itself


class SteadiedNetwork(nn.Module):
    """The streaming form of a segmenter that gives logits for one frame: the interface of `SDCPC` towards a stream."""

    #: Whether compilers take the network whole.
    compiles = True

    def __init__(self, config: SteadiedConfig, mean: Colour, std: Colour) -> None:
        """mean, std: that images are normalised with, RGB in units of 0..255."""
        super().__init__()
        self.config = config
        self.mean, self.std = mean, std
        self.patches = PatchFeatures(mean, std)
        self.temporal = ParameterFreeDSSA(coarse_radius=config.coarse_radius, persistence=config.persistence)

    @property
    def example_size(self) -> tuple[int, int]:
        """A (height, width) at which the network can be tried."""
        return 64, 64

    def segment(self, image: Tensor) -> Tensor:
        """image (B, 3, H, W), normalised -> logits (B, C, H', W')."""
        raise NotImplementedError

    def encode(self, image: Tensor) -> SteadiedFrame:
        """Segment one frame, (B, 3, H, W), by itself."""
        logits = at_least_float32(self.segment(image))
        colours, patches = self.patches(at_least_float32(image))
        # As planes: several times as fast on a CPU.
        cells = relative(averaged(logits, (colours.shape[2], colours.shape[3])).contiguous())
        memory = memory_of(colours.contiguous(), cells, F.normalize(patches, dim=1))
        return SteadiedFrame(logits, update_gate(cells), memory)

    def aggregate(self, frame: SteadiedFrame, references: FrameMemory, age_s: Tensor) -> tuple[Tensor, FrameMemory]:
        """Logits of a frame with its references, (B, C, H', W'), each position's up to a number that all its classes
        share; and the frame's memory. Arguments as for `SDCPC.aggregate`."""
        if not self.config.temporal:
            return frame.logits, frame.memory
        memory = self.temporal(frame.gate, frame.memory, references, age_s)
        logits = memory.fine[:, COLOURS:]
        if logits.shape != frame.logits.shape:
            change, size = logits - frame.memory.fine[:, COLOURS:], (frame.logits.shape[2], frame.logits.shape[3])
            logits = frame.logits + F.interpolate(change, size, mode="bilinear", align_corners=False)
        return logits, memory

    def memory_shapes(self, size: tuple[int, int]) -> tuple[tuple[int, int, int], ...]:
        """The (C, h, w) of each part of the `FrameMemory` that a frame of `size` (height, width), px, leaves."""
        fine, coarse = memory_sizes(size, STRIDE)
        return (COLOURS + self.config.num_classes, *fine), (PATCH_CHANNELS, *coarse)

    def fold_norms(self) -> None:
        """Nothing is left to fold; see `SDCPC.fold_norms`."""
