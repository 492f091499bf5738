"""Procedural textures of the synthetic street: every picture is drawn from a random generator, none is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

Colour = Sequence[float]  # RGB, 0..255

MAX_LEVEL = 6


@dataclass
class Texture:
    """A picture for a planar surface: colour (h, w, 3) uint8 RGB and, where it has holes, alpha (h, w) uint8."""

    colour: np.ndarray
    alpha: np.ndarray | None = None
    _levels: dict[tuple[int, int], tuple[np.ndarray, np.ndarray | None]] = field(default_factory=dict, repr=False)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in texels."""
        return self.colour.shape[0], self.colour.shape[1]

    def level(self, across: int, down: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Colour and alpha shrunk by 2**across and 2**down.

        The two axes shrink apart (a "ripmap"), because a road seen at a grazing angle is squeezed along its length
        hundreds of times more than across.
        """
        key = (across, down)
        if key not in self._levels:
            height, width = self.size
            size = (max(1, width >> across), max(1, height >> down))
            self._levels[key] = (
                cv2.resize(self.colour, size, interpolation=cv2.INTER_AREA),
                None if self.alpha is None else cv2.resize(self.alpha, size, interpolation=cv2.INTER_AREA),
            )
        return self._levels[key]


def noise(rng: np.random.Generator, size: tuple[int, int], cell: float, octaves: int = 4) -> np.ndarray:
    """Smooth random field, (h, w) float32 of about unit standard deviation; `cell` is the largest blob in texels."""
    height, width = size
    field_, weight, total = np.zeros(size, np.float32), 1.0, 0.0
    for _ in range(octaves):
        grid = rng.standard_normal((int(height / cell) + 3, int(width / cell) + 3)).astype(np.float32)
        if cell > 1:
            grid = cv2.resize(grid, (0, 0), fx=cell, fy=cell, interpolation=cv2.INTER_CUBIC)
        field_ += weight * grid[:height, :width]
        total += weight**2
        weight, cell = weight * 0.6, max(1.0, cell / 2)
    return field_ * np.float32(1.4 / np.sqrt(total))


def _plain(size: tuple[int, int], colour: Colour) -> np.ndarray:
    return np.broadcast_to(np.asarray(colour, np.float32), (*size, 3)).copy()


def _finish(picture: np.ndarray, alpha: np.ndarray | None = None) -> Texture:
    return Texture(np.clip(picture, 0, 255).astype(np.uint8), alpha)


def mottled(rng: np.random.Generator, size: tuple[int, int], colour: Colour, amount: float, cell: float) -> np.ndarray:
    """One colour with blotches of brightness, (h, w, 3) float32."""
    return _plain(size, colour) * (1 + amount * noise(rng, size, cell))[..., None]


# --- ground -----------------------------------------------------------------------------------------------------


def asphalt(rng: np.random.Generator, size: tuple[int, int], colour: Colour) -> np.ndarray:
    """Road surface with grain, patches, wheel tracks along the rows, cracks and a manhole, (h, w, 3) float32."""
    height, width = size
    picture = mottled(rng, size, colour, 0.05, 48)
    picture *= (1 + 0.07 * rng.standard_normal(size).astype(np.float32))[..., None]
    tracks = cv2.GaussianBlur(rng.standard_normal((1, width)).astype(np.float32), (0, 0), width / 40)
    picture *= (1 + 0.5 * tracks)[..., None]
    for _ in range(rng.integers(0, 3)):  # repaired patches
        x, y = int(rng.integers(0, width)), int(rng.integers(0, height))
        w, h = int(rng.integers(width // 12, width // 4)), int(rng.integers(height // 12, height // 3))
        picture[y : y + h, x : x + w] *= rng.uniform(0.78, 0.93)
    for _ in range(rng.integers(1, 4)):  # cracks
        steps = np.cumsum(rng.normal(0, 6, (14, 2)) + rng.normal(0, 5, 2), axis=0)
        line = (steps + rng.uniform(0, 1, 2) * (width, height)).astype(np.int32)
        cv2.polylines(picture, [line], False, [c * 0.6 for c in colour], 1, cv2.LINE_AA)
    if rng.random() < 0.5:
        centre = (int(rng.uniform(0.25, 0.75) * width), int(rng.uniform(0.1, 0.9) * height))
        cv2.circle(picture, centre, 9, [c * 0.5 for c in colour], -1, cv2.LINE_AA)
        cv2.circle(picture, centre, 9, [c * 0.8 for c in colour], 1, cv2.LINE_AA)
    return picture


def road(
    rng: np.random.Generator, width_m: float, length_m: float, colour: Colour, *, edge_lines: int, dash_m: float
) -> Texture:
    """A tile of road, centre line dashed over `dash_m`, with `edge_lines` lines along each kerb."""
    scale = 32.0  # texels per metre
    size = (int(length_m * scale), int(width_m * scale))
    picture = asphalt(rng, size, colour)
    wear = np.clip(0.8 + 0.25 * noise(rng, size, 10), 0, 1)[..., None]
    paint = np.zeros(size, np.float32)
    middle, half = size[1] // 2, int(0.06 * scale)
    period = int(dash_m * 2 * scale)
    for start in range(0, size[0], period):
        paint[start : start + period // 2, middle - half : middle + half + 1] = 1
    yellow = np.zeros(size, np.float32)
    for line in range(edge_lines):
        offset = int((0.3 + 0.2 * line) * scale)
        yellow[:, offset : offset + 3] = 1
        yellow[:, -offset - 3 : -offset] = 1
    for mask, tint in ((paint, (222, 222, 215)), (yellow, (196, 168, 70))):
        cover = mask[..., None] * wear
        picture += (np.asarray(tint, np.float32) - picture) * cover
    gutter = np.ones(size[1], np.float32)
    gutter[: int(0.25 * scale)] = gutter[-int(0.25 * scale) :] = 0.82
    return _finish(picture * gutter[None, :, None])


def crossing(rng: np.random.Generator, width_m: float, length_m: float, colour: Colour) -> Texture:
    """A tile of road with a zebra crossing in its middle."""
    scale = 32.0
    size = (int(length_m * scale), int(width_m * scale))
    picture = asphalt(rng, size, colour)
    wear = np.clip(0.85 + 0.2 * noise(rng, size, 10), 0, 1)[..., None]
    top, bottom, stripe = int(size[0] * 0.4), int(size[0] * 0.4 + 3 * scale), int(0.5 * scale)
    for x in range(stripe // 2, size[1] - stripe, 2 * stripe):
        area = (slice(top, bottom), slice(x, x + stripe))
        picture[area] += (225 - picture[area]) * wear[area]
    return _finish(picture)


def slabs(rng: np.random.Generator, width_m: float, length_m: float, colour: Colour, slab_m: float) -> Texture:
    """A pavement of slabs with joints; the kerb stones run along both long sides."""
    scale = 32.0
    size = (int(length_m * scale), max(16, int(width_m * scale)))
    step = max(6, int(slab_m * scale))
    rows, cols = size[0] // step + 1, size[1] // step + 1
    tone = 1 + 0.06 * rng.standard_normal((rows, cols)).astype(np.float32)
    tone = np.repeat(np.repeat(tone, step, 0), step, 1)[: size[0], : size[1]]
    picture = mottled(rng, size, colour, 0.06, 40) * tone[..., None]
    picture *= (1 + 0.05 * rng.standard_normal(size).astype(np.float32))[..., None]
    picture[::step] *= 0.72
    picture[:, ::step] *= 0.72
    kerb = int(0.22 * scale)
    for side in (slice(0, kerb), slice(size[1] - kerb, size[1])):
        picture[:, side] = picture[:, side] * 0.4 + 0.6 * np.asarray(colour, np.float32) * 1.22
        picture[:: int(0.9 * scale), side] *= 0.7
    return _finish(picture)


def grass(rng: np.random.Generator, size: tuple[int, int], colour: Colour) -> Texture:
    picture = mottled(rng, size, colour, 0.14, 60)
    picture *= (1 + 0.16 * rng.standard_normal(size).astype(np.float32))[..., None]
    picture[..., 0] *= 1 + 0.10 * noise(rng, size, 90)
    return _finish(picture)


# --- buildings --------------------------------------------------------------------------------------------------


def bricks(rng: np.random.Generator, size: tuple[int, int], colour: Colour, brick: tuple[int, int]) -> np.ndarray:
    """Courses of bricks (h, w texels each) with mortar, (h, w, 3) float32."""
    height, width = size
    high, wide = brick
    rows, cols = height // high + 1, width // wide + 2
    tone = 1 + 0.13 * rng.standard_normal((rows, cols)).astype(np.float32)
    tone = np.repeat(np.repeat(tone, high, 0), wide, 1)
    mortar = np.zeros_like(tone)
    mortar[::high] = 1
    mortar[:, ::wide] = 1
    for row in range(1, rows, 2):  # every other course is half a brick along
        course = slice(row * high, (row + 1) * high)
        tone[course] = np.roll(tone[course], wide // 2, 1)
        mortar[course] = np.roll(mortar[course], wide // 2, 1)
    tone, mortar = tone[:height, :width], mortar[:height, :width, None]
    picture = _plain(size, colour) * tone[..., None]
    picture += (np.asarray((172, 164, 152), np.float32) - picture) * mortar * 0.55
    return picture * (1 + 0.07 * noise(rng, size, 70))[..., None]


def _window(rng: np.random.Generator, size: tuple[int, int], frame: Colour, panes: tuple[int, int]) -> np.ndarray:
    """One window: glass that reflects the sky above and the street below, curtains, frame and bars."""
    height, width = size
    down = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    sky = np.asarray((120, 135, 150), np.float32) * rng.uniform(0.5, 1.0)
    glass = sky * (1 - down) + np.asarray((38, 40, 44), np.float32) * down
    glass = np.repeat(glass, width, 1) * (1 + 0.15 * noise(rng, size, 12))[..., None]
    if rng.random() < 0.5:  # curtains or a blind
        cloth = np.asarray(rng.uniform(110, 200, 3), np.float32) * 0.75
        part = max(1, int(width * rng.uniform(0.12, 0.3)))
        if rng.random() < 0.7:
            glass[:, :part] = glass[:, -part:] = cloth
        else:
            glass[: int(height * rng.uniform(0.2, 0.7))] = cloth
    bar = max(1, width // 14)
    frame_colour = np.asarray(frame, np.float32)
    glass[:bar] = glass[-bar:] = frame_colour
    glass[:, :bar] = glass[:, -bar:] = frame_colour
    for i in range(1, panes[0]):
        y = i * height // panes[0]
        glass[y : y + bar] = frame_colour
    for i in range(1, panes[1]):
        x = i * width // panes[1]
        glass[:, x : x + bar] = frame_colour
    glass[: max(1, bar)] *= 0.55  # the reveal throws a shadow on the top of the frame
    return glass


def _shop_front(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """A ground floor of display windows under a sign board."""
    height, width = size
    paint = np.asarray(rng.choice([(32, 52, 44), (92, 24, 28), (24, 32, 66), (36, 34, 34), (150, 122, 60)]), np.float32)
    paint = paint * rng.uniform(0.8, 1.4)
    picture = mottled(rng, size, paint, 0.05, 20)
    board = int(height * 0.2)
    lettering = np.clip(paint + 150, 0, 240)
    x = width * 0.2
    while x < width * 0.8:  # letters are only ever read as texture
        w = rng.uniform(4, 9)
        top, bottom = int(board * 0.3), int(board * 0.75)
        cv2.rectangle(picture, (int(x), top), (int(x + w * 0.6), bottom), lettering.tolist(), 1)
        x += w + 3
    bays = max(2, width // 70)
    door = int(rng.integers(0, bays))
    for bay in range(bays):
        left, right = int((bay + 0.08) * width / bays), int((bay + 0.92) * width / bays)
        top, bottom = int(height * 0.27), int(height * (0.98 if bay == door else 0.8))
        glass = _window(rng, (bottom - top, right - left), paint * 0.9, (1, 1 if bay == door else 2))
        goods = noise(rng, glass.shape[:2], 10)[..., None] * np.asarray(rng.uniform(10, 40, 3), np.float32)
        picture[top:bottom, left:right] = np.clip(glass * 0.8 + np.abs(goods), 0, 255)
    return picture


@dataclass(frozen=True)
class FacadeStyle:
    """How the buildings of one owner look; sizes in metres."""

    wall: str  # "brick", "render" or "stone"
    colour: tuple[float, float, float]
    frame: tuple[float, float, float]
    floors: int
    floor_m: float
    bay_m: float
    window: tuple[float, float]  # share of the bay's width and of the floor's height
    panes: tuple[int, int]
    shop: bool


def _wall(rng: np.random.Generator, size: tuple[int, int], style: FacadeStyle) -> np.ndarray:
    if style.wall == "brick":
        return bricks(rng, size, style.colour, (4, 10))
    if style.wall == "stone":
        return bricks(rng, size, style.colour, (14, 30))
    picture = mottled(rng, size, style.colour, 0.04, 90)
    return picture * (1 + 0.03 * rng.standard_normal(size).astype(np.float32))[..., None]


FACADE_SCALE = 28.0  # texels per metre


def facade(rng: np.random.Generator, style: FacadeStyle, bays: int) -> Texture:
    """The street front of a building, `bays` windows wide."""
    floor, bay = int(style.floor_m * FACADE_SCALE), int(style.bay_m * FACADE_SCALE)
    size = (floor * style.floors + 12, bay * bays)
    picture = _wall(rng, size, style)
    trim = np.clip(np.asarray(style.colour, np.float32) * 0.5 + 105, 0, 235)
    for level in range(style.floors):  # level 0 is the top floor
        top = 12 + level * floor
        ground = level == style.floors - 1
        if ground and style.shop:
            picture[top:, :] = _shop_front(rng, (size[0] - top, size[1]))
            continue
        door = int(rng.integers(0, bays)) if ground else -1
        high = int(floor * style.window[1])
        wide = int(bay * style.window[0])
        for column in range(bays):
            x, y = column * bay + (bay - wide) // 2, top + (floor - high) // 2
            if column == door:
                paint = rng.uniform(20, 130, 3).astype(np.float32)
                y = top + int(floor * 0.25)
                picture[y:, x : x + wide] = trim * 0.9
                picture[y + 3 :, x + 3 : x + wide - 3] = paint
                picture[y + 6 : y + 14, x + 6 : x + wide - 6] = (70, 80, 90)
                picture[-3:, x : x + wide] *= 0.6
                continue
            picture[y - 3 : y, x - 2 : x + wide + 2] = trim * 0.95
            picture[y : y + high, x : x + wide] = _window(rng, (high, wide), style.frame, style.panes)
            picture[y + high : y + high + 3, x - 3 : x + wide + 3] = trim
            picture[y + high + 3 : y + high + 6, x - 3 : x + wide + 3] *= 0.75
        if style.wall != "brick" or level == style.floors - 1:
            picture[top - 2 : top + 2] = trim * 0.92
            picture[top + 2 : top + 5] *= 0.8
    picture[:9] = trim
    picture[9:13] *= 0.6
    edge = max(3, bay // 16)  # quoins and the neighbour's drain pipe set houses apart
    picture[:, :edge] *= 0.86
    picture[:, -2:] *= 0.6
    stain = np.linspace(1.04, 0.9, size[0], dtype=np.float32)[:, None, None]
    return _finish(picture * stain)


def side_wall(rng: np.random.Generator, style: FacadeStyle, depth_m: float) -> Texture:
    """The end of a building, with few windows."""
    floor = int(style.floor_m * FACADE_SCALE)
    size = (floor * style.floors + 12, int(depth_m * FACADE_SCALE))
    picture = _wall(rng, size, style) * 0.97
    for level in range(style.floors):
        if rng.random() < 0.5:
            high, wide = int(floor * 0.4), int(0.9 * FACADE_SCALE)
            x, y = int(rng.uniform(0.15, 0.7) * size[1]), 12 + level * floor + (floor - high) // 2
            window = _window(rng, (high, wide), style.frame, style.panes)
            area = picture[y : y + high, x : x + wide]
            area[:] = window[: area.shape[0], : area.shape[1]]
    return _finish(picture)


def gable(rng: np.random.Generator, style: FacadeStyle, depth_m: float, rise_m: float) -> Texture:
    """The triangle between a side wall and a pitched roof."""
    size = (int(rise_m * FACADE_SCALE), int(depth_m * FACADE_SCALE))
    alpha = np.zeros(size, np.uint8)
    cv2.fillPoly(alpha, [np.array([(0, size[0]), (size[1] // 2, 0), (size[1], size[0])], np.int32)], 255)
    return _finish(_wall(rng, size, style) * 0.97, alpha)


def roof_tiles(rng: np.random.Generator, colour: Colour) -> Texture:
    size = (112, 280)
    picture = bricks(rng, size, colour, (6, 7))
    picture[::6] *= 0.65
    return _finish(picture * (1 + 0.06 * noise(rng, size, 60))[..., None])


# --- greenery ---------------------------------------------------------------------------------------------------


def tree(rng: np.random.Generator, leaf: Colour, *, bare: bool, dense: float) -> Texture:
    """A whole tree, trunk at the middle of the bottom edge; `bare` ones show their branches."""
    size = 256
    picture = _plain((size, size), np.asarray(leaf, np.float32) * 0.5)
    alpha = np.zeros((size, size), np.uint8)
    bark = np.asarray((84, 72, 60), np.float32) * rng.uniform(0.7, 1.15)
    tips: list[tuple[float, float]] = []

    def branch(x: float, y: float, angle: float, length: float, thick: float) -> None:
        x2, y2 = x + length * np.sin(angle), y - length * np.cos(angle)
        ends = ((int(x), int(y)), (int(x2), int(y2)))
        cv2.line(alpha, *ends, 255, max(1, round(thick)), cv2.LINE_AA)
        cv2.line(picture, *ends, (bark * rng.uniform(0.7, 1.2)).tolist(), max(1, round(thick)), cv2.LINE_AA)
        if length < 9 or thick < 0.8:
            tips.append((x2, y2))
            return
        for _ in range(3 if bare else 2):
            branch(x2, y2, angle + rng.normal(0, 0.45), length * rng.uniform(0.62, 0.82), thick * 0.66)

    branch(size / 2, size, 0.0, size * rng.uniform(0.24, 0.32), 12)
    if not bare:
        clusters = [(x, y) for x, y in tips if y < size * 0.75]
        clusters += [
            (size / 2 + rng.normal(0, size * 0.17), size * 0.36 + rng.normal(0, size * 0.13)) for _ in range(int(40 * dense))
        ]
        clusters.sort(key=lambda point: -point[1])  # upper, brighter leaves over the lower ones
        for x, y in clusters:
            light = np.clip(1.25 - 0.9 * (y / size) - 0.25 * (x / size - 0.5), 0.45, 1.3)
            for _ in range(22):
                at = (int(x + rng.normal(0, 12)), int(y + rng.normal(0, 9)))
                tone = np.asarray(leaf, np.float32) * light * rng.uniform(0.65, 1.3)
                radius = int(rng.integers(2, 5))
                cv2.circle(picture, at, radius, tone.tolist(), -1)
                cv2.circle(alpha, at, radius, 255, -1)
    return _finish(picture, alpha)


def hedge(rng: np.random.Generator, size: tuple[int, int], leaf: Colour) -> Texture:
    picture = mottled(rng, size, leaf, 0.2, 16) * (1 + 0.2 * rng.standard_normal(size).astype(np.float32))[..., None]
    picture *= np.linspace(1.25, 0.6, size[0], dtype=np.float32)[:, None, None]
    alpha = np.full(size, 255, np.uint8)
    rough = np.clip(4 + 2.5 * noise(rng, (1, size[1]), 12)[0], 0, 10).astype(int)
    alpha[np.arange(size[0])[:, None] < rough[None]] = 0
    return _finish(picture, alpha)


def fence(rng: np.random.Generator, kind: str, length_m: float, height_m: float) -> Texture:
    """`kind` is "railing" (iron bars), "boards" (wood, closed) or "picket"."""
    scale = 40.0
    size = (int(height_m * scale), int(length_m * scale))
    alpha = np.zeros(size, np.uint8)
    if kind == "railing":
        picture = mottled(rng, size, (38, 40, 42), 0.1, 20)
        alpha[:, ::5] = alpha[:, 1::5] = 255
        alpha[3:7] = alpha[-9:-5] = 255
        alpha[:, :4] = 255
    elif kind == "boards":
        tone = np.repeat(1 + 0.1 * rng.standard_normal((1, size[1] // 6 + 1)).astype(np.float32), 6, 1)[:, : size[1]]
        picture = mottled(rng, size, (122, 92, 62), 0.08, 30) * tone[..., None]
        picture[:, ::6] *= 0.55
        alpha[:] = 255
    else:
        picture = mottled(rng, size, (212, 208, 198), 0.05, 20)
        for x in range(0, size[1], 7):
            alpha[:, x : x + 5] = 255
        alpha[int(size[0] * 0.25) : int(size[0] * 0.25) + 4] = 255
        alpha[int(size[0] * 0.7) : int(size[0] * 0.7) + 4] = 255
        picture[:, 4::7] *= 0.8
    return _finish(picture, alpha)


# --- sky --------------------------------------------------------------------------------------------------------


def sky(rng: np.random.Generator, zenith: Colour, horizon: Colour, cloud: float) -> Texture:
    """Gradient and clouds, `cloud` 0 (clear) .. 1 (overcast); the bottom row is just under the horizon."""
    size = (320, 512)
    down = np.linspace(0, 1, size[0], dtype=np.float32)[:, None, None] ** 1.3
    picture = np.asarray(zenith, np.float32) * (1 - down) + np.asarray(horizon, np.float32) * down
    picture = np.repeat(picture, size[1], 1)
    # Clouds lie on a flat layer: rows near the horizon show far more of it, so the noise is squeezed there.
    layer = noise(rng, (640, 512), 120, 6)
    height = np.linspace(1, 0.06, size[0], dtype=np.float32)
    rows = np.repeat((70 / height).astype(np.float32)[:, None] % 640, size[1], 1)
    spread = np.linspace(-1, 1, size[1], dtype=np.float32)[None] * 160 / (0.35 + height[:, None]) + 256
    clouds = cv2.remap(layer, spread.astype(np.float32), rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    cover = np.clip((clouds + 2.4 * cloud - 1.1) * 0.9, 0, 1)[..., None] * np.clip(1.25 - down, 0, 1)
    tone = 236 - 26 * np.clip(cv2.GaussianBlur(clouds, (0, 0), 6), -1, 2)[..., None] * np.float32(0.3 + 0.9 * cloud)
    return _finish(picture + (tone - picture) * cover)


def skyline(rng: np.random.Generator, kind: str, colour: Colour) -> Texture:
    """What stands on the horizon: "trees" or "roofs"."""
    size = (48, 1024)
    columns = np.arange(size[1])
    if kind == "trees":
        top = 26 + 7 * noise(rng, (1, size[1]), 60, 5)[0]
    else:
        edges = np.sort(rng.integers(0, size[1], 60))
        top = rng.uniform(8, 36, 61)[np.searchsorted(edges, columns)]
    picture = mottled(rng, size, colour, 0.12, 10)
    alpha = np.where(np.arange(size[0])[:, None] > top[None], 255, 0).astype(np.uint8)
    return _finish(picture, alpha)


# --- shadows (alpha only) ---------------------------------------------------------------------------------------


def soft_box(softness: float = 0.12) -> Texture:
    size = 64
    alpha = np.zeros((size, size), np.uint8)
    margin = int(size * softness) + 1
    alpha[margin:-margin, margin:-margin] = 255
    alpha = cv2.GaussianBlur(alpha, (0, 0), margin / 2)
    return Texture(np.zeros((size, size, 3), np.uint8), alpha)


def dapple(rng: np.random.Generator, cover: float) -> Texture:
    """The broken shadow of a tree's crown."""
    size = 128
    grid = np.linspace(-1, 1, size, dtype=np.float32)
    radius = np.sqrt(grid[:, None] ** 2 + grid[None] ** 2)
    blotches = noise(rng, (size, size), 18) * 0.35 + (1 - radius) * 1.3 + cover - 0.6
    alpha = (np.clip(blotches * 3, 0, 1) * np.clip((1 - radius) * 5, 0, 1) * 255).astype(np.uint8)
    return Texture(np.zeros((size, size, 3), np.uint8), cv2.GaussianBlur(alpha, (0, 0), 1.0))
