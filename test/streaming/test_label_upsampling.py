"""Labels at image size against interpolation of all classes."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from sdcpc_ros.streaming import label_upsampling
from sdcpc_ros.streaming.label_upsampling import DeviceLabels, labels_from_logits


@settings(max_examples=30)
@given(
    seed=st.integers(0, 2**16),
    classes=st.integers(1, 12),
    size=st.tuples(st.integers(1, 90), st.integers(1, 60)),  # several tiles
    factor=st.floats(0.5, 5),
)
def test_labels_are_the_argmax_of_interpolated_logits(seed, classes, size, factor):
    logits = np.random.default_rng(seed).normal(size=(classes, *size)).astype(np.float32)
    target = (max(1, round(size[0] * factor)), max(1, round(size[1] * factor)))
    labels = labels_from_logits(logits, target)
    full = F.interpolate(torch.from_numpy(logits)[None], target, mode="bilinear", align_corners=False)[0]
    chosen = full.gather(0, torch.from_numpy(labels).long()[None])[0]
    torch.testing.assert_close(chosen, full.amax(0), atol=1e-5, rtol=0)  # of two that are all but equal, either
    on_device = DeviceLabels(size, target, torch.device("cpu"))(torch.from_numpy(logits))
    assert on_device.dtype == torch.uint8 and on_device.shape == target
    chosen = full.gather(0, on_device.long()[None])[0]
    torch.testing.assert_close(chosen, full.amax(0), atol=1e-5, rtol=0)


def test_a_class_that_can_win_nowhere_is_not_needed():
    """What is left out for speed must change nothing: mostly smooth logits, of which few classes win."""
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.normal(size=(1, 19, 3, 4)).astype(np.float32))
    logits = F.interpolate(coarse, (24, 32), mode="bicubic", align_corners=False)[0]
    full = F.interpolate(logits[None], (96, 128), mode="bilinear", align_corners=False)[0]
    assert (labels_from_logits(logits.numpy(), (96, 128)) == full.argmax(0).numpy()).mean() > 0.9999


def test_a_tile_of_one_row_or_column():
    logits = np.random.default_rng(0).normal(size=(4, 33, 33)).astype(np.float32)
    full = F.interpolate(torch.from_numpy(logits)[None], (129, 129), mode="bilinear", align_corners=False)[0]
    assert (labels_from_logits(logits, (129, 129)) == full.argmax(0).numpy()).mean() > 0.9999


def test_a_device_works_on_bands_of_rows(monkeypatch):
    monkeypatch.setattr(label_upsampling, "_BAND_NUMBERS", 500)  # three rows of 5 classes at a time
    logits = torch.randn(5, 9, 11, generator=torch.Generator().manual_seed(0))
    full = F.interpolate(logits[None], (32, 33), mode="bilinear", align_corners=False)[0]
    labels = DeviceLabels((9, 11), (32, 33), torch.device("cpu"))(logits)
    assert (labels == full.argmax(0)).all()


def test_of_equal_logits_the_lower_class_wins():
    assert (labels_from_logits(np.zeros((4, 3, 3), np.float32), (6, 6)) == 0).all()
    assert (DeviceLabels((3, 3), (6, 6), torch.device("cpu"))(torch.zeros(4, 3, 3)) == 0).all()
