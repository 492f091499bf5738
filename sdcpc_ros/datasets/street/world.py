"""The world as data: textured parallelograms and how they move.

Axes: x to the right, y up, z along the street, metres; the road's surface is y = 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from sdcpc_ros.datasets.street.textures import Texture
from sdcpc_ros.datasets.street.weather import Weather
from sdcpc_ros.labels.label_set import CAMVID_11

LABEL = {name: index for index, name in enumerate(CAMVID_11.class_names)}
KERB_M = 0.11  # height of the pavement

Vector = Sequence[float] | np.ndarray
Motion = Callable[[float], np.ndarray]  # time in s -> displacement (3,) in m


class EgoMotion:
    """The camera's path: forward with a varying speed, drifting in its lane, nodding on its springs."""

    def __init__(self, rng: np.random.Generator, lane_x: float) -> None:
        self.lane_x = lane_x  # m
        self.speed = float(rng.uniform(5.0, 11.0))  # m/s
        self.height = float(rng.uniform(1.2, 1.45))  # m
        self.phases = rng.uniform(0, 2 * np.pi, 7).tolist()
        self.bounce = float(rng.uniform(0.5, 1.4))  # 1 is an ordinary road

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

    def lead(self, play: float, phase: float, time_s: float) -> np.ndarray:
        """Displacement (3,) of a vehicle that drives ahead, at a distance that varies by `play` metres."""
        ahead = self.position(time_s)[2] - self.position(0.0)[2]
        sway = play * (np.sin(0.5 * time_s + phase) - np.sin(phase))
        return np.array([0.15 * (np.sin(0.7 * time_s + phase) - np.sin(phase)), 0.0, ahead + sway])


def straight(*velocity: float) -> Motion:
    """Constant velocity x, y, z, m/s."""
    return partial(np.multiply, velocity)


def swing(reach: Vector, rate_hz: float, phase: float, time_s: float) -> np.ndarray:
    """Displacement of the lower end of a limb that swings by `reach` (x, y, z) metres."""
    return np.asarray(reach) * np.sin(2 * np.pi * rate_hz * time_s + phase)


class Surface(NamedTuple):
    """A textured parallelogram: its texture's top left corner at `origin`, columns along `u`, rows along `v`."""

    origin: Vector
    u: Vector
    v: Vector
    texture: Texture
    thing: Thing
    tint: Vector  # light falling on it, by channel
    two_sided: bool = False  # else it is only seen from the side that u x v points to
    at_infinity: bool = False  # moves with the camera, as the horizon seems to
    ground: bool = False  # shadows fall on it
    swing: Motion | None = None  # of its lower edge


class World:
    """All surfaces, and the shadows on the ground."""

    def __init__(self, weather: Weather) -> None:
        self.weather = weather
        self.surfaces: list[Surface] = []
        self.shadows: list[Surface] = []


@dataclass(frozen=True, eq=False)
class Thing:
    """An object: surfaces of one class that move together; without a motion it stands still."""

    world: World
    label: str
    motion: Motion | None = None

    def add(self, origin: Vector, u: Vector, v: Vector, texture: Texture, **options: Any) -> None:
        """Adds a surface, lit by its outward `normal` (an option; u x v unless given); other options as of Surface."""
        outward = np.asarray(options.pop("normal", np.cross(u, v)), np.float64)
        lit = not options.get("at_infinity")
        tint = self.world.weather.light_on(outward / np.linalg.norm(outward)) if lit else np.ones(3)
        self.world.surfaces.append(Surface(origin, u, v, texture, self, tint, **options))

    def add_upright(self, top_left: Vector, size: tuple[float, float], texture: Texture, **options: Any) -> None:
        """Adds a surface of `size` (width, height) that faces the start of the street; options: as of `add`."""
        self.add(top_left, (size[0], 0, 0), (0, -size[1], 0), texture, **options)

    def add_wall(self, x: float, z: Sequence[float], y: Sequence[float], texture: Texture) -> None:
        """Adds a wall along the street, from z to z and y to y, that faces the street's middle (x = 0)."""
        start, end = z if x < 0 else z[::-1]
        self.add((x, y[1], start), (0, 0, end - start), (0, y[0] - y[1], 0), texture)

    def cast(self, centre: Vector, u: Vector, v: Vector, texture: Texture) -> None:
        """Adds a shadow on the ground; the texture's alpha is the share of the light that it takes."""
        origin = np.asarray(centre) - 0.5 * np.asarray(u) - 0.5 * np.asarray(v)
        self.world.shadows.append(Surface(origin, u, v, texture, self, (0, 0, 0), two_sided=True))


class SurfaceTable:
    """Surfaces as arrays, N of them."""

    def __init__(self, surfaces: Sequence[Surface]) -> None:
        columns = dict(zip(Surface._fields, zip(*surfaces)))
        things = {thing: number for number, thing in enumerate(dict.fromkeys(columns["thing"]))}
        self.textures: Sequence[Texture] = columns["texture"]
        self.texture_sizes = np.array([texture.size for texture in self.textures])
        self.labels = np.array([LABEL[thing.label] for thing in columns["thing"]], np.uint8)
        self.things = np.array([things[thing] for thing in columns["thing"]])
        self.tints = np.array(columns["tint"], np.float32)
        self.two_sided = np.array(columns["two_sided"])
        self.at_infinity = np.array(columns["at_infinity"])
        self.ground = np.array(columns["ground"], np.uint8)
        self._rest = np.stack([np.array(columns[part], np.float64) for part in ("u", "v", "origin")], axis=2)
        self._movers = [(thing.motion, self.things == number) for thing, number in things.items() if thing.motion]
        self._swings = [(index, limb) for index, limb in enumerate(columns["swing"]) if limb is not None]

    def __len__(self) -> int:
        return len(self.labels)

    def bases(self, time_s: float) -> np.ndarray:
        """Where the surfaces are, (N, 3, 3): the columns of each are its u, v and origin."""
        bases = self._rest.copy()
        for motion, indices in self._movers:
            bases[indices, :, 2] += motion(time_s)
        for index, limb in self._swings:
            bases[index, :, 1] += limb(time_s)
        return bases
