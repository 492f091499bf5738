"""Weather: sunlight on surfaces, the sky, haze and exposure, and the shadows that the sun casts."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from sdcpc_ros.datasets.street.textures import Colour, Texture, mottled, noise


class _Day(NamedTuple):
    """One kind of day. `sun` is the share of light that the sun itself sends, `shadow` what a shadow takes of it."""

    sun: float
    height: float  # of the sun, as the tangent of its angle
    shadow: float
    cloud: float  # 0 clear .. 1 overcast
    visibility_m: float
    gain: float
    warmth: float
    sunlight: tuple[float, float, float]
    zenith: tuple[float, float, float]
    horizon: tuple[float, float, float]


_DAYS = (
    _Day(0.85, 0.75, 0.55, 0.25, 700, 1.06, 0.01, (1.06, 1.0, 0.9), (92, 138, 202), (206, 220, 232)),
    _Day(0.50, 0.60, 0.32, 0.55, 260, 1.00, 0.00, (1.06, 1.0, 0.9), (158, 182, 206), (226, 228, 226)),
    _Day(0.12, 0.90, 0.12, 1.00, 330, 0.92, -0.02, (1.0, 1.0, 1.0), (206, 210, 214), (232, 233, 234)),
    _Day(0.75, 0.34, 0.45, 0.35, 420, 1.04, 0.035, (1.16, 0.99, 0.78), (118, 144, 190), (240, 218, 186)),
)  # fmt: skip
_CHANCES = (0.42, 0.2, 0.26, 0.12)


class Weather:
    """The day of a street: its light, air and camera settings."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._day = day = _DAYS[rng.choice(len(_DAYS), p=_CHANCES)]
        azimuth = rng.uniform(0, 2 * np.pi)
        towards_sun = np.array([np.cos(azimuth), day.height, np.sin(azimuth)])
        self._towards_sun = towards_sun / np.linalg.norm(towards_sun)
        self.visibility_m = day.visibility_m * float(rng.uniform(0.8, 1.3))
        self.haze = 0.94 * np.asarray(day.horizon)
        self.blur = float(rng.uniform(0.35, 0.6))  # standard deviation, pixels
        #: A sheet of sensor noise, (256, 256, 3) float32: mostly brightness, a little colour.
        self.grain: np.ndarray = rng.standard_normal((256, 256, 3)).astype(np.float32)
        self.grain = 0.45 * self.grain + 1.2 * self.grain.mean(axis=2, keepdims=True)
        self.grain *= np.float32(rng.uniform(1.5, 3.2))
        self._gain = day.gain * float(rng.uniform(0.88, 1.12))
        self._rate = float(rng.uniform(0.08, 0.2))  # Hz of the slow changes of exposure
        self._warmth = day.warmth + float(rng.normal(0, 0.015))
        self._flicker = day.sun * float(rng.uniform(0.02, 0.1))  # under trees
        self._canopy = np.convolve(rng.standard_normal(400), np.ones(3) / 3, "same")  # by metre of street
        self._phases = rng.uniform(0, 2 * np.pi, 3)
        self.sky = _sky(rng, day)
        self.contact_shadow = _soft_box(0.35 + 0.4 * day.shadow, 0.14)
        self.building_shadow = _soft_box(day.shadow, 0.02)

    def light_on(self, normal: np.ndarray) -> np.ndarray:
        """RGB factor (3,) for a surface with this outward unit normal."""
        facing = max(0.0, float(normal @ self._towards_sun))
        sky = 0.5 + 0.25 * float(normal[1])
        overcast = 0.7 + 0.35 * sky
        sunny = 0.42 + 0.28 * sky + 0.75 * facing * np.asarray(self._day.sunlight)
        return (1 - self._day.sun) * overcast + self._day.sun * sunny

    def shadow_shift(self, height: float) -> np.ndarray:
        """Where the shadow of a point at this height falls, (x, z) from the point's foot, metres."""
        return -self._towards_sun[[0, 2]] * height / max(self._towards_sun[1], 0.25)

    def exposure(self, time_s: float, z: float) -> np.ndarray:
        """RGB factor (3,) of the whole frame, for a camera at z along the street."""
        p = self._phases
        slow = 1 + 0.07 * np.sin(2 * np.pi * self._rate * time_s + p[0]) + 0.03 * np.sin(1.9 * time_s + p[1])
        flicker = 1 + self._flicker * np.interp(z % len(self._canopy), np.arange(len(self._canopy)), self._canopy)
        warm = self._warmth + 0.025 * np.sin(0.33 * time_s + p[2])
        return self._gain * slow * flicker * np.array([1 + warm, 1.0, 1 - warm])

    def crown_shadow(self, rng: np.random.Generator, cover: float) -> Texture:
        """The broken shadow of a tree's crown."""
        size = 128
        grid = np.linspace(-1, 1, size, dtype=np.float32)
        radius = np.hypot(grid[:, None], grid)
        blotches = noise(rng, (size, size), 18) * 0.35 + (1 - radius) * 1.3 + cover - 0.6
        alpha = np.clip(blotches * 3, 0, 1) * np.clip((1 - radius) * 5, 0, 1) * 255 * self._day.shadow
        return _shadow(cv2.GaussianBlur(alpha, (0, 0), 1.0))


def skyline(rng: np.random.Generator, kind: str, colour: Colour) -> Texture:
    """The skyline on the horizon: "trees" or "roofs"."""
    size = (48, 1024)
    if kind == "trees":
        top = 26 + 7 * noise(rng, (1, size[1]), 60, 5)[0]
    else:
        edges = np.sort(rng.integers(0, size[1], 60))
        top = rng.uniform(8, 36, 61)[np.searchsorted(edges, np.arange(size[1]))]
    alpha = np.where(np.arange(size[0])[:, None] > top, 255, 0).astype(np.uint8)
    return Texture.of(mottled(rng, size, colour, 0.12, 10), alpha)


def _sky(rng: np.random.Generator, day: _Day) -> Texture:
    """Gradient and clouds; the bottom row is just under the horizon."""
    height, width = size = (320, 512)
    cloud = float(np.clip(day.cloud + rng.uniform(-0.15, 0.15), 0, 1))
    down = np.linspace(0, 1, height, dtype=np.float32)[:, None, None] ** 1.3
    picture = np.asarray(day.zenith, np.float32) * (1 - down) + np.asarray(day.horizon, np.float32) * down
    picture = np.repeat(picture, width, 1)
    # Clouds lie on a flat layer: rows near the horizon show far more of it, so the noise is squeezed there.
    layer = noise(rng, (640, 512), 120, 6)
    above = np.linspace(1, 0.06, height, dtype=np.float32)[:, None]
    rows = np.broadcast_to(70 / above % 640, size).astype(np.float32)
    columns = np.linspace(-1, 1, width, dtype=np.float32) * 160 / (0.35 + above) + 256
    clouds = cv2.remap(layer, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    cover = np.clip((clouds + 2.4 * cloud - 1.1) * 0.9, 0, 1)[..., None] * np.clip(1.25 - down, 0, 1)
    billows = np.clip(cv2.GaussianBlur(clouds, (0, 0), 6), -1, 2)[..., None]
    white = 236 - 26 * billows * (0.3 + 0.9 * cloud)
    return Texture.of(picture + (white - picture) * cover)


def _shadow(alpha: np.ndarray) -> Texture:
    return Texture(np.zeros((*alpha.shape, 3), np.uint8), alpha.astype(np.uint8))


def _soft_box(darkness: float, softness: float) -> Texture:
    """The shadow of something that stands on the ground; `softness` is the share of it that fades out."""
    size = 64
    margin = int(size * softness) + 1
    alpha = np.zeros((size, size), np.float32)
    alpha[margin:-margin, margin:-margin] = 255 * darkness
    return _shadow(cv2.GaussianBlur(alpha, (0, 0), margin / 2))
