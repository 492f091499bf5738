"""Houses and shops: facades, side walls, gables, roofs, chimneys."""

from __future__ import annotations

import cv2
import numpy as np

from sdcpc_ros.datasets.street.textures import Texture, bricks, fill, mottled, noise, pick, plain, row_shade, speckle
from sdcpc_ros.datasets.street.world import KERB_M, Thing, World

SCALE = 28.0  # texels a metre
CORNICE = 12  # texels
WALLS = {
    "brick": [(150, 84, 66), (166, 106, 80), (186, 160, 116), (132, 76, 62), (178, 140, 104)],
    "render": [(214, 206, 188), (196, 190, 184), (222, 196, 158), (176, 190, 196), (206, 172, 160), (188, 196, 172)],
    "stone": [(186, 176, 154), (168, 160, 146), (150, 146, 140)],
}
FRAMES = [(226, 226, 222), (60, 50, 44), (40, 60, 52)]
ROOFS = [(92, 62, 52), (84, 84, 90), (120, 72, 52)]
SHOP_PAINTS = [(32, 52, 44), (92, 24, 28), (24, 32, 66), (36, 34, 34), (150, 122, 60)]


class Building:
    """The pictures of one building, to be placed any number of times."""

    def __init__(self, rng: np.random.Generator, roof: Texture, shop_chance: float) -> None:
        self.wall = str(rng.choice(list(WALLS), p=[0.5, 0.35, 0.15]))
        self.colour = np.asarray(pick(rng, WALLS[self.wall])) * rng.uniform(0.85, 1.1)
        self.frame = np.asarray(pick(rng, FRAMES), np.float64)
        self.floors = int(rng.integers(2, 5))
        self.floor, self.bay = (int(rng.uniform(*metres) * SCALE) for metres in ((2.8, 3.5), (2.2, 3.4)))  # texels
        self.window = rng.uniform((0.35, 0.45), (0.6, 0.62))  # shares of the bay's width and of the floor's height
        self.panes = int(rng.integers(1, 4)), int(rng.integers(1, 3))  # down, across
        self.shop = bool(rng.random() < shop_chance)
        self.depth = float(rng.uniform(7, 11))  # m
        self.rise = float(rng.uniform(2.2, 3.6)) if rng.random() < 0.65 else 0.0  # of a pitched roof
        self.roof = roof
        self.front = self._front(rng, bays=int(rng.integers(2, 6)))
        self.end = self._end(rng)
        self.gable = self._gable(rng) if self.rise else None
        self.stack = self._chimney_stack(rng)
        self.chimneys = [share for share in (0.2, 0.8) if self.rise and rng.random() < 0.6]
        height, width = self.front.size
        self.height, self.length = height / SCALE, width / SCALE

    def place(self, world: World, side: int, line: float, z: float) -> None:
        """Put it up on one side (-1 left) with its front `line` metres from the middle of the road, from z on."""
        building, x, top = Thing(world, "building"), side * line, KERB_M + self.height
        left = x - self.depth if side < 0 else x
        building.add_wall(x, (z, z + self.length), (KERB_M, top), self.front)
        building.add_upright((left, top, z), (self.depth, self.height), self.end)
        if self.gable is not None:
            ridge, peak, overhang = side * (line + self.depth / 2), top + self.rise, 0.3
            building.add_upright((left, peak, z), (self.depth, self.rise), self.gable)
            start, along = (z, self.length) if side < 0 else (z + self.length, -self.length)
            slope = (-side * (self.depth / 2 + overhang), -self.rise * 1.05, 0)
            building.add((ridge, peak, start), (0, 0, along), slope, self.roof)
            for share in self.chimneys:
                y, near = peak - 0.3, z + share * self.length
                building.add_upright((ridge - 0.45, y + 1.4, near), (0.9, 1.4), self.stack)
                building.add_wall(ridge - side * 0.45, (near, near + 0.7), (y, y + 1.4), self.stack)
        shift = world.weather.shadow_shift(self.height + self.rise)
        if shift[0] * side < -0.5:  # it falls towards the street
            middle = (x + shift[0] / 2, KERB_M, z + self.length / 2 + shift[1] / 2)
            building.cast(middle, (shift[0], 0, shift[1]), (0, 0, -self.length), world.weather.building_shadow)

    def _masonry(self, rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
        if self.wall == "render":
            return mottled(rng, size, self.colour, 0.04, 90) * speckle(rng, size, 0.03)
        return bricks(rng, size, self.colour, (4, 10) if self.wall == "brick" else (14, 30))

    def _front(self, rng: np.random.Generator, bays: int) -> Texture:
        """The street front, `bays` windows wide."""
        floor, bay = self.floor, self.bay
        size = (floor * self.floors + CORNICE, bay * bays)
        picture = self._masonry(rng, size)
        trim = np.clip(self.colour * 0.5 + 105, 0, 235)
        high, wide = int(floor * self.window[1]), int(bay * self.window[0])
        for level in range(self.floors):  # from the top floor down
            top, ground = CORNICE + level * floor, level == self.floors - 1
            if ground and self.shop:
                picture[top:] = _shop_front(rng, (size[0] - top, size[1]))
                break
            door = int(rng.integers(0, bays)) if ground else -1
            for column in range(bays):
                x, y = column * bay + (bay - wide) // 2, top + (floor - high) // 2
                if column == door:
                    _draw_door(rng, picture[top + floor // 4 :, x : x + wide], trim)
                    continue
                picture[y - 3 : y, x - 2 : x + wide + 2] = trim * 0.95
                picture[y : y + high, x : x + wide] = _window(rng, (high, wide), self.frame, self.panes)
                picture[y + high :, x - 3 : x + wide + 3][:3] = trim
                picture[y + high + 3 :, x - 3 : x + wide + 3][:3] *= 0.75
            if self.wall != "brick" or ground:
                picture[top - 2 : top + 2] = trim * 0.92
                picture[top + 2 : top + 5] *= 0.8
        picture[: CORNICE - 3] = trim
        picture[CORNICE - 3 : CORNICE + 1] *= 0.6
        picture[:, : max(3, bay // 16)] *= 0.86  # a drain pipe's shadow sets neighbours apart
        picture[:, -2:] *= 0.6
        return Texture.of(picture * row_shade(size[0], 1.04, 0.9))

    def _end(self, rng: np.random.Generator) -> Texture:
        """The side wall, with few windows."""
        size = (self.floor * self.floors + CORNICE, int(self.depth * SCALE))
        picture = self._masonry(rng, size) * 0.97
        high, wide = int(self.floor * 0.4), int(0.9 * SCALE)
        for level in range(self.floors):
            if rng.random() < 0.5:
                x, y = int(rng.uniform(0.15, 0.7) * size[1]), CORNICE + level * self.floor + (self.floor - high) // 2
                picture[y : y + high, x : x + wide] = _window(rng, (high, wide), self.frame, self.panes)
        return Texture.of(picture)

    def _gable(self, rng: np.random.Generator) -> Texture:
        """The triangle between the side wall and a pitched roof."""
        height, width = size = (int(self.rise * SCALE), int(self.depth * SCALE))
        alpha = np.zeros(size, np.uint8)
        fill(alpha, [(0, height), (width // 2, 0), (width, height)], 255)
        return Texture.of(self._masonry(rng, size) * 0.97, alpha)

    def _chimney_stack(self, rng: np.random.Generator) -> Texture:
        picture = plain((28, 18), self.colour * 0.85) * speckle(rng, (28, 18), 0.08)
        picture[:3] *= 0.7
        picture[::4] *= 0.85
        return Texture.of(picture)


def roof_tiles(rng: np.random.Generator) -> Texture:
    size = (112, 280)
    picture = bricks(rng, size, pick(rng, ROOFS), (6, 7))
    picture[::6] *= 0.65
    return Texture.of(picture)


def _window(rng: np.random.Generator, size: tuple[int, int], frame: np.ndarray, panes: tuple[int, int]) -> np.ndarray:
    """Glass that reflects the sky above and the street below, perhaps curtains or a blind, frame and bars."""
    height, width = size
    down = row_shade(height, 0, 1)
    sky = np.array([120, 135, 150], np.float32) * np.float32(rng.uniform(0.5, 1.0))
    glass = np.repeat(sky * (1 - down) + np.array([38, 40, 44], np.float32) * down, width, 1)
    glass *= (1 + 0.15 * noise(rng, size, 12))[..., None]
    cloth = rng.uniform(82, 150) * np.array([1.0, 0.97, rng.uniform(0.8, 1.0)])
    dressing = rng.random()
    if dressing < 0.35:
        part = max(1, int(width * rng.uniform(0.12, 0.3)))
        glass[:, :part] = glass[:, -part:] = cloth
    elif dressing < 0.5:
        glass[: int(height * rng.uniform(0.2, 0.7))] = cloth
    bar = max(1, width // 14)
    glass[:bar] = glass[-bar:] = glass[:, :bar] = glass[:, -bar:] = frame
    for i in range(1, panes[0]):
        glass[i * height // panes[0] :][:bar] = frame
    for i in range(1, panes[1]):
        glass[:, i * width // panes[1] :][:, :bar] = frame
    glass[:bar] *= 0.55  # the reveal throws a shadow on the top of the frame
    return glass


def _shop_front(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """A ground floor of display windows under a sign board."""
    height, width = size
    paint = np.asarray(pick(rng, SHOP_PAINTS)) * rng.uniform(0.8, 1.4)
    picture = mottled(rng, size, paint, 0.05, 20)
    board, lettering = int(height * 0.2), np.clip(paint + 150, 0, 240).tolist()
    x = width * 0.2
    while x < width * 0.8:  # letters are only ever read as texture
        wide = rng.uniform(4, 9)
        cv2.rectangle(picture, (int(x), int(board * 0.3)), (int(x + wide * 0.6), int(board * 0.75)), lettering, 1)
        x += wide + 3
    bays = max(2, width // 70)
    door = int(rng.integers(0, bays))
    for bay in range(bays):
        left, right = int((bay + 0.08) * width / bays), int((bay + 0.92) * width / bays)
        top, bottom = int(height * 0.27), int(height * (0.98 if bay == door else 0.8))
        glass = _window(rng, (bottom - top, right - left), paint * 0.9, (1, 1 if bay == door else 2))
        goods = np.abs(noise(rng, glass.shape[:2], 12))[..., None] * rng.uniform(10, 30) * np.array([1.2, 1.0, 0.75])
        picture[top:bottom, left:right] = glass * 0.75 + goods
    return picture


def _draw_door(rng: np.random.Generator, opening: np.ndarray, trim: np.ndarray) -> None:
    opening[:] = trim * 0.9
    opening[3:, 3:-3] = rng.uniform(20, 130, 3)
    opening[6:14, 6:-6] = (70, 80, 90)
    opening[-3:] *= 0.6
