"""Clip augmentation: one draw of scale, crop, flip and colour for all frames of a clip, so that motion stays motion."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from sdcpc_ros.label_set import IGNORE


def augment_clip(
    images: list[np.ndarray],
    labels: np.ndarray,
    *,
    crop_size: tuple[int, int],
    scale_range: tuple[float, float],
    rng: np.random.Generator,
) -> tuple[list[np.ndarray], np.ndarray]:
    """images: (H, W, 3) uint8 RGB each; labels: (H, W) uint8 of the last one. Returns the same at crop_size.

    What the crop adds beyond the frame is the clip's mean colour and void.
    """
    scale = float(np.exp(rng.uniform(*np.log(scale_range))))
    height, width = labels.shape
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    interpolation = cv2.INTER_LINEAR if scale > 1 else cv2.INTER_AREA
    images = [cv2.resize(image, size, interpolation=interpolation) for image in images]
    labels = cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST)

    height, width = crop_size
    below, right = max(0, height - labels.shape[0]), max(0, width - labels.shape[1])
    if below or right:
        colour = [float(value) for value in images[-1].reshape(-1, 3).mean(0)]
        images = [cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_CONSTANT, value=colour) for image in images]
        labels = cv2.copyMakeBorder(labels, 0, below, 0, right, cv2.BORDER_CONSTANT, value=[IGNORE])
    top = int(rng.integers(labels.shape[0] - height + 1))
    left = int(rng.integers(labels.shape[1] - width + 1))
    window = np.s_[top : top + height, left : left + width]
    images, labels = [image[window] for image in images], labels[window]
    if rng.random() < 0.5:
        images, labels = [image[:, ::-1] for image in images], labels[:, ::-1]
    images = _photometric(images, rng)
    return [np.ascontiguousarray(image) for image in images], np.ascontiguousarray(labels)


def pseudo_clip(image: np.ndarray, ages: Sequence[int], rng: np.random.Generator) -> list[np.ndarray]:
    """A clip whose last frame is `image`, its past made up by a smooth zoom, drift and change of light.

    For labelled frames whose true neighbours are missing, or seconds away: what a forward-driving camera would have
    seen a few tenths of a second before, but for parallax. ages: of the earlier frames, in fifteenths of a second,
    nearest first. (H, W, 3) uint8 RGB in; out come the earlier ones, oldest first, and the image.
    """
    height, width = image.shape[:2]
    zoom = rng.uniform(-0.002, 0.017)  # per frame: the past lies further from what the camera drives towards
    drift = rng.normal(0, 0.003, 2) * (width, height)
    centre = np.array([width, height]) * rng.uniform(0.4, 0.6, 2)
    light = rng.normal(0, 0.01)
    clip = []
    for age in reversed(ages):
        factor = (1 + zoom) ** -age
        shift = centre * (1 - factor) + drift * age + rng.normal(0, 0.5, 2)
        matrix = np.array([[factor, 0, shift[0]], [0, factor, shift[1]]])
        past = cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
        noise = rng.normal(0, rng.uniform(0, 4), (height, width, 1))
        clip.append(np.clip(past * (1 + light * age) + noise, 0, 255).astype(np.uint8))
    return [*clip, image]


def sensor_noise(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(H, W, 3) uint8 as another exposure of the scene would give it: grain, sometimes JPEG blocks, a change of light.

    Drawn anew for each frame of a clip. Were the frames of a made-up past as alike as copies, so would be the mistakes
    in them, and remembering would gain nothing.
    """
    grain = rng.normal(0, rng.uniform(0, 6), image.shape)
    noisy = np.clip(image * rng.uniform(0.96, 1.04) + grain, 0, 255).astype(np.uint8)
    if rng.random() < 0.6:
        return noisy
    _, coded = cv2.imencode(".jpg", noisy, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(40, 95))])
    return np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR))


def disturb(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A copy of (H, W, 3) uint8 with a few rectangles blurred, noisy, washed out or hidden.

    For the newest frame of a clip: what glare, a drop on the lens or a passing wiper hides, earlier frames still show,
    and only where they know more than the newest frame is there anything for the temporal path to learn.
    """
    image = image.copy()
    height, width = image.shape[:2]
    for _ in range(rng.integers(1, 5)):
        h, w = (max(2, int(side * rng.uniform(0.1, 0.4))) for side in (height, width))
        y, x = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
        patch: np.ndarray = image[y : y + h, x : x + w].astype(np.float32)
        damage = int(rng.integers(4))
        if damage == 0:
            patch = cv2.GaussianBlur(patch, (0, 0), rng.uniform(2, 6))
        elif damage == 1:
            patch += rng.normal(0, rng.uniform(20, 60), patch.shape)
        elif damage == 2:
            patch = patch * rng.uniform(0.1, 0.4) + rng.uniform(100, 150)
        else:
            patch[:] = patch.mean((0, 1))
        image[y : y + h, x : x + w] = np.clip(patch, 0, 255).astype(np.uint8)
    return image


def _photometric(images: list[np.ndarray], rng: np.random.Generator) -> list[np.ndarray]:
    """Brightness, contrast, colour cast and gamma as one look-up table a channel; sometimes a little blur."""
    values = np.arange(256) / 255
    gamma, contrast, brightness = np.exp(rng.normal(0, 0.15)), rng.uniform(0.8, 1.2), rng.normal(0, 0.04)
    cast = np.exp(rng.normal(0, 0.06, 3))
    table = (values[:, None] ** gamma - 0.5) * contrast + 0.5 + brightness
    lut = np.clip(table * cast * 255, 0, 255).astype(np.uint8)[None]  # (1, 256, 3)
    images = [cv2.LUT(np.ascontiguousarray(image), lut) for image in images]
    if rng.random() < 0.2:
        sigma = rng.uniform(0.3, 1.0)
        images = [cv2.GaussianBlur(image, (0, 0), sigma) for image in images]
    return images
