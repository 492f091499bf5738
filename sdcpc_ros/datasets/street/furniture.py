"""Poles, lamp posts, signs and traffic lights."""

from __future__ import annotations

import cv2
import numpy as np

from sdcpc_ros.datasets.street.textures import Colour, Texture, column_shade, mottled, plain
from sdcpc_ros.datasets.street.world import KERB_M, World

SIGN_CHANCES = {"round": 0.35, "triangle": 0.25, "board": 0.25, "lights": 0.15}
RED = (190, 28, 34)
BOARDS = [(28, 84, 60), (26, 66, 150), (226, 224, 216), (150, 40, 36)]
LAMPS = [(236, 40, 34), (236, 160, 30), (40, 226, 120)]


class Furniture:
    """A town's own lamp posts, poles and signs."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.lamp_height = float(rng.uniform(5.0, 8.0))  # m
        self.lamp_post = _lamp_post(rng, arm=bool(rng.random() < 0.6))
        tone = rng.uniform(70, 150)
        self.pole = Texture.of(mottled(rng, (128, 8), (tone, tone, tone), 0.06, 20) * column_shade(8, 1.25, 0.7))
        self.signs = {kind: [_sign(rng, kind) for _ in range(2)] for kind in SIGN_CHANCES}

    def place_lamp_post(self, world: World, side: int, x: float, z: float) -> None:
        """Its arm reaches over the road."""
        height, width = self.lamp_height, self.lamp_height * self.lamp_post.size[1] / self.lamp_post.size[0]
        edges = (x + side * width / 2, KERB_M + height, z), (-side * width, 0, 0), (0, -height, 0)
        world.add(*edges, self.lamp_post, "pole", world.new_group(), normal=(0, 0.3, -0.95), two_sided=True)

    def place_pole(self, world: World, x: float, z: float, height: float, width: float) -> None:
        top_left = (x - width / 2, KERB_M + height, z)
        world.add_upright(top_left, (width, height), self.pole, "pole", world.new_group())

    def place_sign(self, world: World, rng: np.random.Generator, x: float, z: float) -> None:
        kind = str(rng.choice(list(SIGN_CHANCES), p=list(SIGN_CHANCES.values())))
        picture = self.signs[kind][rng.integers(0, 2)]
        height = float(rng.uniform(2.5, 3.2))
        size = 0.95 if kind == "lights" else float(rng.uniform(0.6, 0.85))
        self.place_pole(world, x, z, height, 0.1)
        top_left = (x - size / 2, KERB_M + height + 0.1, z - 0.06)
        world.add_upright(top_left, (size, size), picture, "sign_symbol", world.new_group())


def _lamp_post(rng: np.random.Generator, *, arm: bool) -> Texture:
    """Foot at the middle of the bottom edge; the arm, or else a lantern, at the top reaches to the right."""
    height, width = size = (320, 96)
    foot = width // 2
    picture, alpha = plain(size, [rng.uniform(60, 150)] * 3), np.zeros(size, np.uint8)
    cv2.line(alpha, (foot, height), (foot, 8), 255, 5)
    cv2.line(alpha, (foot, height), (foot, int(height * 0.82)), 255, 8)
    if arm:
        cv2.line(alpha, (foot, 9), (width - 14, 4), 255, 4)
        cv2.rectangle(alpha, (width - 26, 1), (width - 2, 8), 255, -1)
        picture[:9, width - 26 :] = 205
    else:
        cv2.rectangle(alpha, (foot - 9, 0), (foot + 9, 18), 255, -1)
        picture[3:16, foot - 7 : foot + 7] = 222
    return Texture.of(picture * np.where(np.arange(width) < foot, 1.2, 0.75)[None, :, None], alpha)


def _sign(rng: np.random.Generator, kind: str) -> Texture:
    """A plate, or the head of a traffic signal ("lights")."""
    size, middle = 96, 48
    picture, alpha = plain((size, size), (228, 228, 224)), np.zeros((size, size), np.uint8)
    if kind == "round":
        cv2.circle(alpha, (middle, middle), 46, 255, -1)
        if rng.random() < 0.4:
            picture[:] = (26, 70, 160)
            cv2.arrowedLine(picture, (middle, 76), (middle, 22), (235, 235, 235), 9, tipLength=0.4)
        else:
            limit = str(rng.choice([20, 30, 40]))
            cv2.circle(picture, (middle, middle), 41, RED, 11)
            _write(picture, limit, (22, 62), 1.3, (20, 20, 20), 3)
    elif kind == "triangle":
        corners = np.array([(middle, 3), (94, 88), (2, 88)], np.int32)
        cv2.fillPoly(alpha, [corners], 255)
        cv2.polylines(picture, [corners], True, RED, 18)
        cv2.line(picture, (middle, 40), (middle, 66), (20, 20, 20), 6)
    elif kind == "lights":
        alpha[2:-2, 30:66] = 255
        picture[:] = (26, 27, 28)
        lit = int(rng.integers(0, 3))
        for index, colour in enumerate(LAMPS):
            glow = np.asarray(colour) * (1.0 if index == lit else 0.22)
            cv2.circle(picture, (middle, 18 + 30 * index), 11, glow.tolist(), -1)
    else:
        alpha[8:-8, 2:-2] = 255
        picture[:] = BOARDS[rng.integers(0, len(BOARDS))]
        ink = [30.0 if picture.mean() > 150 else 228.0] * 3
        for row in range(3):
            for x in range(10, int(rng.integers(50, 84)), 9):
                cv2.rectangle(picture, (x, 20 + 20 * row), (x + 5, 29 + 20 * row), ink, -1)
        cv2.rectangle(picture, (4, 10), (size - 5, size - 11), ink, 1)
    return Texture.of(picture, alpha)


def _write(
    picture: np.ndarray, text: str, origin: tuple[int, int], scale: float, colour: Colour, thickness: int
) -> None:
    """Write text on a picture (h, w, 3) float32, in place; origin (x, y) is the left end of its baseline.

    OpenCV 5 writes on uint8 pictures only and smooths edges: a stencil is written, and cut at half cover.
    """
    stencil = np.zeros(picture.shape[:2], np.uint8)
    cv2.putText(stencil, text, origin, cv2.FONT_HERSHEY_DUPLEX, scale, 255, thickness)
    picture[stencil > 127] = colour
