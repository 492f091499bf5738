"""Networks to measure, with random weights: time does not depend on what they have learnt."""

from __future__ import annotations

from pathlib import Path

import torch

from sdcpc_ros.inference.step import Step, example_inputs
from sdcpc_ros.labels.label_set import CAMVID_11
from sdcpc_ros.model_files.checkpoint import Checkpoint, save_checkpoint
from sdcpc_ros.network import SDCPC, FrameMemory, SDCPCConfig
from sdcpc_ros.streaming.frame_buffer import MISSING

#: ImageNet's, in units of 0..255.
_MEAN, _STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def make_config(encoder: str, *, num_classes: int = 19, quick: bool = False) -> SDCPCConfig:
    """The configuration that this encoder is trained with; with `quick` a tiny network of the same parts."""
    if quick:
        return SDCPCConfig(num_classes=num_classes, encoder="resnet_tiny", embed_dim=16, key_dim=16)
    return SDCPCConfig(num_classes=num_classes, encoder=encoder, embed_dim=_EMBED_DIM.get(encoder, 128))


_EMBED_DIM = {f"mit_b{size}": 256 for size in range(1, 6)}


def make_step(config: SDCPCConfig, device: torch.device, dtype: torch.dtype = torch.float32) -> Step:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = SDCPC(config).eval()
        # As initialised, the aggregation changes nothing; a trained one does.
        opened = model.dssa.gate[-1]
        assert isinstance(opened, torch.nn.Conv2d)
        torch.nn.init.normal_(opened.weight, std=0.1)
    return Step(model, _MEAN, _STD, device, dtype)


def make_inputs(step: Step, size: tuple[int, int]) -> tuple[torch.Tensor, FrameMemory, torch.Tensor]:
    """An image (1, H, W, 3) uint8, the memories of K earlier frames, (1, K, h, w, C) each, and their ages, (1, K)
    float32, seconds: none is missing."""
    image, *references, age_s = example_inputs(step, size)
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, image.shape, generator=generator, dtype=torch.uint8).to(image.device)
    with torch.inference_mode():
        _, *memory = step(image, *references, torch.full_like(age_s, MISSING))
    filled = (part[:, None].expand_as(blank).contiguous() for part, blank in zip(memory, references))
    return image, FrameMemory(*filled), age_s


def normalised(step: Step, image: torch.Tensor) -> torch.Tensor:
    """(1, H, W, 3) uint8 -> (1, 3, H, W) float32, channels last in memory, as the step itself makes it."""
    return (image.float().permute(0, 3, 1, 2) - step.mean) * step.scale


def tiny_checkpoint() -> Checkpoint:
    """Random weights of a network that takes milliseconds on a CPU: 80 x 144 px, CamVid's classes."""
    torch.manual_seed(0)
    config = make_config("", num_classes=len(CAMVID_11), quick=True)
    return Checkpoint(config, CAMVID_11, _MEAN, _STD, input_size=(80, 144), state_dict=SDCPC(config).state_dict())


def save_tiny_model(path: Path) -> None:
    save_checkpoint(path, tiny_checkpoint())
