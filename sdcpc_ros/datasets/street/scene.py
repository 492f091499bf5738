"""A town of the seed's, everything that stands along its street, and who moves through it."""

from __future__ import annotations

from functools import partial

import numpy as np

from sdcpc_ros.datasets.street import roadside
from sdcpc_ros.datasets.street.buildings import Building, roof_tiles
from sdcpc_ros.datasets.street.cars import Car
from sdcpc_ros.datasets.street.people import Cyclist, Pedestrian
from sdcpc_ros.datasets.street.roadside import FENCE_PIECE_M, FENCES, SIGN_CHANCES
from sdcpc_ros.datasets.street.textures import Texture, pick
from sdcpc_ros.datasets.street.weather import Weather, skyline
from sdcpc_ros.datasets.street.world import KERB_M, EgoMotion, SurfaceTable, Thing, World, straight

BEHIND_M = 16.0  # built behind the start
AHEAD_M = 200.0  # built past the end of the drive
HORIZON_M = 1000.0  # where the backdrop stands; it moves with the camera
TILE_M = 16.0  # length of a piece of road
YARD_M = 60.0  # the ground goes on this far behind the pavement
LEAVES = [(78, 108, 46), (92, 114, 54), (64, 92, 50), (112, 112, 50), (104, 92, 46)]


class Town:
    """What is the same all along one street: its measures, its weather and the pictures of its objects."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.lane = float(rng.uniform(2.9, 3.6))  # m, as all measures here
        self.parking = 2.1 if rng.random() < 0.6 else 0.35
        self.pavement = float(rng.uniform(2.0, 3.6))
        self.setback = float(rng.choice([0.0, 0.0, 2.5, 4.5]))  # front gardens
        self.half_road = self.lane + self.parking
        self.front_line = self.half_road + self.pavement
        self.side = -1 if rng.random() < 0.5 else 1  # of the road that one drives on
        self.weather = Weather(rng)

        leaf = np.asarray(pick(rng, LEAVES), np.float64)
        bare = rng.random() < 0.3
        self.crown_shadows = [self.weather.crown_shadow(rng, 0.35 if bare else 0.7) for _ in range(2)]
        self.trees = [roadside.tree(rng, leaf * rng.uniform(0.9, 1.25), winter=bare) for _ in range(5)]
        self.hedge = roadside.hedge(rng, leaf * 0.8)
        self.fence_kind = str(rng.choice(list(FENCES)))
        self.fence = roadside.fence(rng, self.fence_kind)
        self.railing = roadside.fence(rng, "railing")
        self.skylines = {"building": skyline(rng, "roofs", (132, 128, 126)), "tree": skyline(rng, "trees", leaf * 0.75)}

        roof = roof_tiles(rng)
        shop_chance = 0.7 if rng.random() < 0.55 else 0.0
        self.buildings = [Building(rng, roof, shop_chance) for _ in range(9)]
        self.lamp_height = float(rng.uniform(5.0, 8.0))
        self.lamp_post, self.pole = roadside.lamp_post(rng), roadside.pole(rng)
        self.signs = {kind: [roadside.sign(rng, kind) for _ in range(2)] for kind in SIGN_CHANCES}
        self.cars = [Car(rng) for _ in range(9)]
        self.pedestrians = [Pedestrian(rng) for _ in range(8)]
        self.cyclists = [Cyclist(rng) for _ in range(3)]

        tone = rng.uniform(80, 116)
        asphalt = np.array([tone, tone * 0.995, tone * 0.985])
        lines, dash = int(rng.integers(0, 3)), float(rng.choice([2.0, 4.0]))
        road = partial(roadside.road, rng, (TILE_M, 2 * self.half_road), asphalt)
        self.roads = [road(edge_lines=lines, dash_m=dash) for _ in range(4)]
        self.zebra = road(edge_lines=0, dash_m=0.0)
        stone = np.array([150.0, 147.0, 140.0]) * rng.uniform(0.8, 1.1)
        slab = float(rng.choice([0.45, 0.6, 0.9]))
        self.paving = [roadside.slabs(rng, self.pavement, TILE_M, stone, slab) for _ in range(3)]
        self.kerb = roadside.slabs(rng, 0.5, TILE_M, stone * 0.9, 0.9)
        self.yard = roadside.slabs(rng, 6.0, 8.0, stone * 0.85, 0.9)
        self.grass = roadside.grass(rng)


class Scene:
    """A town, and the drive through it that takes `duration_s` seconds."""

    def __init__(self, seed: int, duration_s: float) -> None:
        self._rng = rng = np.random.default_rng([seed, 1])
        self.town = town = Town(rng)
        self.ego = EgoMotion(rng, lane_x=town.side * town.lane / 2)
        self._duration_s = duration_s
        self._origin = float(self.ego.position(0.0)[2])
        self._start = self._origin - BEHIND_M
        self._end = float(self.ego.position(duration_s)[2]) + AHEAD_M
        self._world = World(town.weather)
        self._add_backdrop()
        self._add_ground()
        for side in (-1, 1):
            self._add_frontage(side)
            self._add_kerbside(side)
            self._add_parked_cars(side)
        self._add_traffic()
        self._add_cyclists()
        self._add_pedestrians()
        self.surfaces, self.shadows = SurfaceTable(self._world.surfaces), SurfaceTable(self._world.shadows)

    def _every(self, low: float, high: float) -> np.ndarray:
        """Places along the whole street, some constant distance apart that lies between `low` and `high`."""
        spacing = self._rng.uniform(low, high)
        return np.arange(self._start + self._rng.uniform(0, spacing), self._end, spacing)

    # --- what stands ------------------------------------------------------------------------------------------

    def _add_backdrop(self) -> None:
        """Sky, the first of all surfaces, and a skyline in front of it."""

        def add(label: str, texture: Texture, far: float, top: float, height: float) -> None:
            size = (2.6 * HORIZON_M, height)
            Thing(self._world, label).add_upright((-1.3 * HORIZON_M, top, far), size, texture, at_infinity=True)

        add("sky", self.town.weather.sky, HORIZON_M, 1.5 * HORIZON_M, 1.53 * HORIZON_M)
        for label, share, far in (("building", 0.035, HORIZON_M), ("tree", 0.03, 0.99 * HORIZON_M)):
            top = share * far * self._rng.uniform(0.8, 1.4)
            add(label, self.town.skylines[label], far, top, top + 0.02 * far)

    def _add_ground(self) -> None:
        rng, town = self._rng, self.town
        garden_label, garden = ("tree", town.grass) if town.setback else ("pavement", town.yard)
        road = Thing(self._world, "road")
        sides = [[Thing(self._world, label) for label in ("pavement", garden_label, "pavement")] for _ in range(2)]
        for z in np.arange(self._start, self._end, TILE_M):

            def strip(thing: Thing, x: float, width: float, y: float, texture: Texture, z: float = z) -> None:
                thing.add((x, y, z + TILE_M), (width, 0, 0), (0, 0, -TILE_M), texture, ground=True)

            tarmac = town.zebra if rng.random() < 0.06 else pick(rng, town.roads)
            strip(road, -town.half_road, 2 * town.half_road, 0.0, tarmac)
            for side, (pavement, yard, kerb) in zip((-1, 1), sides):
                front = town.front_line
                near, far = (-front, -front - YARD_M) if side < 0 else (town.half_road, front)
                strip(pavement, near, town.pavement, KERB_M, pick(rng, town.paving))
                strip(yard, far, YARD_M, KERB_M, garden)
                kerb.add_wall(side * town.half_road, (z, z + TILE_M), (0.0, KERB_M), town.kerb)

    def _add_frontage(self, side: int) -> None:
        """Buildings, gaps between them and small parks along one side."""
        rng, town = self._rng, self.town
        gap_chance, park_chance = rng.uniform(0.1, 0.35), rng.uniform(0.05, 0.2)
        z = self._start
        while z < self._end:
            chance = rng.random()
            if chance < park_chance:
                length = float(rng.uniform(14, 30))
                self._add_boundary(side, z, z + length)
                for _ in range(int(length / 3.5)):
                    x = side * (town.front_line + rng.uniform(1.5, 9))
                    self._add_tree(x, z + rng.uniform(0, length), rng.uniform(5, 10))
            elif chance < park_chance + gap_chance:
                length = float(rng.uniform(2.5, 6))
                self._add_boundary(side, z, z + length)
                if rng.random() < 0.6:
                    self._add_tree(side * (town.front_line + rng.uniform(2, 5)), z + length / 2, rng.uniform(4, 7))
            else:
                building = pick(rng, town.buildings)
                building.place(self._world, side, town.front_line + town.setback, z)
                length = building.length
                if town.setback:
                    self._add_boundary(side, z, z + length - 1.2)
                    if rng.random() < 0.4:
                        x = side * (town.front_line + 0.5 * town.setback)
                        self._add_tree(x, z + rng.uniform(1, length), rng.uniform(2.5, 5))
            z += length

    def _add_boundary(self, side: int, z0: float, z1: float) -> None:
        """A fence or a hedge along the back of the pavement."""
        town, line = self.town, side * self.town.front_line
        if self._rng.random() < 0.6:
            self._add_fence("fence", town.fence, FENCES[town.fence_kind], line, z0, z1)
        else:
            self._add_fence("tree", town.hedge, 1.5, line, z0, z1)

    def _add_fence(self, label: str, texture: Texture, height: float, x: float, z0: float, z1: float) -> None:
        fence = Thing(self._world, label)
        for z in np.arange(z0, z1 - 1.0, FENCE_PIECE_M):
            fence.add_wall(x, (z, min(z + FENCE_PIECE_M, z1)), (KERB_M, KERB_M + height), texture)

    def _add_tree(self, x: float, z: float, height: float) -> None:
        rng, town, tree = self._rng, self.town, Thing(self._world, "tree")
        picture = pick(rng, town.trees)
        width = height * rng.uniform(0.75, 1.0) * rng.choice([-1, 1])  # mirrored, one tree looks like two
        top_left = (x - width / 2, KERB_M + height, z)
        tree.add_upright(top_left, (width, height), picture, normal=(0.0, 0.6, -0.8), two_sided=True)
        shift, spread = town.weather.shadow_shift(0.6 * height), 1.6 * abs(width)
        centre = (x + shift[0], KERB_M / 2, z + shift[1])
        tree.cast(centre, (spread, 0, 0), (0, 0, -spread), pick(rng, town.crown_shadows))

    def _add_kerbside(self, side: int) -> None:
        """Lamp posts, signs, bollards, street trees and guard rails along one side."""
        rng, town = self._rng, self.town
        kerb = side * (town.half_road + 0.45)
        height, width = town.lamp_height, side * town.lamp_height * town.lamp_post.size[1] / town.lamp_post.size[0]
        for z in self._every(18, 32):
            edges = (kerb + width / 2, KERB_M + height, z), (-width, 0, 0), (0, -height, 0)  # over the road
            Thing(self._world, "pole").add(*edges, town.lamp_post, normal=(0, 0.3, -0.95), two_sided=True)
        for z in self._every(9, 20):
            self._add_sign(kerb + side * rng.uniform(0, 0.5), z + rng.uniform(-3, 3))
        if rng.random() < 0.5:
            for z in self._every(3, 7):
                if z // 30 % 2 < 1:
                    self._add_pole(kerb, z, height=0.95, width=0.12)
        if rng.random() < 0.55:
            for z in self._every(9, 18):
                self._add_tree(kerb + side * 0.35, z, rng.uniform(4.5, 7.5))
        if rng.random() < 0.5:
            z, line = rng.uniform(self._start + 20, self._end - 80), side * (town.half_road + 0.2)
            self._add_fence("fence", town.railing, FENCES["railing"], line, z, z + rng.uniform(12, 40))

    def _add_pole(self, x: float, z: float, height: float, width: float) -> None:
        top_left = (x - width / 2, KERB_M + height, z)
        Thing(self._world, "pole").add_upright(top_left, (width, height), self.town.pole)

    def _add_sign(self, x: float, z: float) -> None:
        rng = self._rng
        kind = str(rng.choice(list(SIGN_CHANCES), p=list(SIGN_CHANCES.values())))
        picture = pick(rng, self.town.signs[kind])
        height = float(rng.uniform(2.5, 3.2))
        size = 0.95 if kind == "lights" else float(rng.uniform(0.6, 0.85))
        self._add_pole(x, z, height, 0.1)
        top_left = (x - size / 2, KERB_M + height + 0.1, z - 0.06)
        Thing(self._world, "sign_symbol").add_upright(top_left, (size, size), picture)

    # --- who moves --------------------------------------------------------------------------------------------

    def _add_parked_cars(self, side: int) -> None:
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
                x, car = side * (town.half_road - 1.08 + rng.normal(0, 0.04)), pick(rng, town.cars)
                car.place(self._world, x, z, oncoming=side != town.side)
                z += car.length + rng.uniform(0.8, 2.5)
            else:
                z += 5.5

    def _add_traffic(self) -> None:
        """Perhaps a car ahead, and oncoming ones."""
        rng, cars, lane_x = self._rng, self.town.cars, self.ego.lane_x
        if rng.random() < 0.7:
            follow = partial(self.ego.lead, float(rng.uniform(1, 4)), float(rng.uniform(0, 2 * np.pi)))
            z = self._origin + rng.uniform(11, 34)
            pick(rng, cars).place(self._world, lane_x, z, oncoming=False, motion=follow)
        speed, gap = float(rng.uniform(5, 12)), rng.uniform(16, 80)
        z = self._origin + rng.uniform(5, 45)
        while z < self._end + speed * self._duration_s:
            x, car = -lane_x + rng.normal(0, 0.1), pick(rng, cars)
            car.place(self._world, x, z, oncoming=True, motion=straight(0.0, 0.0, -speed))
            z += car.length + gap * rng.uniform(0.6, 1.8)

    def _add_cyclists(self) -> None:
        """Riders at the edge of either lane; the camera overtakes those ahead at the end of the drive or not at all."""
        rng, town = self._rng, self.town
        pace = float(rng.uniform(3.0, 5.0))
        edge = town.side * (town.lane - 0.5)
        for _ in range(int(rng.integers(1, 3))):
            rider = pick(rng, town.cyclists)
            ahead = max(0.0, (self.ego.speed - pace) * self._duration_s * rng.uniform(0.4, 1.0)) % 70
            rider.place(self._world, edge, self._origin + 8 + ahead, pace)
        z = self._origin + rng.uniform(10, 40)
        while z < self._end + pace * self._duration_s:
            pick(rng, town.cyclists).place(self._world, -edge, z, -pace)
            z += rng.uniform(25, 120)

    def _add_pedestrians(self) -> None:
        rng, town = self._rng, self.town
        density = rng.uniform(0.06, 0.26)  # people a metre
        for _ in range(int(density * (self._end - self._start))):
            side, heading = rng.choice([-1, 1]), rng.choice([-1, 1])
            x = side * rng.uniform(town.half_road + 0.8, town.front_line - 0.4)
            foot, pace = (x, KERB_M, rng.uniform(self._start, self._end)), heading * float(rng.uniform(0.8, 1.7))
            pick(rng, town.pedestrians).place(self._world, foot, (0.0, pace))
        # Some cross, far enough ahead to be back on the pavement when the camera passes.
        for time_s in np.arange(1.0, max(1.5, self._duration_s), 3.0):
            if rng.random() < 0.6:
                pace = float(rng.uniform(1.1, 1.6) * rng.choice([-1, 1]))
                clear_s = time_s + (town.half_road + 1) / abs(pace)
                z = float(self.ego.position(clear_s)[2]) + rng.uniform(7, 16)
                pick(rng, town.pedestrians).place(self._world, (-pace * time_s, 0.0, z), (pace, 0.0))
