"""Labels at image size against interpolation of all classes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sdcpc_ros import DEFAULT_MODEL
from sdcpc_ros.datasets.camvid import CamVid
from sdcpc_ros.datasets.synthetic_street import SyntheticStreet
from sdcpc_ros.model_files.checkpoint import load_checkpoint, resolve_model
from sdcpc_ros.streaming import frame_runner, label_upsampling
from sdcpc_ros.streaming.label_upsampling import DeviceLabels, labels_from_logits
from sdcpc_ros.streaming.segmenter import StreamingSegmenter


def _interpolated(logits: np.ndarray, size: tuple[int, int]) -> torch.Tensor:
    """(C, h, w) -> (C, H, W), by PyTorch."""
    whole = torch.from_numpy(np.ascontiguousarray(logits))[None]
    return F.interpolate(whole, size, mode="bilinear", align_corners=False)[0]


def _by_pytorch(logits: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return _interpolated(logits, size).argmax(0).numpy()


def _classes_last(logits: np.ndarray) -> np.ndarray:
    """The same numbers in PyTorch's channels_last order of memory, as the network leaves them."""
    return np.ascontiguousarray(logits.transpose(1, 2, 0)).transpose(2, 0, 1)


def _on_device(logits: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    shape = (logits.shape[-2], logits.shape[-1])
    return DeviceLabels(shape, size, torch.device("cpu"))(torch.from_numpy(logits)).numpy()


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**16),
    classes=st.integers(1, 9),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    factors=st.tuples(st.sampled_from((0.5, 1, 2, 4, 8)), st.sampled_from((0.5, 1, 2, 4, 8))),
    spread=st.integers(0, 8),
    patch=st.integers(1, 6),
)
def test_labels_are_exactly_those_of_interpolation(seed, classes, size, factors, spread, patch):
    """Small whole numbers and powers of two, so that float32 is exact: every pixel must agree, ties and borders too."""
    rng = np.random.default_rng(seed)
    logits = rng.integers(-spread, spread, (classes, *size), endpoint=True).astype(np.float32)
    logits = logits.repeat(patch, 1)[:, : size[0]].repeat(patch, 2)[:, :, : size[1]]  # areas of one class, too
    target = (int(size[0] * factors[0]), int(size[1] * factors[1]))
    assume(target == (size[0] * factors[0], size[1] * factors[1]))  # not half of an odd number
    expected = _by_pytorch(logits, target)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(label_upsampling, "BLOCK_NUMBERS", 512)  # several blocks of cells
        for found in (labels_from_logits(logits, target), labels_from_logits(_classes_last(logits), target)):
            assert found.dtype == np.uint8 and (found == expected).all()
    assert (_on_device(logits, target) == expected).all()


@settings(max_examples=30)
@given(
    seed=st.integers(0, 2**16),
    classes=st.integers(1, 12),
    size=st.tuples(st.integers(1, 90), st.integers(1, 60)),
    factors=st.tuples(st.floats(0.5, 9), st.floats(0.5, 5)),
)
def test_at_any_ratio_the_class_chosen_is_a_largest_one(seed, classes, size, factors):
    logits = np.random.default_rng(seed).normal(size=(classes, *size)).astype(np.float32)
    target = tuple(max(1, round(side * factor)) for side, factor in zip(size, factors))
    full = _interpolated(logits, target)
    for labels in (labels_from_logits(logits, target), _on_device(logits, target)):
        assert labels.dtype == np.uint8 and labels.shape == target
        chosen = full.gather(0, torch.from_numpy(labels).long()[None])[0]
        # Of two that are all but equal, either: PyTorch itself rounds by the processor and the order in memory.
        torch.testing.assert_close(chosen, full.amax(0), atol=2e-6, rtol=0)


def test_the_weights_are_those_of_pytorch():
    """To the last bit where the processor multiplies and adds at once, or a position's last bit apart."""
    for samples, pixels in ((94, 720), (166, 1280), (108, 360), (7, 7), (1, 9), (9, 1), (200, 90), (3, 1000)):
        axis = label_upsampling.sample_axis(samples, pixels)
        weights = np.zeros((samples, pixels), np.float32)
        weights[axis.before[axis.cell], np.arange(pixels)] += 1 - axis.weight
        weights[axis.after[axis.cell], np.arange(pixels)] += axis.weight
        expected = F.interpolate(torch.eye(samples)[None], pixels, mode="linear", align_corners=False)[0].numpy()
        np.testing.assert_allclose(weights, expected, atol=samples * 2**-22, rtol=0)


@pytest.mark.parametrize("where", ["a street of our own", "CamVid"])
def test_real_logits_give_the_labels_of_interpolation(where, monkeypatch):
    if where == "CamVid":
        root = Path(os.environ.get("SDCPC_CAMVID") or Path(__file__).parents[3] / "shared" / "camvid")
        if not (root / "val").is_dir():
            pytest.skip(f"no CamVid at {root}; set SDCPC_CAMVID to its folder")
        image = CamVid(root, "val")[40][0]
    else:
        image = SyntheticStreet(seed=7, length=1).image(0)
    seen: list[np.ndarray] = []

    def keep(logits: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        seen.append(logits)
        return labels_from_logits(logits, size)

    monkeypatch.setattr(frame_runner, "labels_from_logits", keep)
    segmenter = StreamingSegmenter(load_checkpoint(resolve_model(DEFAULT_MODEL)))
    shown = segmenter.segment_single(image).labels
    (logits,) = seen
    for size in (shown.shape, (720, 1280)):
        full = _interpolated(logits, size)
        labels = shown if size == shown.shape else labels_from_logits(logits, size)
        differ = torch.from_numpy(labels) != full.argmax(0)
        assert differ.sum() <= 2  # where two classes are equal but for rounding
        chosen = full.gather(0, torch.from_numpy(labels).long()[None])[0]
        torch.testing.assert_close(chosen, full.amax(0), atol=1e-5, rtol=0)


def test_a_class_between_two_others_is_not_lost():
    """It is the largest at none of the four samples, and yet in the middle."""
    logits = np.array([[[9, 0], [9, 0]], [[0, 9], [0, 9]], [[6, 6], [6, 6]]], np.float32)
    labels = labels_from_logits(logits, (16, 16))
    assert set(np.unique(labels)) == {0, 1, 2}
    assert (labels == _by_pytorch(logits, (16, 16))).all()


def test_many_classes_in_a_cell():
    logits = np.random.default_rng(0).normal(size=(256, 12, 12)).astype(np.float32)  # up to dozens in each
    assert (labels_from_logits(logits, (96, 96)) == _by_pytorch(logits, (96, 96))).mean() > 0.999


def test_a_batch_on_a_device_is_its_images():
    logits = np.random.default_rng(0).normal(size=(3, 5, 9, 11)).astype(np.float32)
    expected = np.stack([_by_pytorch(one, (32, 33)) for one in logits])
    labels = _on_device(logits, (32, 33))
    assert labels.dtype == np.uint8 and labels.shape == (3, 32, 33)
    assert (labels == expected).mean() > 0.999


def test_a_device_works_on_bands_of_rows(monkeypatch):
    monkeypatch.setattr(label_upsampling, "BAND_NUMBERS", 500)  # three rows of 5 classes at a time
    logits = np.random.default_rng(0).normal(size=(5, 9, 11)).astype(np.float32)
    assert (_on_device(logits, (32, 33)) == _by_pytorch(logits, (32, 33))).all()


def test_a_device_can_take_its_labels_as_one_graph():
    """Nothing on the way may wait for the device: then it traces, whatever the numbers are."""
    upsample = DeviceLabels((9, 11), (32, 33), torch.device("cpu"))
    example = torch.randn(1, 5, 9, 11, generator=torch.Generator().manual_seed(0))

    class Labels(torch.nn.Module):
        def forward(self, logits: torch.Tensor) -> torch.Tensor:
            return upsample(logits)

    program = torch.export.export(Labels(), (example,))
    other = torch.randn(example.shape, generator=torch.Generator().manual_seed(1))
    assert (program.module()(other) == upsample(other)).all()


def test_of_equal_logits_the_lower_class_wins():
    assert (labels_from_logits(np.zeros((4, 3, 3), np.float32), (6, 6)) == 0).all()
    assert (_on_device(np.zeros((4, 3, 3), np.float32), (6, 6)) == 0).all()
