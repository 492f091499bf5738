"""Sizes, and the way back to the image's own."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdcpc_ros.network import sdcpc
from sdcpc_ros.streaming import geometry
from sdcpc_ros.streaming.geometry import (
    MULTIPLE,
    confidence_from_probability,
    network_size,
    scaled_camera_matrix,
    to_network,
)


def test_an_image_of_the_models_size_is_seen_as_it_is():
    assert network_size((360, 480), (360, 480)) == (360, 480)


@given(st.integers(32, 4000), st.integers(32, 4000))
def test_other_images_keep_their_aspect_and_get_the_models_pixels(height, width):
    h, w = network_size((height, width), (360, 480))
    assert h % MULTIPLE == 0 and w % MULTIPLE == 0 and min(h, w) >= 32
    if 0.25 < height / width < 4:
        assert h * w == pytest.approx(360 * 480, rel=0.1)
        assert h / w == pytest.approx(height / width, rel=0.08)


def test_to_network_does_not_copy_what_fits():
    image = np.zeros((64, 96, 3), np.uint8)
    assert to_network(image, (64, 96)) is image


def test_to_network_averages_on_a_strong_reduction():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[::2] = 200
    assert (to_network(stripes, (16, 16)) == 100).all()


@pytest.mark.parametrize("shape", [(720, 1280), (722, 1280), (721, 1281)])
def test_a_very_strong_reduction_is_the_areas_average_all_the_same(shape):
    noise = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    found = to_network(noise, (80, 144)).astype(int)
    expected = cv2.resize(noise, (144, 80), interpolation=cv2.INTER_AREA).astype(int)
    # Of noise, areas that begin within a pixel average others; what aliases would differ by 74.
    assert np.abs(found - expected).mean() < 4 and abs(found.mean() - expected.mean()) < 0.5
    smooth = cv2.resize(noise[:9, :16], shape[::-1], interpolation=cv2.INTER_CUBIC)
    difference = to_network(smooth, (80, 144)).astype(int) - cv2.resize(smooth, (144, 80), interpolation=cv2.INTER_AREA)
    assert np.abs(difference).max() <= 3


def test_confidence_scales_to_255():
    confidence = confidence_from_probability(np.full((4, 5), 0.5, np.float32), (8, 10))
    assert confidence.dtype == np.uint8 and confidence.shape == (8, 10) and (confidence == 128).all()
    assert (confidence_from_probability(np.ones((2, 2), np.float32), (3, 3)) == 255).all()


def test_a_scaled_camera_sees_the_same_rays():
    """Project points with both matrices: the pixels are each other's, by cv2.resize's own convention."""
    matrix = np.array([[500.0, 0, 319.5], [0, 510, 239.5], [0, 0, 1]])
    scaled = scaled_camera_matrix(matrix, (480, 640), (240, 160))
    points = np.random.default_rng(0).uniform([[-1], [-1], [2]], [[1], [1], [4]], (3, 20))
    pixels, small = matrix @ points, scaled @ points
    pixels, small = pixels[:2] / pixels[2], small[:2] / small[2]
    np.testing.assert_allclose((small + 0.5) / [[160 / 640], [240 / 480]] - 0.5, pixels, atol=1e-9)


def test_a_projection_matrix_scales_too():
    projection = np.array([[500.0, 0, 320, -50], [0, 500, 240, 0], [0, 0, 1, 0]])
    scaled = scaled_camera_matrix(projection, (480, 640), (240, 320))
    np.testing.assert_allclose(scaled[0], [250, 0, 159.75, -25])
    np.testing.assert_allclose(scaled[2], [0, 0, 1, 0])


def test_camera_and_resize_agree():
    """A dot at a known ray lands where the scaled camera says, when the image is resized by OpenCV."""
    image = np.zeros((480, 640), np.float32)
    image[200:204, 400:404] = 1  # centred on (401.5, 201.5)
    small = cv2.resize(image, (160, 120), interpolation=cv2.INTER_AREA)
    ys, xs = np.nonzero(small)
    matrix = np.array([[1.0, 0, 401.5], [0, 1, 201.5], [0, 0, 1]])
    scaled = scaled_camera_matrix(matrix, (480, 640), (120, 160))
    assert (xs.mean(), ys.mean()) == pytest.approx((scaled[0, 2], scaled[1, 2]))


def test_the_smallest_side_is_the_networks_own():
    assert geometry.MIN_SIDE == sdcpc.MIN_SIDE
