"""Laying out a town: what a seed builds along the street, who moves in it, and the light it lies in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sdcpc_ros.datasets import street_textures as textures
from sdcpc_ros.datasets.street_actors import (
    LABEL,
    PROFILES,
    Car,
    Cyclist,
    Light,
    Person,
    lamp_post,
    pole,
    sign_plate,
)
from sdcpc_ros.datasets.street_world import EgoMotion, Following, Straight, Surface, World

BEHIND_M = 16.0  # built behind the start
AHEAD_M = 200.0  # built past the end of the drive
TILE_M = 16.0  # length of a piece of road
KERB_M = 0.11
WALLS = {
    "brick": [(150, 84, 66), (166, 106, 80), (186, 160, 116), (132, 76, 62), (178, 140, 104)],
    "render": [(214, 206, 188), (196, 190, 184), (222, 196, 158), (176, 190, 196), (206, 172, 160), (188, 196, 172)],
    "stone": [(186, 176, 154), (168, 160, 146), (150, 146, 140)],
}
PAINTS = [
    (168, 172, 176), (58, 62, 68), (26, 27, 30), (190, 30, 32), (34, 58, 118), (214, 214, 210), (96, 110, 124), (40, 72, 60), (150, 140, 118),
]  # fmt: skip
LEAVES = [(74, 104, 42), (92, 116, 50), (58, 88, 44), (128, 118, 46), (110, 98, 40)]


@dataclass(frozen=True)
class Atmosphere:
    """Weather and camera: what happens to light between a surface and the pixel."""

    shadow: float  # share of the light that a cast shadow takes
    visibility_m: float
    haze: tuple[float, float, float]
    gain: float
    contrast_rate: float  # Hz of the slow changes of exposure
    flicker: float  # depth of the light changes under trees
    warmth: float
    blur: float  # standard deviation, pixels
    phases: tuple[float, ...]
    canopy: np.ndarray  # light under the trees by metre of street, mean 0
    grain: np.ndarray  # a sheet of sensor noise, (256, 256, 3) float32

    def exposure(self, time_s: float, z: float) -> np.ndarray:
        """RGB factor of the whole frame, (3,) float32."""
        p = self.phases
        slow = 1 + 0.07 * np.sin(2 * np.pi * self.contrast_rate * time_s + p[0]) + 0.03 * np.sin(1.9 * time_s + p[1])
        at = z % len(self.canopy)
        flicker = 1 + self.flicker * np.interp(at, np.arange(len(self.canopy)), self.canopy)
        warm = self.warmth + 0.025 * np.sin(0.33 * time_s + p[2])
        return (self.gain * slow * flicker * np.array([1 + warm, 1.0, 1 - warm])).astype(np.float32)


class Scene:
    """The town of a seed, long enough for a drive of `duration_s` seconds."""

    def __init__(self, seed: int, duration_s: float) -> None:
        rng = np.random.default_rng([seed, 1])
        self._rng, self._world = rng, World()
        self._lane = float(rng.uniform(2.9, 3.6))
        self._parking = 2.0 if rng.random() < 0.7 else 0.35
        self._half_road = self._lane + self._parking
        self._pavement = float(rng.uniform(1.8, 3.4))
        self._setback = float(rng.choice([0.0, 0.0, 2.5, 4.5]))
        self._left_driving = bool(rng.random() < 0.5)
        lane_x = self._lane / 2 * (-1 if self._left_driving else 1)
        self.ego = EgoMotion(
            speed=float(rng.uniform(5.0, 11.0)),
            lane_x=lane_x,
            height=float(rng.uniform(1.2, 1.45)),
            phases=tuple(float(p) for p in rng.uniform(0, 2 * np.pi, 7)),
            bounce=float(rng.uniform(0.5, 1.4)),
        )
        self._duration = duration_s
        self._start = float(self.ego.position(0.0)[2]) - BEHIND_M
        self._end = float(self.ego.position(duration_s)[2]) + AHEAD_M
        self._make_weather(seed)
        self._make_stock()

        self._sky()
        self._ground()
        for side in (-1, 1):
            self._frontage(side)
            self._furniture(side)
            self._parked(side)
        self._traffic()
        self._walkers()
        self.surfaces, self.shadows = self._world.freeze()
        ground = [LABEL["road"], LABEL["pavement"]]
        self.is_ground = (np.isin(self.surfaces.labels, ground) | self._flat(self.surfaces)).astype(np.uint8)
        del self._world, self._rng

    @staticmethod
    def _flat(table: object) -> np.ndarray:
        bases = table.bases(0.0)  # type: ignore[attr-defined]
        return (bases[:, 1, 0] == 0) & (bases[:, 1, 1] == 0) & (bases[:, 1, 2] < 0.5)

    # --- weather and stock ------------------------------------------------------------------------------------

    def _make_weather(self, seed: int) -> None:
        rng = self._rng
        kind = rng.choice(["sunny", "hazy", "overcast", "evening"], p=[0.4, 0.2, 0.25, 0.15])
        azimuth = rng.uniform(0, 2 * np.pi)
        height = {"sunny": 0.75, "hazy": 0.6, "overcast": 0.9, "evening": 0.3}[kind]
        sun = np.array([np.cos(azimuth), height, np.sin(azimuth)])
        self._sun = sun / np.linalg.norm(sun)
        strength, shadow, cloud, visibility, gain, warmth = {
            "sunny": (0.85, 0.55, 0.25, 700.0, 1.06, 0.01),
            "hazy": (0.5, 0.3, 0.55, 260.0, 1.0, 0.0),
            "overcast": (0.12, 0.12, 1.0, 330.0, 0.86, -0.02),
            "evening": (0.75, 0.45, 0.35, 380.0, 0.92, 0.06),
        }[kind]
        warm = np.array([1.06, 1.0, 0.9]) if kind != "evening" else np.array([1.22, 0.98, 0.7])
        self._light = Light(self._sun, strength, warm, textures.soft_box())
        self._shadow_strength = shadow
        zenith, horizon = {
            "sunny": ((92, 138, 202), (206, 220, 232)),
            "hazy": ((158, 182, 206), (226, 228, 226)),
            "overcast": ((206, 210, 214), (232, 233, 234)),
            "evening": ((112, 138, 186), (246, 214, 168)),
        }[kind]
        cloudiness = float(np.clip(cloud + rng.uniform(-0.15, 0.15), 0, 1))
        self._sky_texture = textures.sky(rng, zenith, horizon, cloudiness)
        canopy = np.convolve(rng.standard_normal(400), np.ones(3) / 3, "same")
        grain = np.random.default_rng([seed, 2]).standard_normal((256, 256, 3)).astype(np.float32)
        grain = 0.45 * grain + grain.mean(axis=2, keepdims=True) * 1.2
        self.light = Atmosphere(
            shadow=shadow,
            visibility_m=visibility * float(rng.uniform(0.8, 1.3)),
            haze=tuple(0.94 * value for value in horizon),  # type: ignore[arg-type]
            gain=gain * float(rng.uniform(0.86, 1.12)),
            contrast_rate=float(rng.uniform(0.08, 0.2)),
            flicker=float(rng.uniform(0.02, 0.09)) if kind in ("sunny", "evening") else 0.01,
            warmth=warmth + float(rng.normal(0, 0.015)),
            blur=float(rng.uniform(0.35, 0.6)),
            phases=tuple(float(p) for p in rng.uniform(0, 2 * np.pi, 3)),
            canopy=canopy,
            grain=grain * np.float32(rng.uniform(1.5, 3.5)),
        )

    def _make_stock(self) -> None:
        """Draw the pictures that this town uses, each many times."""
        rng = self._rng
        shops = bool(rng.random() < 0.55)
        self._facades = []
        for _ in range(9):
            wall = str(rng.choice(list(WALLS), p=[0.5, 0.35, 0.15]))
            colour = np.asarray(WALLS[wall][rng.integers(0, len(WALLS[wall]))]) * rng.uniform(0.85, 1.1)
            frame = np.asarray([(226, 226, 222), (60, 50, 44), (40, 60, 52)][rng.integers(0, 3)]) * 1.0
            style = textures.FacadeStyle(
                wall=wall,
                colour=tuple(colour),
                frame=tuple(frame),
                floors=int(rng.integers(2, 5)),
                floor_m=float(rng.uniform(2.8, 3.5)),
                bay_m=float(rng.uniform(2.2, 3.4)),
                window=(float(rng.uniform(0.35, 0.6)), float(rng.uniform(0.45, 0.62))),
                panes=(int(rng.integers(1, 4)), int(rng.integers(1, 3))),
                shop=shops and bool(rng.random() < 0.7),
            )
            front = textures.facade(rng, style, bays=int(rng.integers(2, 6)))
            depth = float(rng.uniform(7, 11))
            rise = float(rng.uniform(2.2, 3.6))
            pitched = bool(rng.random() < 0.65)
            side = textures.side_wall(rng, style, depth)
            end = textures.gable(rng, style, depth, rise)
            self._facades.append((style, front, side, end, depth, rise, pitched))
        roofs = [(92, 62, 52), (84, 84, 90), (120, 72, 52)]
        self._roof = textures.roof_tiles(rng, roofs[rng.integers(0, 3)])
        leaf = LEAVES[rng.integers(0, len(LEAVES))]
        self._leaf = np.asarray(leaf, np.float32)
        bare = rng.random() < 0.3
        self._trees = [
            textures.tree(rng, self._leaf * rng.uniform(0.85, 1.2), bare=bool(bare and rng.random() < 0.8), dense=float(rng.uniform(0.7, 1.3)))
            for _ in range(5)
        ]
        self._dapples = [textures.dapple(rng, 0.35 if bare else 0.7) for _ in range(2)]
        self._hedge = textures.hedge(rng, (48, 320), self._leaf * 0.8)
        self._grass = textures.grass(rng, (256, 384), (98, 116, 58))
        self._fence_kind = str(rng.choice(["railing", "boards", "picket"]))
        self._fence_high = {"railing": 1.2, "boards": 1.7, "picket": 1.0}[self._fence_kind]
        self._fence = textures.fence(rng, self._fence_kind, 4.0, self._fence_high)
        kinds = list(PROFILES)
        self._cars = []
        for _ in range(9):
            paint = np.asarray(PAINTS[rng.integers(0, len(PAINTS))]) * rng.uniform(0.85, 1.15)
            self._cars.append(Car(rng, kinds[rng.choice(4, p=[0.4, 0.25, 0.23, 0.12])], paint))
        self._people = [Person(rng) for _ in range(8)]
        self._cyclists = [Cyclist(rng) for _ in range(2)]
        self._lamp = lamp_post(rng, arm=bool(rng.random() < 0.6))
        self._lamp_high = float(rng.uniform(5.0, 8.0))
        self._pole = pole(rng)
        self._plates = {kind: [sign_plate(rng, kind) for _ in range(2)] for kind in ("round", "triangle", "board", "lights")}

    # --- building blocks --------------------------------------------------------------------------------------

    def _add(self, origin, u, v, texture, label, group, *, tint=None, two_sided=False) -> None:  # type: ignore[no-untyped-def]
        if tint is None:
            normal = np.cross(u, v)
            tint = self._light.on(normal / np.linalg.norm(normal))
        self._world.surfaces.append(Surface(origin, u, v, texture, LABEL[label], group, tint, two_sided))

    def _wall_along(self, side: int, x: float, z0: float, z1: float, y0: float, y1: float, texture, label, group) -> None:  # type: ignore[no-untyped-def]
        """A wall parallel to the street that faces it: `side` -1 stands on the left and faces right."""
        start, along = (z0, z1 - z0) if side < 0 else (z1, z0 - z1)
        self._add((x, y1, start), (0, 0, along), (0, y0 - y1, 0), texture, label, group)

    def _shadow_length(self, height: float) -> np.ndarray:
        """Where the shadow of a point at this height falls, (x, z) from its foot, metres."""
        return -self._sun[[0, 2]] * height / max(self._sun[1], 0.25)

    def _sky(self) -> None:
        group = self._world.new_group()
        far = 1000.0
        self._world.surfaces.append(
            Surface((-1.3 * far, 1.5 * far, far), (2.6 * far, 0, 0), (0, -1.53 * far, 0), self._sky_texture, LABEL["sky"], group, infinite=True)
        )
        rng = self._rng
        for kind, colour, high, label in (
            ("roofs", (132, 128, 126), 0.035, "building"),
            ("trees", self._leaf * 0.75, 0.03, "tree"),
        ):
            picture = textures.skyline(rng, kind, colour)
            tint = np.ones(3)
            distance = 1.0 * far if kind == "roofs" else 0.99 * far
            top = high * distance * rng.uniform(0.8, 1.4)
            self._world.surfaces.append(
                Surface((-1.3 * distance, top, distance), (2.6 * distance, 0, 0), (0, -top - 0.02 * distance, 0), picture, LABEL[label], self._world.new_group(), tint, infinite=True)
            )

    def _ground(self) -> None:
        rng, half = self._rng, self._half_road
        tone = rng.uniform(78, 116)
        colour = np.array([tone, tone * 0.995, tone * 0.985])
        lines = int(rng.integers(0, 3))
        roads = [
            textures.road(rng, 2 * half, TILE_M, colour, edge_lines=lines, dash_m=float(rng.choice([2.0, 4.0])))
            for _ in range(4)
        ]
        zebra = textures.crossing(rng, 2 * half, TILE_M, colour)
        stone = np.array([150, 147, 140]) * rng.uniform(0.8, 1.1)
        slab = float(rng.choice([0.45, 0.6, 0.9]))
        paving = [textures.slabs(rng, self._pavement, TILE_M, stone, slab) for _ in range(3)]
        yard = textures.slabs(rng, 6.0, 8.0, stone * 0.85, 0.9)
        kerb = textures.slabs(rng, 0.5, TILE_M, stone * 0.9, 0.9)
        groups = [self._world.new_group() for _ in range(7)]
        paved = self._setback == 0.0
        outer = half + self._pavement
        for z in np.arange(self._start, self._end, TILE_M):
            pick = zebra if rng.random() < 0.06 else roads[rng.integers(0, len(roads))]

            def strip(x: float, width: float, y: float, texture: textures.Texture, label: str, group: int, z: float = z) -> None:
                self._add((x, y, z + TILE_M), (width, 0, 0), (0, 0, -TILE_M), texture, label, group)

            strip(-half, 2 * half, 0.0, pick, "road", groups[0])
            for side, index in ((-1, 1), (1, 4)):
                inner = -outer if side < 0 else half
                strip(inner, self._pavement, KERB_M, paving[rng.integers(0, 3)], "pavement", groups[index])
                beyond = -outer - 60.0 if side < 0 else outer
                strip(beyond, 60.0, KERB_M, yard if paved else self._grass, "pavement" if paved else "tree", groups[index + 1])
                self._wall_along(side, side * half, z, z + TILE_M, 0.0, KERB_M, kerb, "pavement", groups[index + 2])

    def _frontage(self, side: int) -> None:
        """Buildings, gaps and parks along one side."""
        rng = self._rng
        line = self._half_road + self._pavement
        z = self._start
        gap_chance, park_chance = rng.uniform(0.1, 0.35), rng.uniform(0.05, 0.2)
        while z < self._end:
            chance = rng.random()
            if chance < park_chance:
                length = float(rng.uniform(14, 30))
                self._boundary(side, line, z, z + length)
                for _ in range(int(length / 3.5)):
                    self._tree(side * (line + rng.uniform(1.5, 9)), z + rng.uniform(0, length), rng.uniform(5, 10))
            elif chance < park_chance + gap_chance:
                length = float(rng.uniform(2.5, 6))
                self._boundary(side, line, z, z + length)
                if rng.random() < 0.6:
                    self._tree(side * (line + rng.uniform(2, 5)), z + length / 2, rng.uniform(4, 7))
            else:
                length = self._building(side, line + self._setback, z)
                if self._setback:
                    self._boundary(side, line, z, z + length - 1.2)
                    if rng.random() < 0.4:
                        self._tree(side * (line + 0.5 * self._setback), z + rng.uniform(1, length), rng.uniform(2.5, 5))
            z += length

    def _building(self, side: int, line: float, z: float) -> float:
        """Put a building up at z; returns its length along the street."""
        style, front, wall, end, depth, rise, pitched = self._facades[self._rng.integers(0, len(self._facades))]
        height, width = front.size
        high, length = height / textures.FACADE_SCALE, width / textures.FACADE_SCALE
        group = self._world.new_group()
        x = side * line
        self._wall_along(side, x, z, z + length, KERB_M, KERB_M + high, front, "building", group)
        left = x - depth if side < 0 else x
        top = KERB_M + high
        self._add((left, top, z), (depth, 0, 0), (0, -high, 0), wall, "building", group)
        if pitched:
            self._add((left, top + rise, z), (depth, 0, 0), (0, -rise, 0), end, "building", group)
            ridge, eave = side * (line + depth / 2), side * (line - 0.35)
            start, along = (z - 0.15, length + 0.3) if side < 0 else (z + length + 0.15, -length - 0.3)
            slope = (eave - ridge, -rise * 1.04, 0)
            self._add((ridge, top + rise, start), (0, 0, along), slope, self._roof, "building", group)
            for share in (0.2, 0.8):
                if self._rng.random() < 0.6:
                    self._chimney(ridge, top + rise - 0.3, z + share * length, style.colour, group)
        shift = self._shadow_length(high + (rise if pitched else 0))
        if shift[0] * side < -0.5:  # falls towards the street
            self._world.shadows.append(
                Surface((x, KERB_M, z + length), (shift[0], 0, shift[1]), (0, 0, -length), _SOLID, 0, group, two_sided=True)
            )
        return length

    def _chimney(self, x: float, y: float, z: float, colour: tuple[float, ...], group: int) -> None:
        stack = _chimney_texture(np.asarray(colour))
        self._add((x - 0.45, y + 1.4, z), (0.9, 0, 0), (0, -1.4, 0), stack, "building", group)
        for side in (-1, 1):
            self._wall_along(side, x - side * 0.45, z, z + 0.7, y, y + 1.4, stack, "building", group)

    def _boundary(self, side: int, line: float, z0: float, z1: float) -> None:
        """A fence or a hedge in pieces along the back of the pavement."""
        fenced = self._rng.random() < 0.6
        group = self._world.new_group()
        for z in np.arange(z0, z1 - 1.0, 4.0):
            stop = min(z + 4.0, z1)
            x = side * (line - 0.02)
            if fenced:
                self._wall_along(side, x, z, stop, KERB_M, KERB_M + self._fence_high, self._fence, "fence", group)
            else:
                self._wall_along(side, x, z, stop, KERB_M, KERB_M + 1.5, self._hedge, "tree", group)

    def _tree(self, x: float, z: float, height: float) -> None:
        rng = self._rng
        group = self._world.new_group()
        width = height * rng.uniform(0.75, 1.0)
        picture = self._trees[rng.integers(0, len(self._trees))]
        u, left = ((width, 0, 0), x - width / 2) if rng.random() < 0.5 else ((-width, 0, 0), x + width / 2)
        tint = self._light.on(np.array([0.0, 0.6, -0.8]))
        self._add((left, KERB_M + height, z), u, (0, -height, 0), picture, "tree", group, tint=tint, two_sided=True)
        shift = self._shadow_length(height * 0.6)
        centre = np.array([x, z]) + shift
        spread = 0.8 * width
        dapple = self._dapples[rng.integers(0, 2)]
        self._world.shadows.append(
            Surface((centre[0] - spread, 0.05, centre[1] + spread), (2 * spread, 0, 0), (0, 0, -2 * spread), dapple, 0, group)
        )

    # --- along the kerb ---------------------------------------------------------------------------------------

    def _furniture(self, side: int) -> None:
        rng = self._rng
        kerb = side * (self._half_road + 0.45)
        spacing = rng.uniform(18, 32)
        for z in np.arange(self._start + rng.uniform(0, spacing), self._end, spacing):
            group, width = self._world.new_group(), self._lamp_high * 0.3
            u, left = ((width, 0, 0), kerb - width / 2) if side < 0 else ((-width, 0, 0), kerb + width / 2)
            self._add((left, KERB_M + self._lamp_high, z), u, (0, -self._lamp_high, 0), self._lamp, "pole", group,
                      tint=self._light.on(np.array([0.0, 0.3, -0.95])), two_sided=True)
        spacing = rng.uniform(9, 22)
        for z in np.arange(self._start + rng.uniform(0, spacing), self._end, spacing):
            self._sign(kerb + side * rng.uniform(0, 0.5), z + rng.uniform(-3, 3))
        if rng.random() < 0.5:  # bollards
            for z in np.arange(self._start, self._end, rng.uniform(3, 7)):
                if (z // 30) % 2:
                    self._add((kerb - 0.06, KERB_M + 0.95, z), (0.12, 0, 0), (0, -0.95, 0), self._pole, "pole", self._world.new_group())
        if rng.random() < 0.55 and self._pavement > 2.2:  # a row of street trees
            spacing = rng.uniform(9, 18)
            for z in np.arange(self._start + rng.uniform(0, spacing), self._end, spacing):
                self._tree(kerb + side * 0.35, z, rng.uniform(4.5, 7.5))
        if rng.random() < 0.35:  # a guard rail between pavement and road
            z0 = rng.uniform(self._start + 25, self._end - 60)
            group = self._world.new_group()
            for z in np.arange(z0, z0 + rng.uniform(12, 32), 4.0):
                rail = self._fence if self._fence_kind == "railing" else _RAILING
                self._wall_along(side, side * (self._half_road + 0.25), z, z + 4.0, KERB_M, KERB_M + 1.05, rail, "fence", group)

    def _sign(self, x: float, z: float) -> None:
        rng = self._rng
        kind = str(rng.choice(["round", "triangle", "board", "lights"], p=[0.35, 0.25, 0.25, 0.15]))
        high = float(rng.uniform(2.5, 3.2))
        size = 0.95 if kind == "lights" else float(rng.uniform(0.6, 0.85))
        group = self._world.new_group()
        self._add((x - 0.05, KERB_M + high, z), (0.1, 0, 0), (0, -high, 0), self._pole, "pole", group)
        plate = self._plates[kind][rng.integers(0, 2)]
        tint = self._light.on(np.array([0.0, 0.0, -1.0])) * 1.05
        self._add((x - size / 2, KERB_M + high + 0.1, z - 0.06), (size, 0, 0), (0, -size, 0), plate, "sign_symbol",
                  self._world.new_group(), tint=tint)

    # --- who moves --------------------------------------------------------------------------------------------

    def _parked(self, side: int) -> None:
        if self._parking < 1.9:
            return
        rng = self._rng
        density = rng.uniform(0.25, 0.85)
        z = self._start + rng.uniform(0, 8)
        while z < self._end:
            car = self._cars[rng.integers(0, len(self._cars))]
            if rng.random() < density:
                x = side * (self._half_road - 0.25 - car.width / 2 + rng.normal(0, 0.05))
                with_traffic = (side < 0) == self._left_driving
                car.place(self._world, x, z, self._light, oncoming=not with_traffic)
            z += car.length + rng.uniform(0.8, 2.5)

    def _traffic(self) -> None:
        rng = self._rng
        lane_x = self.ego.lane_x
        start = float(self.ego.position(0.0)[2])
        if rng.random() < 0.75:
            car = self._cars[rng.integers(0, len(self._cars))]
            follow = Following(self.ego, float(rng.uniform(1.0, 4.0)), float(rng.uniform(0, 6.28)))
            car.place(self._world, lane_x, start + rng.uniform(11, 32), self._light, oncoming=False, motion=follow)
        speed = float(rng.uniform(5, 12))
        oncoming = Straight((0.0, 0.0, -speed))
        z = start + rng.uniform(5, 45)
        reach = self._end + speed * self._duration
        gap = rng.uniform(14, 70)
        while z < reach:
            car = self._cars[rng.integers(0, len(self._cars))]
            car.place(self._world, -lane_x + rng.normal(0, 0.1), z, self._light, oncoming=True, motion=oncoming)
            z += car.length + gap * rng.uniform(0.6, 1.8)
        riding = float(rng.uniform(3.0, 5.0))
        edge = np.sign(lane_x) * (self._lane - 0.55)
        for _ in range(int(rng.integers(1, 4))):
            rider = self._cyclists[rng.integers(0, 2)]
            if rng.random() < 0.6:  # ahead, to be overtaken late in the drive or not at all
                ahead = (self.ego.speed - riding) * self._duration * rng.uniform(0.3, 1.0)
                rider.place(self._world, edge, start + 9 + max(0.0, ahead) % 60, self._light, Straight((0.0, 0.0, riding)), oncoming=False)
            else:
                away = rng.uniform(15, 40 + riding * self._duration)
                rider.place(self._world, -edge, start + away, self._light, Straight((0.0, 0.0, -riding)), oncoming=True)

    def _walkers(self) -> None:
        rng = self._rng
        density = rng.uniform(0.04, 0.16)  # people a metre
        inner, outer = self._half_road + 0.8, self._half_road + self._pavement - 0.35
        for _ in range(int(density * (self._end - self._start))):
            side, away = rng.choice([-1, 1]), rng.choice([-1, 1])
            pace = float(rng.uniform(0.8, 1.7))
            person = self._people[rng.integers(0, len(self._people))]
            x, z = side * rng.uniform(inner, max(inner + 0.1, outer)), rng.uniform(self._start, self._end)
            motion = Straight((0.0, 0.0, away * pace))
            person.place(self._world, x, KERB_M, z, self._light, (0.0, away * pace), motion)
        # Some cross, far enough ahead to be back on the pavement when the camera passes.
        for time_s in np.arange(1.0, max(1.5, self._duration), 3.0):
            if rng.random() < 0.55:
                pace = float(rng.uniform(1.1, 1.6)) * float(rng.choice([-1, 1]))
                needed = (self._half_road + 1) / abs(pace)
                z = float(self.ego.position(time_s + needed)[2]) + rng.uniform(7, 16)
                person = self._people[rng.integers(0, len(self._people))]
                person.place(self._world, -pace * time_s, 0.0, z, self._light, (pace, 0.0), Straight((pace, 0.0, 0.0)))


_SOLID = textures.soft_box(0.02)
_RAILING = textures.fence(np.random.default_rng(3), "railing", 4.0, 1.05)


def _chimney_texture(colour: np.ndarray) -> textures.Texture:
    """A stack with a pot; small enough never to be looked at closely."""
    picture = np.repeat(np.repeat(colour[None, None] * 0.85, 28, 0), 18, 1)
    picture[:3] *= 0.7
    picture[::4] *= 0.85
    return textures.Texture(np.clip(picture, 0, 255).astype(np.uint8))
