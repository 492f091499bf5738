"""Cars: a side profile drawn out to the car's width, with pictures on its faces."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np

from sdcpc_ros.datasets.street.textures import Texture, column_shade, mottled, noise, plain, row_shade
from sdcpc_ros.datasets.street.world import Motion, Vector, World

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

    length: float  # m
    height: float
    width: float
    belt: float  # share of the height where the cabin begins; above it the sides lean inward
    profile: tuple[tuple[float, float], ...]


BODIES = {
    "hatchback": Body(3.9, 1.45, 1.70, 0.62, (
        (0, 0.16), (0, 0.62), (0.10, 0.97), (0.30, 1.0), (0.56, 0.98), (0.76, 0.64), (0.98, 0.52), (1, 0.16))),
    "saloon": Body(4.5, 1.42, 1.76, 0.65, (
        (0, 0.16), (0, 0.64), (0.16, 0.68), (0.30, 0.98), (0.56, 1.0), (0.74, 0.66), (0.98, 0.54), (1, 0.16))),
    "estate": Body(4.5, 1.47, 1.76, 0.62, (
        (0, 0.16), (0, 0.60), (0.05, 0.95), (0.20, 1.0), (0.58, 0.98), (0.75, 0.64), (0.98, 0.53), (1, 0.16))),
    "van": Body(4.6, 1.95, 1.85, 0.54, (
        (0, 0.12), (0, 0.52), (0.01, 0.98), (0.10, 1.0), (0.72, 0.98), (0.86, 0.56), (0.99, 0.44), (1, 0.12))),
}  # fmt: skip
BODY_CHANCES = (0.42, 0.26, 0.22, 0.10)


class Car:
    """The pictures of one car, to be set down any number of times."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.kind = str(rng.choice(list(BODIES), p=BODY_CHANCES))
        self.body = BODIES[self.kind]
        self.paint = np.asarray(PAINTS[rng.integers(0, len(PAINTS))]) * rng.uniform(0.85, 1.1)
        self.length, self.width = self.body.length, self.body.width
        self.rear, self.front = self._end(rng, rear=True), self._end(rng, rear=False)
        self.lower_side, self.cabin_side = self._sides(rng)
        self.panel = Texture.of(mottled(rng, (24, 32), self.paint, 0.02, 12))
        self.screen = self._screen(rng)
        self.tyre = Texture.of(plain((32, 16), (24, 24, 25)) * column_shade(16, 1.3, 0.8))

    def place(
        self, world: World, x: float, z: float, contact: Texture, *, oncoming: bool, motion: Motion | None
    ) -> None:
        """Set it down with its middle at x and its nearer end at z; an oncoming car turns its front to the camera."""
        group, half = world.new_group(), self.width / 2
        sign, start = (-1.0, z + self.length) if oncoming else (1.0, z)
        profile = np.asarray(self.body.profile) * (self.length, self.body.height)
        top, belt = self.body.height, self.body.belt * self.body.height

        def at(across: float, along: float, up: float) -> np.ndarray:
            """A point of the car in the world: metres to its right, forward from its rear, up."""
            return np.array([x + sign * across, up, start + sign * along])

        def face(
            corner: np.ndarray, right: np.ndarray, below: np.ndarray, texture: Texture, normal: Vector | None = None
        ) -> None:
            # A side's picture serves both sides, the other one mirrored: hence two-sided where a normal is given.
            u, v, mirrored = right - corner, below - corner, normal is not None
            world.add(corner, u, v, texture, "car", group, normal=normal, two_sided=mirrored, motion=motion)

        last = len(profile) - 2
        for index, (first, second) in enumerate(pairwise(profile)):
            looks_back = index <= last // 2
            lower, upper = (first, second) if looks_back else (second, first)
            rise = upper[1] - lower[1]
            left = -half if looks_back else half  # as seen from outside
            if index in (0, last):
                texture = self.rear if looks_back else self.front
            elif rise > 0.25:
                texture = self.screen
            else:
                texture = self.panel
                left *= 1 - LEAN_M / half if min(first[1], second[1]) > belt + 0.1 else 1  # the roof is narrower
            face(at(left, *upper), at(-left, *upper), at(left, *lower), texture)
        for outer in (-half, half):
            inner, normal = outer - np.sign(outer) * LEAN_M, (sign * outer, 0.0, 0.0)
            face(at(outer, 0, belt), at(outer, self.length, belt), at(outer, 0, 0), self.lower_side, normal)
            face(at(inner, 0, top), at(inner, self.length, top), at(outer, 0, belt), self.cabin_side, normal)
            for axle in AXLES:
                wheel, edge = axle * self.length, outer - np.sign(outer) * 0.2
                corners = at(edge, wheel, 2 * WHEEL_M), at(outer, wheel, 2 * WHEEL_M), at(edge, wheel, 0)
                face(*corners, self.tyre, (0.0, 0.0, -1.0))
        middle = (x, 0.0, z + self.length / 2)
        world.cast(middle, (self.width * 1.15, 0, 0), (0, 0, -self.length * 1.06), contact, motion)

    def _end(self, rng: np.random.Generator, *, rear: bool) -> Texture:
        """The upright of the rear or the front: lamps, grille, plate, bumper."""
        height, width = size = (72, 160)
        picture = plain(size, self.paint) * row_shade(height, 1.08, 0.8)
        bumper = int(height * 0.68)
        picture[bumper:] *= 0.82 if rng.random() < 0.6 else 0.4
        picture[bumper : bumper + 2] *= 0.6
        lamp, corner = ((176, 26, 24), (214, 130, 60)) if rear else ((222, 224, 218), (236, 200, 140))
        for left in (6, width - 34):
            cv2.rectangle(picture, (left, 10), (left + 28, 34), lamp, -1)
            cv2.rectangle(picture, (left, 10), (left + 28, 34), (50, 50, 52), 1)
            cv2.rectangle(picture, (left + 3, 25), (left + 12, 32), corner, -1)
        if not rear:
            cv2.rectangle(picture, (46, 16), (width - 46, 32), (30, 30, 32), -1)
            picture[18:32:4, 46 : width - 46] = (110, 112, 114)
        elif self.kind == "van":
            picture[:, width // 2 - 1 : width // 2 + 1] *= 0.5
        top, plate = (int(height * 0.5), (212, 186, 70)) if rear else (bumper + 4, (228, 228, 224))
        cv2.rectangle(picture, (width // 2 - 26, top), (width // 2 + 26, top + 12), plate, -1)
        for x in range(width // 2 - 22, width // 2 + 22, 7):
            cv2.rectangle(picture, (x, top + 3), (x + 3, top + 9), (30, 30, 30), -1)
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
        cv2.fillPoly(alpha, [outline.astype(np.int32)], 255)

        roof = np.flatnonzero(profile[:, 1] > 0.9)
        belt, top = high * (1 - self.body.belt), high * 0.07
        (left, right), (roof_left, roof_right) = outline[[roof[0] - 1, roof[-1] + 1], 0], outline[roof[[0, -1]], 0]
        glass = [(left + 14, belt), (roof_left + 14, top), (roof_right - 8, top), (right - 12, belt)]
        shine = [(left + 60, belt), (roof_left + 70, top), (roof_left + 110, top), (left + 96, belt)]
        cv2.fillPoly(picture, [np.array(glass, np.int32)], GLASS.tolist())
        cv2.fillPoly(picture, [np.array(shine, np.int32)], (GLASS * 1.5).tolist())
        for share in (0.33, 0.64):
            x = int(roof_left + share * (right - roof_left))
            cv2.line(picture, (x, int(belt)), (x, int(top)), (self.paint * 0.7).tolist(), 7)
        if self.kind == "van":  # no windows behind the cab
            picture[: int(belt) + 1, : int(0.66 * long)] = self.paint * 0.95
        for share in (0.34, 0.60):  # door gaps and handles
            x = int(share * long)
            cv2.line(picture, (x, int(belt)), (x, int(high * 0.8)), (self.paint * 0.6).tolist(), 2)
            handle = (x + 8, int(high * 0.45)), (x + 22, int(high * 0.48))
            cv2.rectangle(picture, *handle, (self.paint * 0.5).tolist(), -1)
        self._wheels(picture, alpha)
        picture *= (1 + 0.02 * noise(rng, size, 30))[..., None]
        cut = int(belt)
        return Texture.of(picture[cut:], alpha[cut:]), Texture.of(picture[:cut], alpha[:cut])

    def _wheels(self, picture: np.ndarray, alpha: np.ndarray) -> None:
        high, long = alpha.shape
        radius = np.array([WHEEL_M / self.length * long, WHEEL_M / self.body.height * high])  # across, down
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
        slant = LEAN_M / self.width * width
        alpha, pane = np.zeros(size, np.uint8), np.zeros(size, np.uint8)
        for canvas, inset, top, bottom in ((alpha, 0, 0, height), (pane, 8, 6, height - 4)):
            corners = [(inset, bottom), (slant + inset, top), (width - slant - inset, top), (width - inset, bottom)]
            cv2.fillPoly(canvas, [np.array(corners, np.int32)], 255)
        picture[pane > 0] = glass[pane > 0]
        return Texture.of(picture, alpha)
