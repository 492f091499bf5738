"""Pictures on surfaces, and the random fields that they are drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

Colour = Sequence[float] | np.ndarray  # RGB, 0..255

MAX_LEVEL = 6
MORTAR = (172, 164, 152)


@dataclass
class Texture:
    """A picture for a planar surface: colour (h, w, 3) uint8 RGB and, where it has holes, alpha (h, w) uint8."""

    colour: np.ndarray
    alpha: np.ndarray | None = None
    _levels: dict[tuple[int, int], tuple[np.ndarray, np.ndarray | None]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, picture: np.ndarray, alpha: np.ndarray | None = None) -> Texture:
        """From a float picture, whose values are clipped to 0..255."""
        return cls(np.clip(picture, 0, 255).astype(np.uint8), None if alpha is None else alpha.astype(np.uint8))

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in texels."""
        return self.colour.shape[0], self.colour.shape[1]

    def level(self, across: int, down: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Colour and alpha shrunk by 2**across and 2**down.

        The two axes shrink apart (a "ripmap"), because a road seen at a grazing angle is squeezed along its length
        far more than across.
        """
        key = (across, down)
        if key not in self._levels:
            height, width = self.size
            size = (max(1, width >> across), max(1, height >> down))
            self._levels[key] = (
                cv2.resize(self.colour, size, interpolation=cv2.INTER_AREA),
                None if self.alpha is None else cv2.resize(self.alpha, size, interpolation=cv2.INTER_AREA),
            )
        return self._levels[key]


def pick(rng: np.random.Generator, items: Sequence[Any]) -> Any:
    """One of some items, all as likely."""
    return items[int(rng.integers(0, len(items)))]


def noise(rng: np.random.Generator, size: tuple[int, int], cell: float, octaves: int = 4) -> np.ndarray:
    """Smooth random field, (h, w) float32 of about unit standard deviation; `cell` is the largest blob in texels."""
    height, width = size
    total, weight, power = np.zeros(size, np.float32), 1.0, 0.0
    for _ in range(octaves):
        grid: np.ndarray = rng.standard_normal((int(height / cell) + 3, int(width / cell) + 3)).astype(np.float32)
        if cell > 1:
            grid = np.asarray(cv2.resize(grid, (0, 0), fx=cell, fy=cell, interpolation=cv2.INTER_CUBIC))
        total += weight * grid[:height, :width]
        power += weight**2
        weight, cell = weight * 0.6, max(1.0, cell / 2)
    return total * np.float32(1.4 / np.sqrt(power))


def speckle(rng: np.random.Generator, size: tuple[int, int], amount: float) -> np.ndarray:
    """A factor for each texel, (h, w, 1) float32 about 1."""
    return 1 + np.float32(amount) * rng.standard_normal((*size, 1)).astype(np.float32)


def plain(size: tuple[int, int], colour: Colour) -> np.ndarray:
    """One colour, (h, w, 3) float32."""
    return np.broadcast_to(np.asarray(colour, np.float32), (*size, 3)).copy()


def mottled(rng: np.random.Generator, size: tuple[int, int], colour: Colour, amount: float, cell: float) -> np.ndarray:
    """One colour with blotches of brightness, (h, w, 3) float32."""
    return plain(size, colour) * (1 + amount * noise(rng, size, cell))[..., None]


def bricks(rng: np.random.Generator, size: tuple[int, int], colour: Colour, brick: tuple[int, int]) -> np.ndarray:
    """Courses of bricks of `brick` (h, w) texels with mortar between, (h, w, 3) float32."""
    height, width = size
    high, wide = brick
    rows, columns = height // high + 1, width // wide + 2
    tone = 1 + 0.13 * rng.standard_normal((rows, columns)).astype(np.float32)
    tone = np.repeat(np.repeat(tone, high, 0), wide, 1)
    mortar = np.zeros_like(tone)
    mortar[::high] = 1
    mortar[:, ::wide] = 1
    for row in range(1, rows, 2):  # every other course is half a brick along
        course = slice(row * high, (row + 1) * high)
        tone[course] = np.roll(tone[course], wide // 2, 1)
        mortar[course] = np.roll(mortar[course], wide // 2, 1)
    picture = plain(size, colour) * tone[:height, :width, None]
    picture += (np.asarray(MORTAR, np.float32) - picture) * mortar[:height, :width, None] * 0.55
    return picture * (1 + 0.07 * noise(rng, size, 70))[..., None]


def fill(canvas: np.ndarray, corners: Sequence[Sequence[float]] | np.ndarray, colour: Colour | float) -> None:
    """Draws a polygon with corners (x, y), in place."""
    cv2.fillPoly(canvas, [np.array(corners, np.int32)], np.atleast_1d(colour).tolist())


def column_shade(width: int, left: float, right: float) -> np.ndarray:
    """Light that falls off from left to right, (1, w, 1) float32: makes flat things look round."""
    return np.linspace(left, right, width, dtype=np.float32)[None, :, None]


def row_shade(height: int, top: float, bottom: float) -> np.ndarray:
    """Light that changes from top to bottom, (h, 1, 1) float32."""
    return np.linspace(top, bottom, height, dtype=np.float32)[:, None, None]
