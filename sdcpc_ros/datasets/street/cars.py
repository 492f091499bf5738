"""Cars: a side profile drawn out to the car's width, with pictures on its faces."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import cv2
import numpy as np

from sdcpc_ros.datasets.street.textures import Texture, column_shade, fill, mottled, noise, pick, plain, row_shade
from sdcpc_ros.datasets.street.world import Motion, Thing, Vector, World

GLASS = np.array([42.0, 50.0, 58.0])
LEAN_M = 0.17  # how far the top of a side stands in from its belt line
WHEEL_M = 0.31  # radius
AXLES = (0.19, 0.81)  # shares of the length
PAINTS = [
    (168, 172, 176), (58, 62, 68), (26, 27, 30), (190, 30, 32), (34, 58, 118),
    (206, 206, 202), (96, 110, 124), (40, 72, 60), (150, 140, 118),
]  # fmt: skip


@dataclass(frozen=True)
class Body:
    """A shape of car; the profile runs from the rear bumper over the roof to the front, in shares of length, height."""

    size: tuple[float, float, float]  # length, height, width, m
    belt: float  # share of the height where the cabin begins; above it the sides lean inward
    profile: tuple[tuple[float, float], ...]


BODIES = {
    "hatchback": Body((3.9, 1.45, 1.70), 0.62, (
        (0, 0.16), (0, 0.62), (0.10, 0.97), (0.30, 1.0), (0.56, 0.98), (0.76, 0.64), (0.98, 0.52), (1, 0.16))),
    "saloon": Body((4.5, 1.42, 1.76), 0.65, (
        (0, 0.16), (0, 0.64), (0.16, 0.68), (0.30, 0.98), (0.56, 1.0), (0.74, 0.66), (0.98, 0.54), (1, 0.16))),
    "estate": Body((4.5, 1.47, 1.76), 0.62, (
        (0, 0.16), (0, 0.60), (0.05, 0.95), (0.20, 1.0), (0.58, 0.98), (0.75, 0.64), (0.98, 0.53), (1, 0.16))),
    "van": Body((4.6, 1.95, 1.85), 0.54, (
        (0, 0.12), (0, 0.52), (0.01, 0.98), (0.10, 1.0), (0.72, 0.98), (0.86, 0.56), (0.99, 0.44), (1, 0.12))),
}  # fmt: skip
BODY_CHANCES = (0.42, 0.26, 0.22, 0.10)


class Car:
    """The pictures of one car, to be placed any number of times."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.kind = str(rng.choice(list(BODIES), p=BODY_CHANCES))
        self.body = BODIES[self.kind]
        self.length = self.body.size[0]
        self.paint = np.asarray(pick(rng, PAINTS)) * rng.uniform(0.85, 1.1)
        self.rear, self.front = self._end(rng, rear=True), self._end(rng, rear=False)
        self.lower_side, self.cabin_side = self._sides(rng)
        self.panel = Texture.of(mottled(rng, (24, 32), self.paint, 0.02, 12))
        self.screen = self._screen(rng)
        self.tyre = Texture.of(plain((32, 16), (24, 24, 25)) * column_shade(16, 1.3, 0.8))

    def place(self, world: World, x: float, z: float, *, oncoming: bool, motion: Motion | None = None) -> None:
        """Put it there with its middle at x and its nearer end at z; an oncoming car turns its front to the camera."""
        car, (length, height, width) = Thing(world, "car", motion), self.body.size
        half, belt = width / 2, self.body.belt * height
        sign, start = (-1.0, z + length) if oncoming else (1.0, z)

        def face(corner: Vector, right: Vector, below: Vector, texture: Texture, **options: Any) -> None:
            """A surface by three of its corners, each across, along and up: from the car's middle, rear and ground."""
            corner, right, below = (
                np.array([x + sign * across, up, start + sign * along]) for across, along, up in (corner, right, below)
            )
            car.add(corner, right - corner, below - corner, texture, **options)

        pieces = list(pairwise(np.asarray(self.body.profile) * (length, height)))
        for index, piece in enumerate(pieces):
            looks_back = index < len(pieces) // 2
            lower, upper = piece if looks_back else piece[::-1]
            left = -half if looks_back else half  # as seen from outside
            if index in (0, len(pieces) - 1):
                texture = self.rear if looks_back else self.front
            elif upper[1] - lower[1] > 0.25:
                texture = self.screen
            else:
                texture = self.panel
                left *= 1 - LEAN_M / half if min(upper[1], lower[1]) > belt + 0.1 else 1  # the roof is narrower
            face((left, *upper), (-left, *upper), (left, *lower), texture)
        for outer in (-half, half):
            # A side's picture serves both sides, the other one mirrored.
            inner, how = outer - np.sign(outer) * LEAN_M, {"normal": (sign * outer, 0.0, 0.0), "two_sided": True}
            face((outer, 0, belt), (outer, length, belt), (outer, 0, 0), self.lower_side, **how)
            face((inner, 0, height), (inner, length, height), (outer, 0, belt), self.cabin_side, **how)
            inner = outer - np.sign(outer) * 0.2
            for along, up in ((axle * length, 2 * WHEEL_M) for axle in AXLES):
                tread = (inner, along, up), (outer, along, up), (inner, along, 0)
                face(*tread, self.tyre, normal=(0.0, 0.0, -1.0), two_sided=True)
        spread = (width * 1.15, 0, 0), (0, 0, -length * 1.06)
        car.cast((x, 0.0, z + length / 2), *spread, world.weather.contact_shadow)

    def _end(self, rng: np.random.Generator, *, rear: bool) -> Texture:
        """The upright of the rear or the front: lamps, grille, plate, bumper."""
        height, width = size = (72, 160)
        picture = plain(size, self.paint) * row_shade(height, 1.08, 0.8)
        bumper = int(height * 0.68)
        picture[bumper:] *= 0.82 if rng.random() < 0.6 else 0.4
        picture[bumper : bumper + 2] *= 0.6
        lamp, corner = ((176, 26, 24), (214, 130, 60)) if rear else ((222, 224, 218), (236, 200, 140))
        for left in (6, width - 34):
            picture[10:35, left : left + 29] = (50, 50, 52)
            picture[11:34, left + 1 : left + 28] = lamp
            picture[25:33, left + 3 : left + 13] = corner
        if not rear:
            picture[16:33, 46 : width - 45] = (30, 30, 32)
            picture[18:32:4, 46 : width - 46] = (110, 112, 114)
        elif self.kind == "van":
            picture[:, width // 2 - 1 : width // 2 + 1] *= 0.5
        top, plate = (int(height * 0.5), (212, 186, 70)) if rear else (bumper + 4, (228, 228, 224))
        picture[top : top + 13, width // 2 - 26 : width // 2 + 27] = plate
        for x in range(width // 2 - 22, width // 2 + 22, 7):
            picture[top + 3 : top + 10, x : x + 4] = (30, 30, 30)
        picture[-6:] *= 0.35
        return Texture.of(picture)

    def _sides(self, rng: np.random.Generator) -> tuple[Texture, Texture]:
        """The side with the rear at the left: from the belt to the ground, and from the roof to the belt."""
        high, long = size = (192, 512)
        up = row_shade(high, 1, 0)
        picture = plain(size, self.paint)
        picture *= 0.72 + 0.4 * up + 0.12 * np.exp(-(((up - self.body.belt * 0.9) / 0.05) ** 2))
        picture[int(high * 0.76) :] *= 0.6  # sill
        profile = np.asarray(self.body.profile)
        outline = profile * (long, -high) + (0, high)
        alpha = np.zeros(size, np.uint8)
        fill(alpha, outline, 255)

        roof = np.flatnonzero(profile[:, 1] > 0.9)
        belt, top = int(high * (1 - self.body.belt)), high * 0.07
        (left, right), (roof_left, roof_right) = outline[[roof[0] - 1, roof[-1] + 1], 0], outline[roof[[0, -1]], 0]
        fill(picture, [(left + 14, belt), (roof_left + 14, top), (roof_right - 8, top), (right - 12, belt)], GLASS)
        shine = [(left + 60, belt), (roof_left + 70, top), (roof_left + 110, top), (left + 96, belt)]
        fill(picture, shine, GLASS * 1.5)
        for share in (0.33, 0.64):  # pillars
            x = int(roof_left + share * (right - roof_left))
            picture[int(top) : belt + 1, x - 3 : x + 4] = self.paint * 0.7
        if self.kind == "van":  # no windows behind the cab
            picture[: belt + 1, : int(0.66 * long)] = self.paint * 0.95
        for x in (int(0.34 * long), int(0.60 * long)):  # door gaps and handles
            picture[belt : int(high * 0.8), x - 1 : x + 1] = self.paint * 0.6
            picture[int(high * 0.45) : int(high * 0.48) + 1, x + 8 : x + 23] = self.paint * 0.5
        self._draw_wheels(picture, alpha)
        picture *= (1 + 0.02 * noise(rng, size, 30))[..., None]
        return Texture.of(picture[belt:], alpha[belt:]), Texture.of(picture[:belt], alpha[:belt])

    def _draw_wheels(self, picture: np.ndarray, alpha: np.ndarray) -> None:
        high, long = alpha.shape
        radius = np.array([WHEEL_M / self.body.size[0] * long, WHEEL_M / self.body.size[1] * high])  # across, down
        for axle in AXLES:
            centre = np.array([axle * long, high - radius[1]])
            for canvas, share, colour in (
                (picture, 1.13, (16, 16, 17)),  # the arch
                (picture, 1.0, (26, 26, 27)),
                (alpha, 1.0, 255),
                (picture, 0.62, (138, 140, 144)),
            ):
                axes = (radius * share).astype(int).tolist()
                cv2.ellipse(canvas, centre.astype(int).tolist(), axes, 0, 0, 360, colour, -1)
            for angle in np.radians(np.arange(0, 180, 36)):
                arm = radius * 0.6 * (np.cos(angle), np.sin(angle))
                ends = (centre - arm).astype(int).tolist(), (centre + arm).astype(int).tolist()
                cv2.line(picture, *ends, (70, 72, 75), 3)

    def _screen(self, rng: np.random.Generator) -> Texture:
        """Windscreen or rear window: dark glass between pillars that lean inward."""
        height, width = size = (64, 128)
        picture = plain(size, self.paint * 0.9)
        glass = plain(size, GLASS) * row_shade(height, 1.9, 0.7) * (1 + 0.1 * noise(rng, size, 24))[..., None]
        if self.kind != "van":
            for x in (40, 88):  # head rests
                cv2.ellipse(glass, (x, 54), (7, 10), 0, 0, 360, (34, 38, 43), -1)
        slant = LEAN_M / self.body.size[2] * width
        alpha, pane = np.zeros(size, np.uint8), np.zeros(size, np.uint8)
        for canvas, inset, top, bottom in ((alpha, 0, 0, height), (pane, 8, 6, height - 4)):
            corners = (inset, bottom), (slant + inset, top), (width - slant - inset, top), (width - inset, bottom)
            fill(canvas, corners, 255)
        picture[pane > 0] = glass[pane > 0]
        return Texture.of(picture, alpha)
