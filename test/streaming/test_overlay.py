"""The overlay against its definition, one pixel at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdcpc_ros.labels.label_set import CAMVID_11, IGNORE
from sdcpc_ros.streaming.overlay import OverlayPainter


@given(
    size=st.tuples(st.integers(1, 8), st.integers(1, 8)),
    opacity=st.floats(0, 1),
    seed=st.integers(0, 2**32 - 1),
)
def test_colours_are_blended_and_unlabelled_pixels_left(size, opacity, seed):
    random = np.random.default_rng(seed)
    image = random.integers(0, 256, (*size, 3), np.uint8)
    labels = random.choice([*range(len(CAMVID_11)), IGNORE], size).astype(np.uint8)
    painted = OverlayPainter(CAMVID_11).paint(image, labels, opacity)
    for row, column in np.ndindex(size):
        pixel, label = image[row, column].astype(float), labels[row, column]
        if label != IGNORE:
            pixel = pixel * (1 - opacity) + np.array(CAMVID_11.colours[label]) * opacity
        assert painted[row, column].tolist() == pytest.approx(pixel.tolist(), abs=1)


def test_the_image_itself_is_not_painted_on():
    image, labels = np.zeros((4, 5, 3), np.uint8), np.full((4, 5), 3, np.uint8)
    image.setflags(write=False)  # as a view into a received message may be
    assert OverlayPainter(CAMVID_11).paint(image, labels, 1.0)[0, 0].tolist() == list(CAMVID_11.colours[3])
