"""One step of a stream as one function of tensors: what every backend runs, compiles or exports.

A frame and what is remembered go in; logits and what this frame leaves behind come out. Nothing is kept inside, so that
one compiled step serves any number of streams, and several in one go: B frames, each with its own references. All
tensors are contiguous with channels last, the order in which they arrive and are read: (B, H, W, 3) for images,
(B, K, h, w, C) for K references, (B, h, w, C) for the frames themselves, where the network's own tensors have C before
h and w. A compiled step may rely on that without looking.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sdcpc_ros.inference.folding import fold_batch_norms
from sdcpc_ros.network import FrameMemory, StreamNetwork
from sdcpc_ros.network.config import Colour

#: Names of the step's inputs and outputs, in order: those of an exported model.
INPUT_NAMES = ("image", *(f"reference_{name}" for name in FrameMemory._fields), "age_s")
OUTPUT_NAMES = ("logits", *(f"memory_{name}" for name in FrameMemory._fields))


class Step(nn.Module):
    """The whole network for one frame of each of B streams, from uint8 pixels to logits."""

    mean: Tensor
    scale: Tensor

    def __init__(
        self,
        model: StreamNetwork,
        mean: Colour,
        std: Colour,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """model: in evaluation mode; the step's from now on, as its batch norms are folded away. mean, std: of RGB in
        units of 0..255. dtype: of the layers' weights, the activations and the memories; float32, float16 or bfloat16.
        """
        super().__init__()
        self.config = model.config
        self.dtype = torch.float32
        # Channels-last: the order in memory of pixels and memories, and the fastest for a CPU's convolutions. Whether a
        # GPU's are faster in NCHW, depth-wise ones above all, is a row of `python -m benchmarks --gpu`.
        self.model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.register_buffer("mean", torch.tensor(mean, device=device).view(3, 1, 1))
        self.register_buffer("scale", 1 / torch.tensor(std, device=device).view(3, 1, 1))
        with torch.no_grad():
            fold_batch_norms(self.model, lambda: self(*example_inputs(self, self.model.example_size)))
        self.model.fold_norms()
        # After folding, so that products of weights are rounded once.
        self.dtype = dtype
        _convert_layers(self.model, dtype)
        self.requires_grad_(False)

    def forward(self, image: Tensor, fine: Tensor, coarse: Tensor, age_s: Tensor) -> tuple[Tensor, ...]:
        """image: (B, H, W, 3) uint8 RGB. fine, coarse: the references' memories, (B, K, h, w, C) of `dtype`. age_s: (B,
        K) float32, seconds, negative for a missing reference, whose memory must be finite. Returns logits (B, classes,
        H/4, W/4) float32 and the frames' memory, two of (B, h, w, C), of `dtype`."""
        # (B, 3, H, W), channels last in memory. Cast first: TensorRT takes uint8, but does nothing else with it.
        pixels = image.float().permute(0, 3, 1, 2)
        # In float32: float16 has no decimals left at 255.
        frame = self.model.encode(((pixels - self.mean) * self.scale).to(self.dtype))
        references = FrameMemory(*(part.permute(0, 1, 4, 2, 3) for part in (fine, coarse)))
        logits, memory = self.model.aggregate(frame, references, age_s)
        return (logits.float(), *(part.permute(0, 2, 3, 1).to(self.dtype).contiguous() for part in memory))

    def blank(self, size: tuple[int, int]) -> FrameMemory:
        """The memory of an empty frame at network size (height, width): zeros, (1, h, w, C) each, on the device."""
        shapes = self.model.memory_shapes(size)
        return FrameMemory(
            *(self.mean.new_zeros(1, height, width, channels, dtype=self.dtype) for channels, height, width in shapes)
        )


def _convert_layers(model: nn.Module, dtype: torch.dtype) -> None:
    """Give PyTorch's layers `dtype`. Numbers that the network's own modules keep stay float32: attention scales and
    thresholds, a few numbers each, decide more than their rounding saves."""
    for module in model.modules():
        if type(module).__module__.startswith("torch.nn.modules.") and not list(module.children()):
            module.to(dtype)


def example_inputs(step: Step, size: tuple[int, int], batch: int = 1) -> tuple[Tensor, ...]:
    """Inputs of the right shapes and types for a step at network size (height, width), on its device."""
    device, count = step.mean.device, len(step.config.reference_offsets)
    image = torch.zeros(batch, *size, 3, dtype=torch.uint8, device=device)
    references = (part[:, None].repeat(batch, count, 1, 1, 1) for part in step.blank(size))
    return (image, *references, torch.full((batch, count), 0.1, device=device))
