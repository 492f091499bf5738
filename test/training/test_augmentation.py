"""Clip augmentation: images and labels stay together, and so do the frames of a clip."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdcpc_ros.label_set import IGNORE
from sdcpc_ros.training.augmentation import augment_clip, disturb, pseudo_clip


def _clip(frames=2, size=(60, 80)):
    """Images whose colour is their label: what belongs together can be seen."""
    labels = np.zeros(size, np.uint8)
    labels[:, size[1] // 2 :] = 1
    image = np.where(labels[..., None] == 1, 200, 50).astype(np.uint8).repeat(3, 2)
    return [image] * frames, labels


@settings(max_examples=30)
@given(seed=st.integers(0, 2**16), low=st.floats(0.4, 1.0), high=st.floats(1.0, 2.0))
def test_labels_stay_on_their_pixels(seed, low, high):
    images, labels = augment_clip(
        *_clip(), crop_size=(48, 64), scale_range=(low, high), rng=np.random.default_rng(seed)
    )
    assert labels.shape == (48, 64) and all(image.shape == (48, 64, 3) for image in images)
    assert set(np.unique(labels)) <= {0, 1, IGNORE}
    dark, bright = images[-1][labels == 0].mean(1), images[-1][labels == 1].mean(1)
    if dark.size and bright.size:
        edge = max(dark.size, bright.size) * 0.2  # pixels on the border mix
        assert np.median(dark) < np.median(bright)
        assert (dark > bright.max()).sum() <= edge


def test_all_frames_of_a_clip_get_the_same_draw():
    images, _ = augment_clip(*_clip(3), crop_size=(48, 64), scale_range=(0.7, 1.5), rng=np.random.default_rng(5))
    assert (images[0] == images[2]).all()


def test_one_seed_one_result():
    one, two = (
        augment_clip(*_clip(), crop_size=(48, 64), scale_range=(0.7, 1.5), rng=np.random.default_rng(9)) for _ in "ab"
    )
    assert (one[0][1] == two[0][1]).all() and (one[1] == two[1]).all()


def test_a_crop_beyond_the_frame_is_void():
    _, labels = augment_clip(*_clip(), crop_size=(120, 160), scale_range=(1, 1), rng=np.random.default_rng(0))
    assert (labels == IGNORE).sum() == 120 * 160 - 60 * 80


@pytest.mark.parametrize("ages", [(), (1,), (1, 4, 8)])
def test_a_pseudo_clip_ends_in_its_image(ages):
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    clip = pseudo_clip(image, ages, np.random.default_rng(1))
    assert len(clip) == len(ages) + 1
    assert clip[-1] is image
    assert all(frame.shape == image.shape and frame.dtype == np.uint8 for frame in clip)


def test_the_past_of_a_pseudo_clip_is_near_but_not_the_same():
    ramp = np.tile(np.arange(128, dtype=np.uint8)[None, :, None], (96, 1, 3))
    clip = pseudo_clip(ramp, (1, 4, 8), np.random.default_rng(2))
    differences = [np.abs(frame.astype(int) - ramp).mean() for frame in clip[:-1]]
    assert all(0 < difference < 40 for difference in differences)
    assert differences[0] > differences[2]  # the oldest, which comes first, is the furthest


@pytest.mark.parametrize("size", [(2, 2), (48, 64), (288, 384)])
def test_disturbing_spoils_a_part_of_a_copy(size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    before = image.copy()
    shares = []
    for seed in range(20):
        spoilt = disturb(image, np.random.default_rng(seed))
        assert spoilt.shape == image.shape and spoilt.dtype == np.uint8
        shares.append((spoilt != image).any(2).mean())
    assert (image == before).all()
    assert all(0 < share <= 1 for share in shares)
    if min(size) > 2:
        assert np.mean(shares) < 0.5
