"""DSSA without weights: what it leaves alone, what it steadies, and the memory that it leaves."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sdcpc_ros.network import FrameMemory
from sdcpc_ros.network.steadied import SteadiedConfig, SteadiedNetwork
from sdcpc_ros.network.weightless import COLOURS, PatchFeatures

CLASSES, H, W = 4, 128, 192
MEAN, STD = (120.0, 115.0, 110.0), (60.0, 55.0, 50.0)


class Given(SteadiedNetwork):
    """A segmenter whose logits are set by the test."""

    logits: Tensor

    def segment(self, image: Tensor) -> Tensor:
        return self.logits.expand(len(image), -1, -1, -1)


@pytest.fixture
def network() -> Given:
    return Given(SteadiedConfig(CLASSES), MEAN, STD).eval()


def _picture(seed: int) -> Tensor:
    """(1, 3, H, W), normalised: something to match, smooth at the scale of a few pixels."""
    noise = torch.rand(1, 3, H // 6, W // 6, generator=torch.Generator().manual_seed(seed))
    pixels = 255 * F.interpolate(noise, (H, W), mode="bicubic").clamp(0, 1)
    return (pixels - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def _logits(first: float, stride: int = 4) -> Tensor:
    """Everywhere class 0 at `first`, class 1 at 0, the others far below."""
    logits = torch.full((1, CLASSES, H // stride, W // stride), -6.0)
    logits[:, 0], logits[:, 1] = first, 0.0
    return logits


def _stacked(*memories: FrameMemory) -> FrameMemory:
    return FrameMemory(*(torch.stack(parts, 1) for parts in zip(*memories)))


def _second(network: Given, pictures: tuple[Tensor, Tensor], logits: tuple[Tensor, Tensor], age_s: float = 1 / 15):
    """The logits of a second frame with the first as its one reference."""
    network.logits = logits[0]
    first = network.encode(pictures[0])
    network.logits = logits[1]
    second = network.encode(pictures[1])
    return network.aggregate(second, _stacked(first.memory), torch.tensor([[age_s]]))[0]


def test_a_doubtful_frame_takes_the_class_of_its_reference(network: Given) -> None:
    picture = _picture(0)
    steady = _second(network, (picture, picture), (_logits(2.0), _logits(-0.1)))
    assert (steady.argmax(1) == 0).float().mean() > 0.9


def test_references_are_found_where_the_scene_has_moved(network: Given) -> None:
    logits = _logits(2.0)
    logits[..., : W // 8] = _logits(-2.0)[..., : W // 8]  # two halves
    moved = logits.roll(8, 3)
    doubtful = 0.02 * moved
    steady = _second(network, (_picture(0), _picture(0).roll(32, 3)), (logits, doubtful))
    inside = (slice(None), slice(None), slice(14, W // 4 - 14))  # what came in at the border has no reference
    assert (steady.argmax(1)[inside] == moved.argmax(1)[inside]).float().mean() > 0.95
    assert (steady[:, :2].diff(dim=1).abs() > doubtful[:, :2].diff(dim=1).abs())[..., 14:-14].float().mean() > 0.8


def test_a_sure_frame_keeps_its_classes(network: Given) -> None:
    picture = _picture(0)
    own = _logits(-8.0)
    assert torch.allclose(
        _second(network, (picture, picture), (_logits(8.0), own)).softmax(1), own.softmax(1), atol=0.02
    )


def test_after_a_cut_nothing_changes(network: Given) -> None:
    own = _logits(-0.1)
    assert torch.equal(_second(network, (_picture(0), _picture(1)), (_logits(2.0), own)), own)


def test_trust_falls_with_age(network: Given) -> None:
    picture, logits = _picture(0), (_logits(2.0), _logits(-0.1))
    changes = [(_second(network, (picture, picture), logits, age_s) - logits[1])[:, 0].mean() for age_s in (0.1, 1, 4)]
    assert changes[0] > 2 * changes[1] > 8 * changes[2] > 0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_a_model_gets_wrong_once_does_not_stay(network: Given, value: float) -> None:
    broken = _logits(2.0)
    broken[:, 1, ::2] = value
    broken[:, :, 3] = value
    steady = _second(network, (_picture(0), _picture(0)), (broken, _logits(-0.1)))
    assert steady.isfinite().all()


def test_missing_references_take_no_part(network: Given) -> None:
    picture = _picture(0)
    network.logits = _logits(2.0)
    first = network.encode(picture).memory
    network.logits = _logits(-0.1)
    frame = network.encode(picture)
    garbage = FrameMemory(*(torch.full_like(part, 1e6) for part in first))
    alone, _ = network.aggregate(frame, _stacked(first), torch.tensor([[0.1]]))
    beside, _ = network.aggregate(frame, _stacked(garbage, first), torch.tensor([[-1.0, 0.1]]))
    assert torch.allclose(alone, beside, atol=1e-5)
    assert torch.equal(network.aggregate(frame, _stacked(garbage), torch.tensor([[-1.0]]))[0], frame.logits)


def test_a_thin_thing_is_spared(network: Given) -> None:
    picture, own = _picture(0), _logits(-6.0)
    own[..., ::2] = _logits(6.0)[..., ::2]  # stripes of one cell at stride 4: at stride 8 nothing is sure
    assert torch.allclose(
        _second(network, (picture, picture), (_logits(4.0), own)).softmax(1), own.softmax(1), atol=0.1
    )


@pytest.mark.parametrize("stride", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("size", [(64, 96), (70, 99)])
def test_logits_of_any_stride_leave_memory_of_one_shape(network: Given, stride: int, size: tuple[int, int]) -> None:
    network.logits = torch.randn(1, CLASSES, -(-size[0] // stride), -(-size[1] // stride))
    frame = network.encode(torch.randn(1, 3, *size))
    shapes = network.memory_shapes(size)
    assert [tuple(part.shape[1:]) for part in frame.memory] == list(shapes)
    best = frame.memory.fine[:, COLOURS:].amax(1)
    assert torch.equal(best, torch.zeros_like(best))
    logits, memory = network.aggregate(frame, _stacked(frame.memory), torch.tensor([[0.1]]))
    assert logits.shape == network.logits.shape
    assert [part.shape for part in memory] == [part.shape for part in frame.memory]


def test_without_the_temporal_path_the_logits_are_the_segmenters() -> None:
    network = Given(SteadiedConfig(CLASSES, temporal=False), MEAN, STD)
    picture, own = _picture(0), _logits(-0.1)
    assert torch.equal(_second(network, (picture, picture), (_logits(2.0), own)), own)


def test_patches_see_structure_and_not_exposure() -> None:
    def cosine(a: Tensor, b: Tensor) -> float:
        first, second = (PatchFeatures(MEAN, STD)(x)[1] for x in (a, b))
        return F.cosine_similarity(first, second, 1).mean().item()

    picture, other = (torch.rand(1, 3, H, W, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    picture, other = (F.avg_pool2d(F.interpolate(noise, scale_factor=12), 5, 1) * 4 for noise in (picture, other))
    assert cosine(picture, picture + 0.1) > 0.95
    assert cosine(picture, other) < 0.6


@pytest.mark.parametrize("size", [(64, 96), (70, 99)])
def test_a_descriptor_is_the_patch_and_its_colour(size: tuple[int, int]) -> None:
    pixels = 255 * torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
    normalised = (pixels - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    quarter = F.avg_pool2d(pixels, 4, ceil_mode=True, count_include_pad=False)
    half = F.avg_pool2d(quarter, 2, ceil_mode=True, count_include_pad=False)
    colours, patches = PatchFeatures(MEAN, STD)(normalised)
    assert torch.allclose(colours, quarter / 255, atol=1e-5)
    assert patches.shape[2:] == (-(-size[0] // 16), -(-size[1] // 16))
    patch = half.mean(1)[0, 3:7, 3:7]  # around position (2, 2): two rows and columns on either side of its middle
    found = patches[0, :, 2, 2]
    assert torch.allclose(found[:16], (patch - patch.mean()).flatten() / 4, atol=1e-3)
    middle = half[0, :, 4:6, 4:6].mean((1, 2))
    assert torch.allclose(found[16:18], 2 * (middle - middle.mean())[::2], atol=1e-3)
    assert found[18].item() == pytest.approx((patch.mean().item() - 128) / 2, abs=1e-3)


def test_what_is_remembered_are_the_classes_of_the_result(network: Given) -> None:
    picture = _picture(0)
    network.logits = _logits(2.0)
    first = network.encode(picture)
    network.logits = _logits(-0.1)
    frame = network.encode(picture)
    logits, memory = network.aggregate(frame, _stacked(first.memory), torch.tensor([[1 / 15]]))
    remembered = memory.fine[:, COLOURS:]
    assert torch.allclose(remembered.softmax(1), logits.softmax(1), atol=1e-5)
    assert (remembered - frame.memory.fine[:, COLOURS:]).abs().mean() > 0.5
    assert torch.equal(memory.fine[:, :COLOURS], frame.memory.fine[:, :COLOURS])


def test_the_path_can_be_exported_with_persistence() -> None:
    network = Given(SteadiedConfig(CLASSES, persistence=1.0, reference_offsets=(1, 2)), MEAN, STD)
    network.logits = _logits(-0.1)
    frame = network.encode(_picture(0))
    arguments = (frame, _stacked(frame.memory, frame.memory), torch.tensor([[0.1, 0.2]]))
    program = torch.export.export(_Aggregate(network), arguments).module()
    expected, found = network.aggregate(*arguments), program(*arguments)
    assert torch.allclose(found[0], expected[0], atol=1e-4)
    assert torch.allclose(found[1].fine, expected[1].fine, atol=1e-4)


class _Aggregate(torch.nn.Module):
    def __init__(self, network: Given) -> None:
        super().__init__()
        self.network = network

    def forward(self, frame, references: FrameMemory, age_s: Tensor):
        return self.network.aggregate(frame, references, age_s)


def test_persistence_keeps_the_class_of_the_past() -> None:
    picture, logits = _picture(0), (_logits(0.4), _logits(-0.6))
    lukewarm = Given(SteadiedConfig(CLASSES), MEAN, STD)
    steady = Given(SteadiedConfig(CLASSES, persistence=2.0), MEAN, STD)
    margins = [_second(network, (picture, picture), logits).diff(dim=1)[:, 0].mean() for network in (lukewarm, steady)]
    assert margins[1] < margins[0] - 1


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("num_classes", 0, "1..255"),
        ("reference_offsets", (3, 1), "increasing"),
        ("coarse_radius", 9, "0..8"),
        ("temporal", 1, "true or false"),
        ("persistence", True, "0..8"),
    ],
)
def test_a_bad_configuration_is_named(field: str, value: object, allowed: str) -> None:
    with pytest.raises(ValueError, match=f"{field} is .*{allowed}"):
        SteadiedConfig.from_dict({"num_classes": CLASSES, field: value})


def test_an_unknown_field_is_named() -> None:
    with pytest.raises(ValueError, match="unknown field flow; known are coarse_radius"):
        SteadiedConfig.from_dict({"num_classes": CLASSES, "flow": 1})
