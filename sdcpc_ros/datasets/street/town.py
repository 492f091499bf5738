"""A town's character: its measures, and the stock of pictures that its street is built from."""

from __future__ import annotations

import numpy as np

from sdcpc_ros.datasets.street import greenery, ground
from sdcpc_ros.datasets.street.buildings import Building, Style, roof_tiles
from sdcpc_ros.datasets.street.cars import Car
from sdcpc_ros.datasets.street.furniture import Furniture
from sdcpc_ros.datasets.street.light import (
    WEATHER_CHANCES,
    WEATHERS,
    Atmosphere,
    Sunlight,
    dapple,
    sky,
    skyline,
    soft_box,
)
from sdcpc_ros.datasets.street.people import Cyclist, Pedestrian

TILE_M = 16.0  # length of a piece of road
YARD_M = 60.0  # the ground goes on this far behind the pavement
LEAVES = [(78, 108, 46), (92, 114, 54), (64, 92, 50), (112, 112, 50), (104, 92, 46)]


class Town:
    """Everything that is the same all along one street; each call of `rng` goes into what it looks like."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.lane = float(rng.uniform(2.9, 3.6))  # m, as all measures here
        self.parking = 2.1 if rng.random() < 0.6 else 0.35
        self.pavement = float(rng.uniform(2.0, 3.6))
        self.setback = float(rng.choice([0.0, 0.0, 2.5, 4.5]))  # front gardens
        self.half_road = self.lane + self.parking
        self.front_line = self.half_road + self.pavement
        self.side = -1 if rng.random() < 0.5 else 1  # of the road that one drives on

        weather = WEATHERS[rng.choice(len(WEATHERS), p=WEATHER_CHANCES)]
        self.sunlight = Sunlight(weather, azimuth=float(rng.uniform(0, 2 * np.pi)))
        self.atmosphere = Atmosphere(rng, weather)
        self.sky = sky(rng, weather)
        self.contact = soft_box(0.35 + 0.4 * weather.shadow, 0.14)
        self.cast = soft_box(weather.shadow, 0.02)

        leaf = np.asarray(LEAVES[rng.integers(0, len(LEAVES))], np.float64)
        bare = rng.random() < 0.3
        self.dapples = [dapple(rng, weather.shadow, 0.35 if bare else 0.7) for _ in range(2)]
        self.trees = [
            greenery.tree(
                rng,
                leaf * rng.uniform(0.9, 1.25),
                bare=bool(bare and rng.random() < 0.8),
                dense=float(rng.uniform(0.7, 1.3)),
            )
            for _ in range(5)
        ]
        self.hedge = greenery.hedge(rng, (48, 320), leaf * 0.8)
        self.fence_kind = str(rng.choice(list(greenery.FENCES)))
        self.fence = greenery.fence(rng, self.fence_kind)
        self.railing = greenery.fence(rng, "railing")
        self.skylines = {"roofs": skyline(rng, "roofs", (132, 128, 126)), "trees": skyline(rng, "trees", leaf * 0.75)}

        roof = roof_tiles(rng)
        shop_chance = 0.7 if rng.random() < 0.55 else 0.0
        self.buildings = [Building(rng, Style.draw(rng, shop_chance=shop_chance), roof) for _ in range(9)]
        self.furniture = Furniture(rng)
        self.cars = [Car(rng) for _ in range(9)]
        self.pedestrians = [Pedestrian(rng) for _ in range(8)]
        self.cyclists = [Cyclist(rng) for _ in range(3)]

        tone = rng.uniform(80, 116)
        asphalt = np.array([tone, tone * 0.995, tone * 0.985])
        lines, dash = int(rng.integers(0, 3)), float(rng.choice([2.0, 4.0]))
        width = 2 * self.half_road
        self.roads = [ground.road(rng, width, TILE_M, asphalt, edge_lines=lines, dash_m=dash) for _ in range(4)]
        self.zebra = ground.zebra(rng, width, TILE_M, asphalt)
        stone = np.array([150.0, 147.0, 140.0]) * rng.uniform(0.8, 1.1)
        slab = float(rng.choice([0.45, 0.6, 0.9]))
        self.paving = [ground.slabs(rng, self.pavement, TILE_M, stone, slab) for _ in range(3)]
        self.kerb = ground.slabs(rng, 0.5, TILE_M, stone * 0.9, 0.9)
        self.yard = ground.slabs(rng, 6.0, 8.0, stone * 0.85, 0.9)
        self.grass = ground.grass(rng, (256, 384), (98, 116, 58))
