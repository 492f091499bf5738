"""Where the seed puts everything along the street, and who moves through it."""

from __future__ import annotations

import numpy as np

from sdcpc_ros.datasets.street.greenery import FENCE_PIECE_M, FENCES
from sdcpc_ros.datasets.street.textures import Texture
from sdcpc_ros.datasets.street.town import TILE_M, YARD_M, Town
from sdcpc_ros.datasets.street.world import KERB_M, EgoMotion, Following, Straight, SurfaceTable, World

BEHIND_M = 16.0  # built behind the start
AHEAD_M = 200.0  # built past the end of the drive
HORIZON_M = 1000.0  # where the backdrop stands; it moves with the camera


class Scene:
    """A town, and the drive through it that takes `duration_s` seconds."""

    def __init__(self, seed: int, duration_s: float) -> None:
        self._rng = rng = np.random.default_rng([seed, 1])
        self.town = town = Town(rng)
        self.ego = EgoMotion(
            speed=float(rng.uniform(5.0, 11.0)),
            lane_x=town.side * town.lane / 2,
            height=float(rng.uniform(1.2, 1.45)),
            phases=tuple(float(phase) for phase in rng.uniform(0, 2 * np.pi, 7)),
            bounce=float(rng.uniform(0.5, 1.4)),
        )
        self._duration_s = duration_s
        self._origin = float(self.ego.position(0.0)[2])
        self._start = self._origin - BEHIND_M
        self._end = float(self.ego.position(duration_s)[2]) + AHEAD_M
        self._world = World(town.sunlight)
        self._backdrop()
        self._ground()
        for side in (-1, 1):
            self._frontage(side)
            self._kerbside(side)
            self._parked(side)
        self._traffic()
        self._cyclists()
        self._pedestrians()
        self.surfaces = SurfaceTable(self._world.surfaces)
        self.shadows = SurfaceTable(self._world.shadows)

    def _every(self, low: float, high: float) -> np.ndarray:
        """Places along the whole street, some constant distance apart that lies between `low` and `high`."""
        spacing = self._rng.uniform(low, high)
        return np.arange(self._start + self._rng.uniform(0, spacing), self._end, spacing)

    # --- what stands ------------------------------------------------------------------------------------------

    def _backdrop(self) -> None:
        """Sky, the first of all surfaces, and a skyline in front of it."""
        world, rng, far = self._world, self._rng, HORIZON_M
        size = (2.6 * far, 1.53 * far)
        world.add_upright(-1.3 * far, 1.5 * far, far, size, self.town.sky, "sky", at_infinity=True)
        for kind, label, share in (("roofs", "building", 0.035), ("trees", "tree", 0.03)):
            top = share * far * rng.uniform(0.8, 1.4)
            size = (2.6 * far, top + 0.02 * far)
            world.add_upright(-1.3 * far, top, far, size, self.town.skylines[kind], label, at_infinity=True)
            far *= 0.99  # trees stand before roofs

    def _ground(self) -> None:
        rng, town, world = self._rng, self.town, self._world
        garden, garden_label = (town.grass, "tree") if town.setback else (town.yard, "pavement")
        groups = [world.new_group() for _ in range(7)]
        for z in np.arange(self._start, self._end, TILE_M):

            def strip(x: float, width: float, y: float, texture: Texture, label: str, group: int, z: float = z) -> None:
                world.add((x, y, z + TILE_M), (width, 0, 0), (0, 0, -TILE_M), texture, label, group, ground=True)

            road = town.zebra if rng.random() < 0.06 else town.roads[rng.integers(0, len(town.roads))]
            strip(-town.half_road, 2 * town.half_road, 0.0, road, "road", groups[0])
            for side, group in ((-1, 1), (1, 4)):
                paving = town.paving[rng.integers(0, len(town.paving))]
                front = town.front_line
                near, far = (-front, -front - YARD_M) if side < 0 else (town.half_road, front)
                strip(near, town.pavement, KERB_M, paving, "pavement", groups[group])
                strip(far, YARD_M, KERB_M, garden, garden_label, groups[group + 1])
                span, kerb = (z, z + TILE_M), groups[group + 2]
                world.add_wall(side, side * town.half_road, span, (0.0, KERB_M), town.kerb, "pavement", kerb)

    def _frontage(self, side: int) -> None:
        """Buildings, gaps between them and small parks along one side."""
        rng, town = self._rng, self.town
        gap_chance, park_chance = rng.uniform(0.1, 0.35), rng.uniform(0.05, 0.2)
        z = self._start
        while z < self._end:
            chance = rng.random()
            if chance < park_chance:
                length = float(rng.uniform(14, 30))
                self._boundary(side, z, z + length)
                for _ in range(int(length / 3.5)):
                    x = side * (town.front_line + rng.uniform(1.5, 9))
                    self._tree(x, z + rng.uniform(0, length), rng.uniform(5, 10))
            elif chance < park_chance + gap_chance:
                length = float(rng.uniform(2.5, 6))
                self._boundary(side, z, z + length)
                if rng.random() < 0.6:
                    self._tree(side * (town.front_line + rng.uniform(2, 5)), z + length / 2, rng.uniform(4, 7))
            else:
                building = town.buildings[rng.integers(0, len(town.buildings))]
                building.place(self._world, side, town.front_line + town.setback, z, town.cast)
                length = building.length
                if town.setback:
                    self._boundary(side, z, z + length - 1.2)
                    if rng.random() < 0.4:
                        x = side * (town.front_line + 0.5 * town.setback)
                        self._tree(x, z + rng.uniform(1, length), rng.uniform(2.5, 5))
            z += length

    def _boundary(self, side: int, z0: float, z1: float) -> None:
        """A fence or a hedge along the back of the pavement."""
        if self._rng.random() < 0.6:
            self._fence(side, self.town.front_line, z0, z1, self.town.fence, "fence", FENCES[self.town.fence_kind])
        else:
            self._fence(side, self.town.front_line, z0, z1, self.town.hedge, "tree", 1.5)

    def _fence(self, side: int, line: float, z0: float, z1: float, texture: Texture, label: str, height: float) -> None:
        group = self._world.new_group()
        for z in np.arange(z0, z1 - 1.0, FENCE_PIECE_M):
            span = (z, min(z + FENCE_PIECE_M, z1))
            self._world.add_wall(side, side * line, span, (KERB_M, KERB_M + height), texture, label, group)

    def _tree(self, x: float, z: float, height: float) -> None:
        rng, town = self._rng, self.town
        picture = town.trees[rng.integers(0, len(town.trees))]
        width = height * rng.uniform(0.75, 1.0) * rng.choice([-1, 1])  # mirrored, one tree looks like two
        size, lit = (width, height), (0.0, 0.6, -0.8)
        left, top = x - width / 2, KERB_M + height
        self._world.add_upright(left, top, z, size, picture, "tree", normal=lit, two_sided=True)
        shift = town.sunlight.shadow_shift(0.6 * height)
        spread = 1.6 * abs(width)
        dapple = town.dapples[rng.integers(0, len(town.dapples))]
        self._world.cast((x + shift[0], KERB_M / 2, z + shift[1]), (spread, 0, 0), (0, 0, -spread), dapple)

    def _kerbside(self, side: int) -> None:
        """Lamp posts, signs, bollards, street trees and guard rails along one side."""
        rng, town, world = self._rng, self.town, self._world
        kerb = side * (town.half_road + 0.45)
        for z in self._every(18, 32):
            town.furniture.place_lamp_post(world, side, kerb, z)
        for z in self._every(9, 20):
            town.furniture.place_sign(world, rng, kerb + side * rng.uniform(0, 0.5), z + rng.uniform(-3, 3))
        if rng.random() < 0.5:
            for z in self._every(3, 7):
                if z // 30 % 2 < 1:
                    town.furniture.place_pole(world, kerb, z, height=0.95, width=0.12)
        if rng.random() < 0.55:
            for z in self._every(9, 18):
                self._tree(kerb + side * 0.35, z, rng.uniform(4.5, 7.5))
        if rng.random() < 0.5:
            z = rng.uniform(self._start + 20, self._end - 80)
            self._fence(
                side, town.half_road + 0.2, z, z + rng.uniform(12, 40), town.railing, "fence", FENCES["railing"]
            )

    # --- who moves --------------------------------------------------------------------------------------------

    def _car(self, x: float, z: float, *, oncoming: bool, motion: Straight | Following | None) -> float:
        """Put one of the town's cars there; returns its length."""
        car = self.town.cars[self._rng.integers(0, len(self.town.cars))]
        car.place(self._world, x, z, self.town.contact, oncoming=oncoming, motion=motion)
        return car.length

    def _parked(self, side: int) -> None:
        """Rows of parked cars with free stretches between."""
        rng, town = self._rng, self.town
        if town.parking < 1.9:
            return
        density = rng.uniform(0.1, 0.6)
        z = self._start + rng.uniform(0, 8)
        while z < self._end:
            if rng.random() < 0.15:
                z += rng.uniform(10, 30)
            if rng.random() < density:
                x = side * (town.half_road - 1.08 + rng.normal(0, 0.04))
                z += self._car(x, z, oncoming=side != town.side, motion=None) + rng.uniform(0.8, 2.5)
            else:
                z += 5.5

    def _traffic(self) -> None:
        """Perhaps a car ahead, and oncoming ones."""
        rng, lane_x = self._rng, self.ego.lane_x
        if rng.random() < 0.7:
            follow = Following(self.ego, play=float(rng.uniform(1, 4)), phase=float(rng.uniform(0, 2 * np.pi)))
            self._car(lane_x, self._origin + rng.uniform(11, 34), oncoming=False, motion=follow)
        speed, gap = float(rng.uniform(5, 12)), rng.uniform(16, 80)
        oncoming = Straight((0.0, 0.0, -speed))
        z = self._origin + rng.uniform(5, 45)
        while z < self._end + speed * self._duration_s:
            length = self._car(-lane_x + rng.normal(0, 0.1), z, oncoming=True, motion=oncoming)
            z += length + gap * rng.uniform(0.6, 1.8)

    def _cyclists(self) -> None:
        """Riders at the edge of either lane; the camera overtakes those ahead at the end of the drive or not at all."""
        rng, town = self._rng, self.town
        pace = float(rng.uniform(3.0, 5.0))
        edge = town.side * (town.lane - 0.5)
        for _ in range(int(rng.integers(1, 3))):
            rider = town.cyclists[rng.integers(0, len(town.cyclists))]
            z = self._origin + 8 + max(0.0, (self.ego.speed - pace) * self._duration_s * rng.uniform(0.4, 1.0)) % 70
            rider.place(self._world, edge, z, town.contact, Straight((0.0, 0.0, pace)), oncoming=False)
        z = self._origin + rng.uniform(10, 40)
        while z < self._end + pace * self._duration_s:
            rider = town.cyclists[rng.integers(0, len(town.cyclists))]
            rider.place(self._world, -edge, z, town.contact, Straight((0.0, 0.0, -pace)), oncoming=True)
            z += rng.uniform(25, 120)

    def _pedestrians(self) -> None:
        rng, town = self._rng, self.town
        density = rng.uniform(0.06, 0.26)  # people a metre
        for _ in range(int(density * (self._end - self._start))):
            side, heading = rng.choice([-1, 1]), rng.choice([-1, 1])
            x = side * rng.uniform(town.half_road + 0.8, town.front_line - 0.4)
            foot = (x, KERB_M, rng.uniform(self._start, self._end))
            self._walker(foot, (0.0, heading * float(rng.uniform(0.8, 1.7))))
        # Some cross, far enough ahead to be back on the pavement when the camera passes.
        for time_s in np.arange(1.0, max(1.5, self._duration_s), 3.0):
            if rng.random() < 0.6:
                pace = float(rng.uniform(1.1, 1.6) * rng.choice([-1, 1]))
                clear_s = time_s + (town.half_road + 1) / abs(pace)
                z = float(self.ego.position(clear_s)[2]) + rng.uniform(7, 16)
                self._walker((-pace * time_s, 0.0, z), (pace, 0.0))

    def _walker(self, foot: tuple[float, float, float], velocity: tuple[float, float]) -> None:
        pedestrian = self.town.pedestrians[self._rng.integers(0, len(self.town.pedestrians))]
        pedestrian.place(self._world, foot, self.town.contact, velocity)
