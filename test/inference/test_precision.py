"""Half precision: which types are allowed where, that no image overflows them, and how near float32 they stay."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from sdcpc_ros.inference import PRECISIONS, BackendError, Step, checked_precision
from sdcpc_ros.inference.eager import EagerBackend
from sdcpc_ros.model_files.checkpoint import load_checkpoint, resolve_model
from sdcpc_ros.network import SDCPC, FrameMemory, SDCPCConfig
from sdcpc_ros.network.segformer import SegFormer, SegFormerConfig
from sdcpc_ros.streaming.frame_buffer import FrameBuffer, MemoryPool

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
HALVES = [torch.float16, torch.bfloat16]
#: Of the shipped model and of the recipes.
ENCODERS = ("efficientnet_lite0", "mit_b0", "efficientnet_lite2", "mit_b5", "resnet101")
SIZE = (32, 32)
CPU, GPU = torch.device("cpu"), torch.device("cuda")


def _extreme_images() -> Tensor:
    """(4, H, W, 3) uint8: black, white, a checkerboard of single pixels, and noise."""
    generator = torch.Generator().manual_seed(0)
    images = torch.zeros(4, *SIZE, 3, dtype=torch.uint8)
    images[1] = 255
    images[2] = 255 * ((torch.arange(SIZE[0])[:, None] + torch.arange(SIZE[1])) % 2)[..., None]
    images[3] = torch.randint(0, 256, images[3].shape, generator=generator)
    return images


def _streamed(step: Step, images: Tensor) -> tuple[Tensor, list[FrameMemory]]:
    """Logits (frames, C, h, w) and memories of (frames, H, W, 3) images seen as a stream."""
    pool = MemoryPool(step.blank((images.shape[1], images.shape[2])))
    buffer = FrameBuffer(step.config.reference_offsets, pool)
    backend, logits, memories = EagerBackend(step), [], []
    for number, image in enumerate(images):
        slots, ages_s = buffer.references(number / 15)
        output, memory = backend.step(image[None], pool.gather(torch.tensor([slots])), torch.tensor([ages_s]))
        pool.store(torch.tensor([buffer.next_slot]), memory)
        buffer.push(number / 15)
        logits.append(output[0])
        memories.append(memory)
    return torch.stack(logits), memories


def _check_extremes(network: nn.Module, dtype: torch.dtype) -> None:
    """In two batches: without references, and with what the other images left as references."""
    step, images = Step(network.eval(), MEAN, STD, dtype=dtype), _extreme_images()
    backend, count = EagerBackend(step), len(step.config.reference_offsets)
    references = FrameMemory(*(part[:, None].expand(len(images), count, -1, -1, -1) for part in step.blank(SIZE)))
    for age_s in (-1.0, 0.1):
        logits, memory = backend.step(images, references, torch.full((len(images), count), age_s))
        assert logits.dtype == torch.float32 and logits.isfinite().all()
        assert all(part.dtype == dtype and part.isfinite().all() for part in memory)
        references = FrameMemory(*(torch.stack([part.roll(k, 0) for k in range(count)], 1) for part in memory))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("encoder", "dtype"),
    [*((encoder, torch.float16) for encoder in ENCODERS), *((encoder, torch.bfloat16) for encoder in ENCODERS[:2])],
)
def test_no_image_overflows(encoder, dtype):
    """bfloat16, which has the range of float32, with one encoder of each kind of arithmetic."""
    torch.manual_seed(0)
    _check_extremes(SDCPC(SDCPCConfig(19, encoder=encoder, embed_dim=32, key_dim=32)), dtype)


@pytest.mark.parametrize("dtype", HALVES)
def test_no_image_overflows_a_path_without_weights(dtype):
    torch.manual_seed(0)
    _check_extremes(SegFormer(SegFormerConfig(19, decoder_channels=32), MEAN, STD), dtype)


def test_statistics_of_large_features_do_not_overflow():
    """Their squares are beyond float16's 65504."""
    torch.manual_seed(0)
    network = SegFormer(SegFormerConfig(19, decoder_channels=32), MEAN, STD)
    for stage in network.encoder.stages:
        nn.init.constant_(stage.norm.weight, 500.0)
    _check_extremes(network, torch.float16)


def _shipped(dtype: torch.dtype) -> Step:
    checkpoint = load_checkpoint(resolve_model("camvid_efficientnet_lite0"))
    return Step(checkpoint.build_model(), checkpoint.mean, checkpoint.std, dtype=dtype)


@pytest.fixture(scope="module")
def shipped_logits(video) -> Tensor:
    return _streamed(_shipped(torch.float32), video[:3])[0]


@pytest.mark.parametrize(("dtype", "least"), [(torch.float16, 0.995), (torch.bfloat16, 0.98)])
def test_the_shipped_models_labels_stay(shipped_logits, video, dtype, least):
    """On a small picture of no scene, where more labels are close calls: docs/backends.md has CamVid's figures."""
    logits, _ = _streamed(_shipped(dtype), video[:3])
    equal = (logits.argmax(1) == shipped_logits.argmax(1)).float().mean()
    assert least <= equal
    assert (logits - shipped_logits).abs().max() > 0


def test_only_layers_are_converted(make_network):
    """Scales of attention and thresholds are a few numbers: rounding them would save nothing and move labels."""
    step = Step(make_network(), MEAN, STD, dtype=torch.bfloat16)
    assert step.model.head.classify.weight.dtype == torch.bfloat16
    kept = (step.mean, step.scale, step.model.dssa.log_scale, step.model.dssa.frame_fit)
    assert {tensor.dtype for tensor in kept} == {torch.float32}


@pytest.mark.parametrize(
    ("name", "device", "expected"),
    [
        ("auto", CPU, torch.float32),
        ("auto", GPU, torch.float16),
        ("float32", GPU, torch.float32),
        ("bfloat16", CPU, torch.bfloat16),
        ("float16", CPU, torch.float16),
    ],
)
def test_auto_is_half_precision_on_a_gpu_only(make_network, name, device, expected):
    assert checked_precision(name, device, make_network()) is expected


def test_a_gpu_without_bfloat16_is_named(make_network, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 2))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Xavier")
    with pytest.raises(BackendError, match=r"capability 8\.0 or later; Xavier is older"):
        checked_precision("bfloat16", GPU, make_network())


def test_another_precision_is_answered_with_those_there_are(make_network):
    with pytest.raises(BackendError, match=f"precision is 'int8'; allowed: {', '.join(PRECISIONS)}"):
        checked_precision("int8", CPU, make_network())


def test_an_imported_onnx_model_keeps_its_own():
    model = SimpleNamespace(compiles=False)
    assert checked_precision("auto", GPU, model) is torch.float32
    with pytest.raises(BackendError, match="'float16' is not possible for an imported ONNX model"):
        checked_precision("float16", GPU, model)
