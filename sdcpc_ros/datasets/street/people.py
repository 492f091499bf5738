"""Pedestrians and cyclists: flat figures whose limbs swing as surfaces of their own, so that their flow is exact."""

from __future__ import annotations

from functools import partial

import cv2
import numpy as np

from sdcpc_ros.datasets.street.textures import Colour, Texture, column_shade, fill, mottled, noise, pick, plain
from sdcpc_ros.datasets.street.world import Thing, Vector, World, straight, swing

SKIN = [(224, 182, 152), (198, 148, 112), (140, 96, 68), (92, 62, 46)]
HAIR = [(40, 30, 24), (88, 62, 40), (160, 126, 80), (120, 116, 112)]
COATS = [(38, 40, 48), (74, 50, 40), (52, 62, 88), (150, 44, 40), (168, 160, 148), (44, 70, 52)]
TROUSERS = [(40, 44, 58), (54, 66, 98), (62, 56, 50), (30, 30, 32)]
FRAMES = [(150, 30, 30), (30, 60, 140), (40, 44, 46), (30, 100, 60)]  # of bicycles
JACKETS = [(196, 206, 40), (40, 60, 110), (130, 36, 40), (46, 48, 52)]
TOWARDS_CAMERA = (0.0, 0.0, -1.0)


class Pedestrian:
    """One walker's pictures and size."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.upper_body = _upper_body(rng, np.asarray(pick(rng, COATS)) * rng.uniform(0.8, 1.3))
        self.leg = _leg(rng, pick(rng, TROUSERS))
        self.height = float(rng.uniform(1.55, 1.85))  # m
        self.phase = float(rng.uniform(0, 2 * np.pi))

    def place(self, world: World, foot: Vector, velocity: tuple[float, float]) -> None:
        """Let the figure walk from `foot` (x, y, z) with a velocity (x, z) in m/s, from time 0 on."""
        x, y, z = foot
        walker, hip = Thing(world, "pedestrian", straight(velocity[0], 0.0, velocity[1])), 0.47 * self.height
        speed = float(np.hypot(*velocity))
        stride = 0.26 * np.array([velocity[0], 0.0, velocity[1]]) / speed
        for side, phase in ((-1, 0.0), (1, np.pi)):
            step = partial(swing, stride, 0.65 * speed, self.phase + phase)
            top_left, size = (x + side * 0.075 - 0.09, y + hip + 0.05, z - 0.02 * side), (0.18, hip + 0.05)
            walker.add_upright(top_left, size, self.leg, normal=TOWARDS_CAMERA, swing=step)
        high = self.height - hip
        wide = high * self.upper_body.size[1] / self.upper_body.size[0]
        top_left = (x - wide / 2, y + self.height, z - 0.05)
        walker.add_upright(top_left, (wide, high), self.upper_body)
        walker.cast((x, y / 2, z), (0.8, 0, 0), (0, 0, -0.6), world.weather.contact_shadow)


class Cyclist:
    """A bicycle in a plane along the street, and a rider across it."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.bicycle = _bicycle(rng)
        self.upper_body = _upper_body(rng, pick(rng, JACKETS))
        self.leg = _leg(rng, (40, 42, 52))
        self.rubber = Texture.of(mottled(rng, (48, 8), (30, 30, 32), 0.1, 4))
        self.phase = float(rng.uniform(0, 2 * np.pi))

    def place(self, world: World, x: float, z: float, pace: float) -> None:
        """Set off from (x, z) along the street; with a negative pace (m/s) the cyclist faces the camera."""
        cyclist, forward = Thing(world, "bicyclist", straight(0.0, 0.0, pace)), np.sign(pace)
        add = partial(cyclist.add, normal=TOWARDS_CAMERA, two_sided=True)
        add((x, 1.08, z - forward * 0.88), (0, 0, forward * 1.76), (0, -1.08, 0), self.bicycle)
        for wheel in (-0.53, 0.53):
            add((x - 0.022, 0.67, z + wheel), (0.044, 0, 0), (0, -0.67, 0), self.rubber)
        add((x - 0.28, 0.99, z + forward * 0.42), (0.56, 0, 0), (0, -0.05, 0), self.rubber)  # handlebar
        for side, phase in ((-1, 0.0), (1, np.pi)):
            pedal = partial(swing, (0.0, 0.15, 0.0), 1.1, self.phase + phase)
            hip, leg = (x + side * 0.1 - 0.09, 0.96, z + 0.05 * side), (0, -0.68, forward * 0.1)
            add(hip, (0.18, 0, 0), leg, self.leg, swing=pedal)
        add((x - 0.26, 1.68, z + forward * 0.16), (0.52, 0, 0), (0, -0.82, forward * -0.3), self.upper_body)
        cyclist.cast((x, 0.0, z), (0.8, 0, 0), (0, 0, -1.9), world.weather.contact_shadow)


def _upper_body(rng: np.random.Generator, coat: Colour) -> Texture:
    """Head, arms and trunk from the front or back; the hips are at the bottom edge."""
    size = (128, 72)
    coat = np.asarray(coat, np.float64)
    skin = np.asarray(pick(rng, SKIN), np.float64)
    hair = np.asarray(pick(rng, HAIR), np.float64)
    picture, alpha = plain(size, coat), np.zeros(size, np.uint8)

    def patch(corners: list[tuple[int, int]], colour: np.ndarray) -> None:
        fill(alpha, corners, 255)
        fill(picture, corners, colour)

    def disc(centre: tuple[int, int], axes: tuple[int, int], colour: np.ndarray, start: int = 0) -> None:
        cv2.ellipse(alpha, centre, axes, 0, start, 360, 255, -1)
        cv2.ellipse(picture, centre, axes, 0, start, 360, colour.tolist(), -1)

    arm = [(20, 42), (13, 54), (10, 84), (11, 104), (17, 104), (19, 84), (24, 60)]
    patch(arm, coat * 0.82)
    patch([(72 - x, y) for x, y in arm], coat * 0.82)
    patch([(20, 42), (30, 34), (42, 34), (52, 42), (51, 84), (53, 128), (19, 128), (21, 84)], coat)
    for hand in (14, 58):
        disc((hand, 106), (4, 4), skin)
    patch([(32, 24), (40, 24), (40, 36), (32, 36)], skin * 0.8)
    faces_camera = rng.random() < 0.5
    disc((36, 17), (10, 14), skin if faces_camera else hair)
    disc((36, 11), (11, 10), hair, start=180)
    if faces_camera:
        picture[40:125, 35:38] = coat * 0.6  # buttons
        patch([(32, 34), (40, 34), (36, 50)], rng.uniform(60, 220, 3))
    elif rng.random() < 0.5:  # a rucksack
        picture[46:87, 24:49] = rng.uniform(20, 120, 3)
    shaded = picture * column_shade(size[1], 1.15, 0.75) * (1 + 0.08 * noise(rng, size, 14))[..., None]
    return Texture.of(shaded, alpha)


def _leg(rng: np.random.Generator, trousers: Colour) -> Texture:
    """A leg with its shoe."""
    height, width = size = (96, 24)
    alpha = np.zeros(size, np.uint8)
    fill(alpha, [(2, 0), (22, 0), (18, 48), (16, 86), (18, height), (6, height), (8, 86), (5, 48)], 255)
    picture = mottled(rng, size, trousers, 0.08, 14)
    picture[86:] = rng.uniform(20, 70)
    return Texture.of(picture * column_shade(width, 1.1, 0.8), alpha)


def _bicycle(rng: np.random.Generator) -> Texture:
    """A bicycle from its side, front at the right."""
    size = (128, 208)
    picture, alpha = plain(size, (34, 34, 36)), np.zeros(size, np.uint8)
    frame = pick(rng, FRAMES)
    rear, front, crank, saddle, head = (42, 88), (166, 88), (92, 92), (80, 30), (150, 26)
    for hub in (rear, front):
        cv2.circle(alpha, hub, 37, 255, 6)
        for angle in np.radians(np.arange(0, 180, 30)):
            spoke = 36 * np.array([np.cos(angle), np.sin(angle)])
            cv2.line(alpha, (hub - spoke).astype(int).tolist(), (hub + spoke).astype(int).tolist(), 255, 1)
    for a, b in ((rear, crank), (rear, saddle), (saddle, crank), (crank, head), (saddle, head), (head, front)):
        cv2.line(alpha, a, b, 255, 6)
        cv2.line(picture, a, b, frame, 6)
    cv2.line(alpha, (66, 24), (96, 24), 255, 7)  # saddle
    cv2.line(alpha, head, (146, 8), 255, 5)
    return Texture.of(picture, alpha)
