"""What a street is made of: road, pavement, grass, trees, hedges, fences, lamp posts, poles, signs, traffic lights."""

from __future__ import annotations

import cv2
import numpy as np

from sdcpc_ros.datasets.street.textures import (
    Colour,
    Texture,
    column_shade,
    fill,
    mottled,
    noise,
    pick,
    plain,
    row_shade,
    speckle,
)

GROUND_SCALE = 32.0  # texels a metre
WHITE, YELLOW = (222, 222, 215), (196, 168, 70)
EDGE = 24.0  # texels around a tree's picture that its leaves stay out of, so that no crown is cut off
FENCES = {"railing": 1.2, "boards": 1.7, "picket": 1.0}  # heights in m
FENCE_PIECE_M = 4.0
SIGN_CHANCES = {"round": 0.35, "triangle": 0.25, "board": 0.25, "lights": 0.15}
RED, INK = (190, 28, 34), (20, 20, 20)
BOARDS = [(28, 84, 60), (26, 66, 150), (226, 224, 216), (150, 40, 36)]
LAMPS = [(236, 40, 34), (236, 160, 30), (40, 226, 120)]


def _asphalt(rng: np.random.Generator, size: tuple[int, int], colour: Colour) -> np.ndarray:
    """Grain, wheel tracks along the rows, repaired patches, cracks, perhaps a manhole: (h, w, 3) float32."""
    height, width = size
    colour = np.asarray(colour, np.float64)
    picture = mottled(rng, size, colour, 0.045, 48) * speckle(rng, size, 0.055)
    tracks = cv2.GaussianBlur(rng.standard_normal((1, width)).astype(np.float32), (0, 0), width / 40)
    picture *= (1 + 0.5 * tracks)[..., None]
    for _ in range(rng.integers(0, 3)):
        x, y = int(rng.integers(0, width)), int(rng.integers(0, height))
        w, h = int(rng.integers(width // 12, width // 4)), int(rng.integers(height // 12, height // 3))
        picture[y : y + h, x : x + w] *= rng.uniform(0.78, 0.93)
    for _ in range(rng.integers(0, 3)):
        steps = np.cumsum(rng.normal(0, 6, (14, 2)) + rng.normal(0, 5, 2), axis=0)
        line = (steps + rng.uniform(0, 1, 2) * (width, height)).astype(np.int32)
        cv2.polylines(picture, [line], False, (colour * 0.65).tolist(), 1)
    if rng.random() < 0.5:
        centre = (int(rng.uniform(0.25, 0.75) * width), int(rng.uniform(0.1, 0.9) * height))
        cv2.circle(picture, centre, 10, (colour * 0.85).tolist(), -1)
        cv2.circle(picture, centre, 8, (colour * 0.6).tolist(), -1)
    return picture


def road(
    rng: np.random.Generator, size_m: tuple[float, float], colour: Colour, *, edge_lines: int, dash_m: float
) -> Texture:
    """A tile of road of `size_m` (length, width) with a centre line in dashes, and yellow lines along each kerb.

    dash_m: length of a dash; 0 paints a zebra crossing in the middle instead.
    """
    height, width = size = (int(size_m[0] * GROUND_SCALE), int(size_m[1] * GROUND_SCALE))
    picture = _asphalt(rng, size, colour)
    wear = np.clip(0.8 + 0.25 * noise(rng, size, 10), 0, 1)[..., None]
    white, yellow = np.zeros(size, bool), np.zeros(size, bool)
    dash, stripe = int(dash_m * GROUND_SCALE), int(0.5 * GROUND_SCALE)
    if dash:
        for start in range(0, height, 2 * dash):
            white[start : start + dash, width // 2 - 2 : width // 2 + 2] = True
    else:
        for x in range(stripe // 2, width - stripe, 2 * stripe):
            white[height // 2 - 3 * stripe : height // 2 + 3 * stripe, x : x + stripe] = True
    for line in range(edge_lines):
        offset = int((0.3 + 0.2 * line) * GROUND_SCALE)
        yellow[:, offset : offset + 3] = yellow[:, -offset - 3 : -offset] = True
    for stencil, paint in ((white, WHITE), (yellow, YELLOW)):
        picture[stencil] += ((np.asarray(paint, np.float32) - picture) * wear)[stencil]
    gutter = int(0.25 * GROUND_SCALE)
    picture[:, :gutter] *= 0.82
    picture[:, -gutter:] *= 0.82
    return Texture.of(picture)


def slabs(rng: np.random.Generator, width_m: float, length_m: float, colour: Colour, slab_m: float) -> Texture:
    """A pavement of slabs with joints; kerb stones run along both long sides."""
    size = (int(length_m * GROUND_SCALE), max(16, int(width_m * GROUND_SCALE)))
    step = max(6, int(slab_m * GROUND_SCALE))
    tone = 1 + 0.06 * rng.standard_normal((size[0] // step + 1, size[1] // step + 1, 1)).astype(np.float32)
    tone = np.repeat(np.repeat(tone, step, 0), step, 1)[: size[0], : size[1]]
    picture = mottled(rng, size, colour, 0.06, 40) * tone * speckle(rng, size, 0.05)
    picture[::step] *= 0.72
    picture[:, ::step] *= 0.72
    kerb = int(0.22 * GROUND_SCALE)
    for side in (slice(kerb), slice(-kerb, None)):
        picture[:, side] = picture[:, side] * 0.4 + 0.73 * np.asarray(colour, np.float32)
        picture[:: int(0.9 * GROUND_SCALE), side] *= 0.7
    return Texture.of(picture)


def grass(rng: np.random.Generator) -> Texture:
    size = (256, 384)
    picture = mottled(rng, size, (98, 116, 58), 0.14, 60) * speckle(rng, size, 0.16)
    picture[..., 0] *= 1 + 0.10 * noise(rng, size, 90)  # dry patches
    return Texture.of(picture)


def tree(rng: np.random.Generator, leaf: Colour, *, winter: bool) -> Texture:
    """A whole tree, its foot at the middle of the bottom edge; in winter most are bare and show their branches."""
    size, bare, dense = 256, winter and rng.random() < 0.8, rng.uniform(0.7, 1.3)
    picture = plain((size, size), (80, 70, 60))
    alpha = np.zeros((size, size), np.uint8)
    bark = np.array([84.0, 72.0, 60.0]) * rng.uniform(0.7, 1.15)
    tips: list[tuple[float, float]] = []

    def branch(x: float, y: float, angle: float, length: float, thick: float) -> None:
        x2, y2 = x + length * np.sin(angle), y - length * np.cos(angle)
        if np.hypot((x2 - size / 2) / (0.41 * size), min(0, y2 - 0.45 * size) / (0.36 * size)) > 1:
            return
        ends = ((int(x), int(y)), (int(x2), int(y2)))
        cv2.line(alpha, *ends, 255, max(1, round(thick)), cv2.LINE_AA)
        cv2.line(picture, *ends, (bark * rng.uniform(0.7, 1.2)).tolist(), max(1, round(thick)))
        if length < 9 or thick < 0.8:
            tips.append((x2, y2))
            return
        for _ in range(3 if bare else 2):
            branch(x2, y2, angle + rng.normal(0, 0.45), length * rng.uniform(0.62, 0.82), thick * 0.66)

    branch(size / 2, size, 0.0, size * rng.uniform(0.24, 0.32), 12)
    if not bare:
        more = rng.normal((size / 2, size * 0.37), (size * 0.15, size * 0.12), (int(60 * dense), 2))
        boughs = np.array([*(tip for tip in tips if tip[1] < size * 0.72), *more])
        boughs = np.clip(boughs, EDGE, (size - EDGE, np.inf))
        _add_leaves(rng, picture, alpha, boughs[np.argsort(-boughs[:, 1], kind="stable")], leaf)
    return Texture.of(picture, alpha)


def _add_leaves(
    rng: np.random.Generator, picture: np.ndarray, alpha: np.ndarray, boughs: np.ndarray, leaf: Colour
) -> None:
    """Cover boughs (B, 2), lowest first, with clumps of leaves that are lit from above."""
    size = alpha.shape[0]
    light: np.ndarray = np.zeros((size, size), np.float32)
    cover: np.ndarray = np.zeros((size, size), np.float32)
    for x, y in boughs:
        radius = int(rng.integers(9, 19))
        bright = float(np.clip(1.35 - 0.75 * y / size, 0.6, 1.3) * rng.uniform(0.8, 1.15))
        cv2.circle(cover, (int(x), int(y)), radius, 1.0, -1)
        cv2.circle(light, (int(x), int(y)), radius, 0.62 * bright, -1)
        cv2.circle(light, (int(x - 0.2 * radius), int(y - 0.35 * radius)), int(0.7 * radius), bright, -1)
    cover = cv2.GaussianBlur(cover, (0, 0), 3.5)
    light = cv2.GaussianBlur(light, (0, 0), 3.5) / np.maximum(cover, 0.05)
    clumps = noise(rng, alpha.shape, 9, 3)
    leafy = (cover + 0.17 * clumps > 0.5) & (cover > 0.25)
    tone = np.clip(light * (1 + 0.2 * clumps), 0.25, 1.4)[..., None] * speckle(rng, alpha.shape, 0.13)
    hue = 1 + np.array([0.07, 0.0, -0.05], np.float32) * noise(rng, alpha.shape, 30, 2)[..., None]
    picture[leafy] = (np.asarray(leaf, np.float32) * tone * hue)[leafy]
    alpha[leafy] = 255


def hedge(rng: np.random.Generator, leaf: Colour) -> Texture:
    size = (48, 320)
    picture = mottled(rng, size, leaf, 0.2, 16) * speckle(rng, size, 0.2) * row_shade(size[0], 1.25, 0.6)
    ragged = np.clip(4 + 2.5 * noise(rng, (1, size[1]), 12)[0], 0, 10)
    return Texture.of(picture, np.where(np.arange(size[0])[:, None] < ragged, 0, 255))


def fence(rng: np.random.Generator, kind: str) -> Texture:
    """A piece of fence: iron "railing", closed wooden "boards" or white "picket"."""
    height, width = size = (int(FENCES[kind] * 40), int(FENCE_PIECE_M * 40))
    alpha = np.zeros(size, np.uint8)
    if kind == "railing":
        picture = mottled(rng, size, (38, 40, 42), 0.1, 20)
        alpha[:, ::5] = alpha[:, 1::5] = alpha[:, :4] = 255
        alpha[3:7] = alpha[-9:-5] = 255
    elif kind == "boards":
        boards = np.repeat(speckle(rng, (1, width // 6 + 1), 0.1), 6, 1)[:, :width]
        picture = mottled(rng, size, (122, 92, 62), 0.08, 30) * boards
        picture[:, ::6] *= 0.55
        alpha[:] = 255
    else:
        picture = mottled(rng, size, (212, 208, 198), 0.05, 20)
        picture[:, 4::7] *= 0.8
        alpha[:, np.arange(width) % 7 < 5] = 255
        for share in (0.25, 0.7):
            alpha[int(height * share) : int(height * share) + 4] = 255
    return Texture.of(picture, alpha)


def lamp_post(rng: np.random.Generator) -> Texture:
    """Foot at the middle of the bottom edge; the arm, or else a lantern, at the top reaches to the right."""
    arm = rng.random() < 0.6
    height, width = size = (320, 96)
    foot = width // 2
    picture, alpha = plain(size, [rng.uniform(60, 150)] * 3), np.zeros(size, np.uint8)
    cv2.line(alpha, (foot, height), (foot, 8), 255, 5)
    cv2.line(alpha, (foot, height), (foot, int(height * 0.82)), 255, 8)
    if arm:
        cv2.line(alpha, (foot, 9), (width - 14, 4), 255, 4)
        alpha[1:9, width - 26 : width - 1] = 255
        picture[:9, width - 26 :] = 205
    else:
        alpha[:19, foot - 9 : foot + 10] = 255
        picture[3:16, foot - 7 : foot + 7] = 222
    return Texture.of(picture * np.where(np.arange(width) < foot, 1.2, 0.75)[None, :, None], alpha)


def pole(rng: np.random.Generator) -> Texture:
    return Texture.of(mottled(rng, (128, 8), [rng.uniform(70, 150)] * 3, 0.06, 20) * column_shade(8, 1.25, 0.7))


def sign(rng: np.random.Generator, kind: str) -> Texture:
    """A plate, or the head of a traffic signal ("lights")."""
    size, middle = 96, 48
    picture, alpha = np.full((size, size, 3), 228, np.uint8), np.zeros((size, size), np.uint8)
    if kind == "round":
        cv2.circle(alpha, (middle, middle), 46, 255, -1)
        if rng.random() < 0.4:
            picture[:] = (26, 70, 160)
            cv2.arrowedLine(picture, (middle, 76), (middle, 22), (235, 235, 235), 9, tipLength=0.4)
        else:
            limit = str(rng.choice([20, 30, 40]))
            cv2.circle(picture, (middle, middle), 41, RED, 11)
            cv2.putText(picture, limit, (22, 62), cv2.FONT_HERSHEY_DUPLEX, 1.3, INK, 3)
    elif kind == "triangle":
        corners = np.array([(middle, 3), (94, 88), (2, 88)])
        fill(alpha, corners, 255)
        cv2.polylines(picture, [corners.astype(np.int32)], True, RED, 18)
        cv2.line(picture, (middle, 40), (middle, 66), INK, 6)
    elif kind == "lights":
        alpha[2:-2, 30:66] = 255
        picture[:] = (26, 27, 28)
        lit = int(rng.integers(0, 3))
        for index, colour in enumerate(LAMPS):
            glow = np.asarray(colour) * (1.0 if index == lit else 0.22)
            cv2.circle(picture, (middle, 18 + 30 * index), 11, glow.tolist(), -1)
    else:
        alpha[8:-8, 2:-2] = 255
        picture[:] = pick(rng, BOARDS)
        ink = [30 if picture.mean() > 150 else 228] * 3
        for row in range(3):
            for x in range(10, int(rng.integers(50, 84)), 9):  # letters are only ever read as texture
                cv2.rectangle(picture, (x, 20 + 20 * row), (x + 5, 29 + 20 * row), ink, -1)
        cv2.rectangle(picture, (4, 10), (size - 5, size - 11), ink, 1)
    return Texture(picture, alpha)
