"""A segmenter that runs elsewhere, made steady: images to a function, what it gives back to logits."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sdcpc_ros.network.config import Colour
from sdcpc_ros.network.steadied import SteadiedConfig, SteadiedNetwork

LAYOUTS = ("nchw", "nhwc")
CHANNEL_ORDERS = ("rgb", "bgr")
#: What the output holds.
OUTPUTS = ("logits", "probabilities", "ids")
INPUT_TYPES = ("float32", "float16", "uint8")
#: How sure a model is taken to be that gives ids only.
_ID_PROBABILITY = 0.8

#: An input as the model takes it -> its output.
Runner = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class GivenLogitsConfig(SteadiedConfig):
    """How a foreign model takes images and what it gives back."""

    architecture: ClassVar[str] = "onnx"

    input_name: str = "input"
    output_name: str = "output"
    #: One of INPUT_TYPES; uint8 gets pixels as they are, the others normalised ones.
    input_type: str = "float32"
    #: Of the input: one of LAYOUTS.
    input_layout: str = "nchw"
    #: Of the output, where it has a class axis: one of LAYOUTS.
    output_layout: str = "nchw"
    #: One of CHANNEL_ORDERS.
    channel_order: str = "rgb"
    #: One of OUTPUTS.
    output: str = "logits"
    #: (height, width) of the only input size that the model takes, px; None for any.
    fixed_size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for field, allowed in (
            ("input_type", INPUT_TYPES),
            ("input_layout", LAYOUTS),
            ("output_layout", LAYOUTS),
            ("channel_order", CHANNEL_ORDERS),
            ("output", OUTPUTS),
        ):
            self._require(field, getattr(self, field) in allowed, f"one of {', '.join(allowed)}")
        size = self.fixed_size
        is_size = size is None or (
            isinstance(size, tuple) and len(size) == 2 and all(isinstance(n, int) and 32 <= n <= 16384 for n in size)
        )
        self._require("fixed_size", is_size, "(height, width), each in 32..16384, or null")


class GivenLogits(SteadiedNetwork):
    """A model that `runner` runs, one frame at a time."""

    config: GivenLogitsConfig
    compiles = False

    def __init__(self, config: GivenLogitsConfig, mean: Colour, std: Colour, runner: Runner) -> None:
        """mean, std: that images are normalised with, RGB in units of 0..255."""
        super().__init__(config, mean, std)
        self._runner = runner

    @property
    def example_size(self) -> tuple[int, int]:
        return self.config.fixed_size or super().example_size

    def segment(self, image: Tensor) -> Tensor:
        """image (B, 3, H, W), normalised -> logits (B, C, H', W'). Raises ValueError on an output of another shape."""
        outputs = [self._runner(self.as_input(one[None])) for one in image]
        return torch.cat([as_logits(self.config, output) for output in outputs])

    def as_input(self, image: Tensor) -> Tensor:
        """(1, 3, H, W) normalised RGB -> the input that the model takes."""
        config = self.config
        if config.input_type == "uint8":
            mean, std = (image.new_tensor(values).view(3, 1, 1) for values in (self.mean, self.std))
            image = (image * std + mean).round().clamp(0, 255)
        if config.channel_order == "bgr":
            image = image.flip(1)
        if config.input_layout == "nhwc":
            image = image.permute(0, 2, 3, 1)
        return image.to(getattr(torch, config.input_type)).contiguous()


def as_logits(config: GivenLogitsConfig, output: Tensor) -> Tensor:
    """What a model gave for one frame -> float32 logits (1, C, h, w).

    Of ids, (h, w) with any axes of 1, those that are no class leave all classes equal. Raises ValueError where the
    shape does not fit.
    """
    if config.output == "ids":
        return _logits_of_ids(output, config.num_classes)
    maps = output.float()
    maps = maps[None] if maps.dim() == 3 else maps
    if maps.dim() == 4 and config.output_layout == "nhwc":
        maps = maps.permute(0, 3, 1, 2)
    if maps.dim() != 4 or maps.shape[0] != 1 or maps.shape[1] != config.num_classes:
        raise ValueError(f"the model's output is {tuple(output.shape)}; {config.num_classes} classes were expected")
    return maps.clamp_min(1e-6).log() if config.output == "probabilities" else maps


def _logits_of_ids(output: Tensor, num_classes: int) -> Tensor:
    shape = [side for side in output.shape if side != 1] or [1]
    if len(shape) != 2:
        raise ValueError(f"the model's output is {tuple(output.shape)}; class ids (h, w) were expected")
    ids = output.reshape(1, 1, *shape).long()
    ids = torch.where((ids >= 0) & (ids < num_classes), ids, num_classes)
    others = (1 - _ID_PROBABILITY) / max(1, num_classes - 1)
    logits = torch.zeros(1, num_classes + 1, *shape, device=output.device)
    return logits.scatter_(1, ids, math.log(_ID_PROBABILITY / others))[:, :num_classes]
