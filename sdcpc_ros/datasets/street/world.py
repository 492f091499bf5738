"""The world as data: textured parallelograms and how they move.

Axes: x to the right, y up, z along the street, metres; the road's surface is y = 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from sdcpc_ros.datasets.street.light import Sunlight
from sdcpc_ros.datasets.street.textures import Texture
from sdcpc_ros.labels.label_set import CAMVID_11

LABEL = {name: index for index, name in enumerate(CAMVID_11.class_names)}
KERB_M = 0.11  # height of the pavement

Vector = Sequence[float] | np.ndarray


class Motion(Protocol):
    """How an object moves as a whole."""

    def offset(self, time_s: float) -> np.ndarray:
        """Displacement (3,) from where the object was placed."""


@dataclass(frozen=True)
class EgoMotion:
    """The camera's path: forward with a varying speed, drifting in its lane, nodding on its springs."""

    speed: float  # m/s
    lane_x: float  # m
    height: float  # m
    phases: tuple[float, ...]  # seven, radians
    bounce: float  # 1 is an ordinary road

    def position(self, time_s: float) -> np.ndarray:
        """Of the camera in the world, (3,)."""
        p = self.phases
        x = self.lane_x + 0.22 * np.sin(0.5 * time_s + p[0]) + 0.1 * np.sin(1.1 * time_s + p[1])
        y = self.height + self.bounce * (0.010 * np.sin(7.1 * time_s + p[2]) + 0.006 * np.sin(11.3 * time_s + p[3]))
        z = self.speed * (time_s + 0.9 * np.sin(0.45 * time_s + p[4]))  # between 0.6 and 1.4 of the mean speed
        return np.array([x, y, z])

    def rotation(self, time_s: float) -> np.ndarray:
        """World to camera, (3, 3); the camera's axes are x right, y down, z forward."""
        p = self.phases
        yaw = 0.030 * np.sin(0.41 * time_s + p[5]) + 0.012 * np.sin(1.03 * time_s + p[0])
        pitch = self.bounce * (0.006 * np.sin(5.3 * time_s + p[6]) + 0.004 * np.sin(8.9 * time_s + p[1]))
        roll = self.bounce * 0.006 * np.sin(2.3 * time_s + p[3])
        (cy, cp, cr), (sy, sp, sr) = np.cos([yaw, pitch, roll]), np.sin([yaw, pitch, roll])
        about_y = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
        about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
        about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
        return about_z @ about_x @ np.diag([1.0, -1.0, 1.0]) @ about_y


@dataclass(frozen=True)
class Straight:
    """Constant velocity (x, y, z), m/s."""

    velocity: tuple[float, float, float]

    def offset(self, time_s: float) -> np.ndarray:
        return np.asarray(self.velocity) * time_s


@dataclass(frozen=True)
class Following:
    """A vehicle that keeps ahead of the camera's, falling back and drawing away by `play` metres."""

    ego: EgoMotion
    play: float
    phase: float

    def offset(self, time_s: float) -> np.ndarray:
        ahead = self.ego.position(time_s)[2] - self.ego.position(0.0)[2]
        sway = self.play * (np.sin(0.5 * time_s + self.phase) - np.sin(self.phase))
        return np.array([0.15 * (np.sin(0.7 * time_s + self.phase) - np.sin(self.phase)), 0.0, ahead + sway])


@dataclass(frozen=True)
class Swing:
    """A limb: its lower end swings by `reach` (x, y, z) metres, `rate` times a second."""

    reach: tuple[float, float, float]
    rate: float
    phase: float

    def offset(self, time_s: float) -> np.ndarray:
        return np.asarray(self.reach) * np.sin(2 * np.pi * self.rate * time_s + self.phase)


@dataclass(frozen=True)
class Surface:
    """A textured parallelogram: its texture's top left corner at `origin`, columns along `u`, rows along `v`."""

    origin: Vector
    u: Vector
    v: Vector
    texture: Texture
    label: int
    group: int  # the object: surfaces of one object share it
    tint: Vector  # light falling on it, by channel
    two_sided: bool = False  # else it is only seen from the side that u x v points to
    at_infinity: bool = False  # moves with the camera, as the horizon seems to
    ground: bool = False  # shadows fall on it
    motion: Motion | None = None
    swing: Swing | None = None


class World:
    """Collects the surfaces, and the shadows on the ground."""

    def __init__(self, light: Sunlight) -> None:
        self.light = light
        self.surfaces: list[Surface] = []
        self.shadows: list[Surface] = []
        self._groups = 0

    def new_group(self) -> int:
        self._groups += 1
        return self._groups

    def add(
        self,
        origin: Vector,
        u: Vector,
        v: Vector,
        texture: Texture,
        label: str,
        group: int | None = None,
        *,
        normal: Vector | None = None,
        **options: Any,
    ) -> None:
        """Adds a surface, lit by the sun by its outward `normal` (u x v unless given).

        group: None for an object of its own; options: as of Surface.
        """
        outward = np.cross(u, v) if normal is None else np.asarray(normal, np.float64)
        tint = np.ones(3) if options.get("at_infinity") else self.light.on(outward / np.linalg.norm(outward))
        group = self.new_group() if group is None else group
        self.surfaces.append(Surface(origin, u, v, texture, LABEL[label], group, tint, **options))

    def add_upright(
        self,
        left: float,
        top: float,
        z: float,
        size: tuple[float, float],
        texture: Texture,
        label: str,
        group: int | None = None,
        **options: Any,
    ) -> None:
        """Adds a surface of `size` (width, height) that faces the start of the street; options: as of `add`."""
        width, height = size
        self.add((left, top, z), (width, 0, 0), (0, -height, 0), texture, label, group, **options)

    def add_wall(
        self,
        side: int,
        x: float,
        z: tuple[float, float],
        y: tuple[float, float],
        texture: Texture,
        label: str,
        group: int,
    ) -> None:
        """Adds a wall along the street that faces it; `side` -1 stands on the left and faces right."""
        start, along = (z[0], z[1] - z[0]) if side < 0 else (z[1], z[0] - z[1])
        self.add((x, y[1], start), (0, 0, along), (0, y[0] - y[1], 0), texture, label, group)

    def cast(self, centre: Vector, u: Vector, v: Vector, texture: Texture, motion: Motion | None = None) -> None:
        """Add a shadow on the ground; the texture's alpha is the share of the light that it takes."""
        origin = np.asarray(centre) - 0.5 * np.asarray(u) - 0.5 * np.asarray(v)
        self.shadows.append(Surface(origin, u, v, texture, 0, 0, (0, 0, 0), two_sided=True, motion=motion))


class SurfaceTable:
    """Surfaces as arrays, N of them."""

    def __init__(self, surfaces: Sequence[Surface]) -> None:
        count = len(surfaces)
        self.textures = [s.texture for s in surfaces]
        self.texture_sizes = np.array([s.texture.size for s in surfaces], np.int64).reshape(count, 2)
        self.labels = np.array([s.label for s in surfaces], np.uint8)
        self.groups = np.array([s.group for s in surfaces], np.int32)
        self.tints = np.array([s.tint for s in surfaces], np.float32).reshape(count, 3)
        self.two_sided = np.array([s.two_sided for s in surfaces], bool)
        self.at_infinity = np.array([s.at_infinity for s in surfaces], bool)
        self.ground = np.array([s.ground for s in surfaces], np.uint8)
        rest = np.array([[s.u, s.v, s.origin] for s in surfaces], np.float64).reshape(count, 3, 3)
        self._rest = np.ascontiguousarray(rest.transpose(0, 2, 1))
        movers: dict[int, tuple[Motion, list[int]]] = {}
        for index, surface in enumerate(surfaces):
            if surface.motion is not None:
                movers.setdefault(id(surface.motion), (surface.motion, []))[1].append(index)
        self._movers = [(motion, np.array(indices)) for motion, indices in movers.values()]
        self._swings = [(index, s.swing) for index, s in enumerate(surfaces) if s.swing is not None]

    def __len__(self) -> int:
        return len(self.labels)

    def bases(self, time_s: float) -> np.ndarray:
        """Where the surfaces are, (N, 3, 3): the columns of each are its u, v and origin."""
        bases = self._rest.copy()
        for motion, indices in self._movers:
            bases[indices, :, 2] += motion.offset(time_s)
        for index, swing in self._swings:
            bases[index, :, 1] += swing.offset(time_s)
        return bases
