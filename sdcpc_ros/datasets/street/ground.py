"""Road, pavement and grass."""

from __future__ import annotations

import cv2
import numpy as np

from sdcpc_ros.datasets.street.textures import Colour, Texture, mottled, noise, speckle

SCALE = 32.0  # texels a metre
WHITE, YELLOW = (222, 222, 215), (196, 168, 70)


def _asphalt(rng: np.random.Generator, size: tuple[int, int], colour: Colour) -> np.ndarray:
    """Grain, wheel tracks along the rows, repaired patches, cracks, perhaps a manhole: (h, w, 3) float32."""
    height, width = size
    colour = np.asarray(colour, np.float64)
    picture = mottled(rng, size, colour, 0.045, 48) * speckle(rng, size, 0.055)
    tracks = cv2.GaussianBlur(rng.standard_normal((1, width)).astype(np.float32), (0, 0), width / 40)
    picture *= (1 + 0.5 * tracks)[..., None]
    for _ in range(rng.integers(0, 3)):
        x, y = int(rng.integers(0, width)), int(rng.integers(0, height))
        w, h = int(rng.integers(width // 12, width // 4)), int(rng.integers(height // 12, height // 3))
        picture[y : y + h, x : x + w] *= rng.uniform(0.78, 0.93)
    for _ in range(rng.integers(0, 3)):
        steps = np.cumsum(rng.normal(0, 6, (14, 2)) + rng.normal(0, 5, 2), axis=0)
        line = (steps + rng.uniform(0, 1, 2) * (width, height)).astype(np.int32)
        cv2.polylines(picture, [line], False, (colour * 0.65).tolist(), 1)
    if rng.random() < 0.5:
        centre = (int(rng.uniform(0.25, 0.75) * width), int(rng.uniform(0.1, 0.9) * height))
        cv2.circle(picture, centre, 10, (colour * 0.85).tolist(), -1)
        cv2.circle(picture, centre, 8, (colour * 0.6).tolist(), -1)
    return picture


def road(
    rng: np.random.Generator, size_m: tuple[float, float], colour: Colour, *, edge_lines: int, dash_m: float
) -> Texture:
    """A tile of road of `size_m` (length, width) with a centre line in dashes, and yellow lines along each kerb.

    dash_m: length of a dash; 0 paints a zebra crossing in the middle instead.
    """
    height, width = size = (int(size_m[0] * SCALE), int(size_m[1] * SCALE))
    picture = _asphalt(rng, size, colour)
    wear = np.clip(0.8 + 0.25 * noise(rng, size, 10), 0, 1)[..., None]
    white, yellow = np.zeros(size, bool), np.zeros(size, bool)
    dash, stripe = int(dash_m * SCALE), int(0.5 * SCALE)
    if dash:
        for start in range(0, height, 2 * dash):
            white[start : start + dash, width // 2 - 2 : width // 2 + 2] = True
    else:
        for x in range(stripe // 2, width - stripe, 2 * stripe):
            white[height // 2 - 3 * stripe : height // 2 + 3 * stripe, x : x + stripe] = True
    for line in range(edge_lines):
        offset = int((0.3 + 0.2 * line) * SCALE)
        yellow[:, offset : offset + 3] = yellow[:, -offset - 3 : -offset] = True
    for stencil, paint in ((white, WHITE), (yellow, YELLOW)):
        picture[stencil] += ((np.asarray(paint, np.float32) - picture) * wear)[stencil]
    gutter = int(0.25 * SCALE)
    picture[:, :gutter] *= 0.82
    picture[:, -gutter:] *= 0.82
    return Texture.of(picture)


def slabs(rng: np.random.Generator, width_m: float, length_m: float, colour: Colour, slab_m: float) -> Texture:
    """A pavement of slabs with joints; kerb stones run along both long sides."""
    size = (int(length_m * SCALE), max(16, int(width_m * SCALE)))
    step = max(6, int(slab_m * SCALE))
    tone = 1 + 0.06 * rng.standard_normal((size[0] // step + 1, size[1] // step + 1, 1)).astype(np.float32)
    tone = np.repeat(np.repeat(tone, step, 0), step, 1)[: size[0], : size[1]]
    picture = mottled(rng, size, colour, 0.06, 40) * tone * speckle(rng, size, 0.05)
    picture[::step] *= 0.72
    picture[:, ::step] *= 0.72
    kerb = int(0.22 * SCALE)
    for side in (slice(0, kerb), slice(size[1] - kerb, size[1])):
        picture[:, side] = picture[:, side] * 0.4 + 0.73 * np.asarray(colour, np.float32)
        picture[:: int(0.9 * SCALE), side] *= 0.7
    return Texture.of(picture)


def grass(rng: np.random.Generator, size: tuple[int, int], colour: Colour) -> Texture:
    picture = mottled(rng, size, colour, 0.14, 60) * speckle(rng, size, 0.16)
    picture[..., 0] *= 1 + 0.10 * noise(rng, size, 90)  # dry patches
    return Texture.of(picture)
