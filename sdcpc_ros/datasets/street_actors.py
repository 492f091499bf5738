"""What stands and moves in the synthetic street: cars, people, cyclists, poles and signs, built of textured surfaces."""

from __future__ import annotations

import cv2
import numpy as np

from sdcpc_ros.datasets.street_textures import Colour, Texture, _finish, _plain, mottled, noise
from sdcpc_ros.datasets.street_world import Motion, Surface, Swing, World
from sdcpc_ros.label_set import CAMVID_11

LABEL = {name: index for index, name in enumerate(CAMVID_11.class_names)}

# Side profiles of cars, (along, up) in shares of length and height, from the rear bumper over the roof to the front.
# The second value of a kind is where the cabin begins (share of the height): above it the sides lean inward.
PROFILES: dict[str, tuple[list[tuple[float, float]], float]] = {
    "hatchback": ([(0, 0.16), (0, 0.62), (0.10, 0.97), (0.30, 1.0), (0.56, 0.98), (0.76, 0.64), (0.98, 0.52), (1, 0.16)], 0.62),
    "saloon": ([(0, 0.16), (0, 0.64), (0.16, 0.68), (0.30, 0.98), (0.56, 1.0), (0.74, 0.66), (0.98, 0.54), (1, 0.16)], 0.65),
    "estate": ([(0, 0.16), (0, 0.60), (0.05, 0.95), (0.20, 1.0), (0.58, 0.98), (0.75, 0.64), (0.98, 0.53), (1, 0.16)], 0.62),
    "van": ([(0, 0.12), (0, 0.52), (0.01, 0.98), (0.10, 1.0), (0.72, 0.98), (0.86, 0.56), (0.99, 0.44), (1, 0.12)], 0.54),
}
SIZES = {"hatchback": (3.9, 1.45, 1.7), "saloon": (4.5, 1.42, 1.76), "estate": (4.5, 1.47, 1.76), "van": (5.0, 2.2, 1.95)}
GLASS = (42, 50, 58)
LEAN_M = 0.17  # how far the top of a car's side stands in from its belt


class Car:
    """The pictures of one car, to be set down any number of times; sizes in metres."""

    def __init__(self, rng: np.random.Generator, kind: str, paint: Colour) -> None:
        self.kind, self.paint = kind, np.asarray(paint, np.float32)
        self.length, self.height, self.width = SIZES[kind]
        profile, self.belt = PROFILES[kind]
        self.profile = np.array(profile)
        self.rear, self.front = self._end(rng, rear=True), self._end(rng, rear=False)
        self.body_side, self.cabin_side = self._sides(rng)
        self.panel = _finish(mottled(rng, (24, 32), self.paint, 0.02, 12))
        self.screen = self._screen(rng)

    def _end(self, rng: np.random.Generator, *, rear: bool) -> Texture:
        """The upright of the rear or the front, from the ground to the belt: lamps, plate, bumper, tyres below."""
        size = (96, 160)
        height, width = size
        picture = _plain(size, self.paint) * np.linspace(1.08, 0.8, height, dtype=np.float32)[:, None, None]
        alpha = np.zeros(size, np.uint8)
        floor = int(height * 0.76)
        alpha[:floor] = 255
        for x in (8, width - 34):
            alpha[floor:, x : x + 26] = 255
            picture[floor:, x : x + 26] = (22, 22, 23)
        if self.kind == "van" and rear:  # door gap and high windows
            picture[:, width // 2 - 1 : width // 2 + 1] *= 0.5
        bumper = int(height * 0.52)
        picture[bumper:floor] *= 0.82 if rng.random() < 0.6 else 0.4
        picture[bumper : bumper + 2] *= 0.6
        lamp = (176, 26, 24) if rear else (226, 228, 220)
        for left in (6, width - 34):
            cv2.rectangle(picture, (left, 10), (left + 28, 34), lamp, -1, cv2.LINE_AA)
            cv2.rectangle(picture, (left, 10), (left + 28, 34), (50, 50, 52), 1, cv2.LINE_AA)
            cv2.rectangle(picture, (left + 3, 24), (left + 12, 32), (214, 130, 60) if rear else (240, 240, 236), -1)
        if not rear:
            cv2.rectangle(picture, (46, 16), (width - 46, 32), (30, 30, 32), -1)
            picture[18:32:4, 46 : width - 46] = (110, 112, 114)
        top = int(height * 0.42) if rear else bumper + 6
        plate = (212, 186, 70) if rear else (228, 228, 224)
        cv2.rectangle(picture, (width // 2 - 26, top), (width // 2 + 26, top + 12), plate, -1)
        for x in range(width // 2 - 22, width // 2 + 22, 7):
            cv2.rectangle(picture, (x, top + 3), (x + 3, top + 9), (30, 30, 30), -1)
        picture[floor - 8 : floor] *= 0.35
        return _finish(picture, alpha)

    def _sides(self, rng: np.random.Generator) -> tuple[Texture, Texture]:
        """The side seen from outside with the rear at the left: body (ground to belt) and cabin (belt to roof)."""
        high, long_ = 192, 512
        picture = _plain((high, long_), self.paint)
        up = np.linspace(1, 0, high, dtype=np.float32)[:, None, None]
        picture *= 0.72 + 0.4 * up + 0.12 * np.exp(-(((up - self.belt * 0.9) / 0.05) ** 2))
        outline = self.profile * (long_, -high) + (0, high)
        alpha = np.zeros((high, long_), np.uint8)
        cv2.fillPoly(alpha, [outline.astype(np.int32)], 255)
        picture[int(high * (1 - 0.24)) :] *= 0.6
        roof = np.flatnonzero(self.profile[:, 1] > 0.9)
        left, right = outline[roof[0] - 1, 0], outline[roof[-1] + 1, 0]
        roof_left, roof_right = outline[roof[0], 0], outline[roof[-1], 0]
        low, top = high * (1 - self.belt), high * 0.07
        glass = [(left + 14, low), (roof_left + 14, top), (roof_right - 8, top), (right - 12, low)]
        shine = [(left + 60, low), (roof_left + 70, top), (roof_left + 110, top), (left + 96, low)]
        cv2.fillPoly(picture, [np.array(glass, np.int32)], GLASS, cv2.LINE_AA)
        cv2.fillPoly(picture, [np.array(shine, np.int32)], [c * 1.5 for c in GLASS], cv2.LINE_AA)
        for share in (0.33, 0.64):
            x = int(roof_left + share * (right - roof_left))
            cv2.line(picture, (x, int(low)), (x, int(top)), (self.paint * 0.7).tolist(), 7)
        if self.kind == "van":  # no windows behind the cab
            picture[: int(low) + 1, : int(0.66 * long_)] = self.paint * 0.95
        for share in (0.34, 0.60):
            x = int(share * long_)
            cv2.line(picture, (x, int(high * (1 - self.belt))), (x, int(high * 0.8)), (self.paint * 0.6).tolist(), 2)
            cv2.rectangle(picture, (x + 8, int(high * 0.45)), (x + 22, int(high * 0.48)), (self.paint * 0.5).tolist(), -1)
        radius = int(0.31 / self.length * long_)
        stretch = high / self.height * self.length / long_
        for share in (0.19, 0.81):
            centre = (int(share * long_), int(high - radius * stretch))
            axes = (radius, int(radius * stretch))
            cv2.ellipse(picture, centre, (radius + 5, int((radius + 5) * stretch)), 0, 0, 360, (16, 16, 17), -1)
            for canvas, value in ((picture, (26, 26, 27)), (alpha, 255)):
                cv2.ellipse(canvas, centre, axes, 0, 0, 360, value, -1, cv2.LINE_AA)
            rim = (int(radius * 0.62), int(radius * 0.62 * stretch))
            cv2.ellipse(picture, centre, rim, 0, 0, 360, (138, 140, 144), -1, cv2.LINE_AA)
            for angle in range(0, 180, 36):
                arm = np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle)) * stretch]) * radius * 0.6
                ends = (np.array(centre) - arm).astype(int), (np.array(centre) + arm).astype(int)
                cv2.line(picture, tuple(ends[0].tolist()), tuple(ends[1].tolist()), (70, 72, 75), 3, cv2.LINE_AA)
        picture *= (1 + 0.02 * noise(rng, (high, long_), 30))[..., None]
        cut = int(high * (1 - self.belt))
        return _finish(picture[cut:], alpha[cut:]), _finish(picture[:cut], alpha[:cut])

    def _screen(self, rng: np.random.Generator) -> Texture:
        """Windscreen or rear window: dark glass between pillars that lean inward."""
        size = (64, 128)
        picture = _plain(size, self.paint * 0.9)
        shine = np.linspace(1.9, 0.7, size[0], dtype=np.float32)[:, None, None]
        glass = _plain(size, GLASS) * shine * (1 + 0.1 * noise(rng, size, 24))[..., None]
        for x in (40, 88):  # head rests
            cv2.ellipse(glass, (x, 50), (9, 13), 0, 0, 360, (20, 21, 23), -1, cv2.LINE_AA)
        slant = LEAN_M / self.width * size[1]
        alpha, inner = np.zeros(size, np.uint8), np.zeros(size, np.uint8)
        for canvas, inset, top, bottom in ((alpha, 0, 0, 64), (inner, 8, 6, 60)):
            corners = [(inset, bottom), (slant + inset, top), (128 - slant - inset, top), (128 - inset, bottom)]
            cv2.fillPoly(canvas, [np.array(corners, np.int32)], 255)
        picture[inner > 0] = glass[inner > 0]
        return _finish(picture, alpha)

    def place(
        self, world: World, x: float, z: float, light: Light, *, oncoming: bool, motion: Motion | None = None
    ) -> None:
        """Set the car down with its middle at x and its nearer end at z; `oncoming` turns its front to the camera."""
        group, half, sign = world.new_group(), self.width / 2, -1.0 if oncoming else 1.0
        start = z + self.length if oncoming else z
        profile = self.profile * (self.length, self.height)
        belt = self.belt * self.height

        def add(origin: np.ndarray, u: np.ndarray, v: np.ndarray, texture: Texture, outward: np.ndarray | None = None) -> None:
            two_sided = outward is not None
            normal = np.cross(u, v) if outward is None else outward
            tint = light.on(normal / np.linalg.norm(normal))
            world.surfaces.append(
                Surface(origin, u, v, texture, LABEL["car"], group, tint, two_sided=two_sided, motion=motion)
            )

        def at(across: float, point: np.ndarray) -> np.ndarray:
            """A point of the profile in the world; `across` from -half (the car's left) to half."""
            return np.array([x + sign * across, point[1], start + sign * point[0]])

        for index, (low, high) in enumerate(zip(profile[:-1], profile[1:])):
            rearward = index < 3
            lean = LEAN_M if min(low[1], high[1]) > belt + 0.1 and abs(high[1] - low[1]) < 0.12 else 0.0
            near, far = (low, high) if rearward else (high, low)
            # Texture rows run from the upper end down; columns from the left as seen from outside.
            if index in (0, len(profile) - 2):
                ground = np.array([near[0], 0.0])
                texture = self.rear if rearward else self.front
                left = -half if rearward else half
                add(at(left, far), at(-left, far) - at(left, far), at(left, ground) - at(left, far), texture)
                continue
            glazed = abs(high[1] - low[1]) > 0.25
            texture = self.screen if glazed else self.panel
            left = (-half + lean) if rearward else (half - lean)
            add(at(left, far), at(-left, far) - at(left, far), at(left, near) - at(left, far), texture)
        for left_side in (True, False):
            outer = -half if left_side else half
            inner = outer + (LEAN_M if left_side else -LEAN_M)
            outward = np.array([sign * outer, 0.0, 0.0])
            rear_belt, front_belt = np.array([0.0, belt]), np.array([self.length, belt])
            rear_roof = np.array([0.0, self.height])
            along = at(outer, front_belt) - at(outer, rear_belt)
            down = at(outer, np.array([0.0, 0.0])) - at(outer, rear_belt)
            # One picture serves both sides: seen from the other side it is its own mirror image.
            add(at(outer, rear_belt), along, down, self.body_side, outward)
            add(at(inner, rear_roof), along, at(outer, rear_belt) - at(inner, rear_roof), self.cabin_side, outward)
        world.shadows.append(
            Surface(
                (x - half * 1.12, 0.0, z + self.length * 1.03), (self.width * 1.12, 0, 0), (0, 0, -self.length * 1.06),
                light.contact, 0, group, motion=motion,
            )
        )


class Light:
    """Sunlight by direction: what a surface with a given normal receives, and the soft shadow under things."""

    def __init__(self, sun: np.ndarray, strength: float, warm: Colour, contact: Texture) -> None:
        self.sun, self.strength, self.warm, self.contact = sun, strength, np.asarray(warm), contact

    def on(self, normal: np.ndarray) -> np.ndarray:
        """RGB factor for a surface with this outward unit normal (u x v of its parallelogram)."""
        facing = max(0.0, float(normal @ self.sun))
        sky = 0.5 + 0.5 * float(normal[1])
        return (1 - self.strength) * (0.7 + 0.35 * sky) + self.strength * (0.42 + 0.28 * sky + 0.75 * facing * self.warm)


# --- people -----------------------------------------------------------------------------------------------------

SKIN = ((224, 182, 152), (198, 148, 112), (140, 96, 68), (92, 62, 46))
HAIR = ((40, 30, 24), (88, 62, 40), (160, 126, 80), (120, 116, 112))


def upper_body(rng: np.random.Generator, coat: Colour) -> Texture:
    """Head, arms and trunk from the front or back; the hips are at the bottom edge."""
    height, width = 128, 72
    coat = [float(value) for value in coat]
    alpha = np.zeros((height, width), np.uint8)
    picture = _plain((height, width), coat)
    skin = np.asarray(SKIN[rng.integers(0, len(SKIN))], np.float32)
    hair = np.asarray(HAIR[rng.integers(0, len(HAIR))], np.float32)
    trunk = np.array([(20, 42), (30, 34), (42, 34), (52, 42), (51, 84), (53, 128), (19, 128), (21, 84)], np.int32)
    arms = [
        np.array([(20, 42), (13, 54), (10, 84), (11, 104), (17, 104), (19, 84), (24, 60)], np.int32),
        np.array([(52, 42), (59, 54), (62, 84), (61, 104), (55, 104), (53, 84), (48, 60)], np.int32),
    ]
    for arm in arms:
        cv2.fillPoly(alpha, [arm], 255, cv2.LINE_AA)
        cv2.fillPoly(picture, [arm], [c * 0.82 for c in coat], cv2.LINE_AA)
    cv2.fillPoly(alpha, [trunk], 255, cv2.LINE_AA)
    cv2.fillPoly(picture, [trunk], list(coat), cv2.LINE_AA)
    for x in (14, 58):
        cv2.circle(alpha, (x, 106), 4, 255, -1)
        cv2.circle(picture, (x, 106), 4, skin.tolist(), -1, cv2.LINE_AA)
    cv2.rectangle(picture, (32, 26), (40, 36), (skin * 0.8).tolist(), -1)
    cv2.rectangle(alpha, (32, 26), (40, 36), 255, -1)
    cv2.ellipse(alpha, (36, 17), (10, 14), 0, 0, 360, 255, -1, cv2.LINE_AA)
    facing = rng.random() < 0.5
    cv2.ellipse(picture, (36, 17), (11, 15), 0, 0, 360, (skin if facing else hair).tolist(), -1, cv2.LINE_AA)
    cv2.ellipse(picture, (36, 11), (12, 9), 0, 180, 360, hair.tolist(), -1, cv2.LINE_AA)
    if facing:
        cv2.line(picture, (36, 40), (36, 124), [c * 0.6 for c in coat], 2)
        cv2.fillPoly(picture, [np.array([(32, 34), (40, 34), (36, 50)], np.int32)], rng.uniform(60, 220, 3).tolist())
    elif rng.random() < 0.5:  # rucksack
        cv2.rectangle(picture, (24, 46), (48, 86), rng.uniform(20, 120, 3).tolist(), -1, cv2.LINE_AA)
    across = np.linspace(1.15, 0.75, width, dtype=np.float32)[None, :, None]
    return _finish(picture * across * (1 + 0.08 * noise(rng, (height, width), 14))[..., None], alpha)


def leg(rng: np.random.Generator, trousers: Colour) -> Texture:
    """A leg with its shoe."""
    height, width = 96, 24
    alpha = np.zeros((height, width), np.uint8)
    picture = mottled(rng, (height, width), trousers, 0.08, 14)
    shape = np.array([(2, 0), (22, 0), (18, 48), (16, 86), (18, 96), (6, 96), (8, 86), (5, 48)], np.int32)
    cv2.fillPoly(alpha, [shape], 255, cv2.LINE_AA)
    picture[86:] = rng.uniform(20, 70, 3)
    picture *= np.linspace(1.1, 0.8, width, dtype=np.float32)[None, :, None]
    return _finish(picture, alpha)


class Person:
    """One walker's pictures and size."""

    def __init__(self, rng: np.random.Generator) -> None:
        coat = rng.choice([(38, 40, 48), (74, 50, 40), (52, 62, 88), (150, 44, 40), (168, 160, 148), (44, 70, 52)])
        self.body = upper_body(rng, np.asarray(coat, np.float32) * rng.uniform(0.8, 1.3))
        trousers = rng.choice([(40, 44, 58), (54, 66, 98), (62, 56, 50), (30, 30, 32)])
        self.leg = leg(rng, np.asarray(trousers, np.float32))
        self.height = float(rng.uniform(1.55, 1.85))
        self.phase = float(rng.uniform(0, 6.28))

    def place(
        self, world: World, x: float, y: float, z: float, light: Light, velocity: tuple[float, float], motion: Motion
    ) -> None:
        """Stand the walker at (x, y, z); `velocity` (x, z) m/s sets the direction and the pace of the legs."""
        group, hip = world.new_group(), 0.47 * self.height
        tint = light.on(np.array([0.0, 0.0, -1.0]))
        speed = float(np.hypot(*velocity))
        step = 0.26 * np.array([velocity[0], 0.0, velocity[1]]) / max(speed, 1e-6) * min(1.0, speed)
        for side, phase in ((-1, 0.0), (1, np.pi)):
            swing = Swing(tuple(step), 0.65 * speed, self.phase + phase)
            left = x + side * 0.075 - 0.09
            world.surfaces.append(
                Surface(
                    (left, y + hip + 0.05, z - 0.02 * side), (0.18, 0, 0), (0, -hip - 0.05, 0), self.leg,
                    LABEL["pedestrian"], group, tint, motion=motion, swing=swing,
                )
            )
        width = (self.height - hip) * 72 / 128
        world.surfaces.append(
            Surface(
                (x - width / 2, y + self.height, z - 0.05), (width, 0, 0), (0, hip - self.height, 0), self.body,
                LABEL["pedestrian"], group, tint, motion=motion,
            )
        )
        world.shadows.append(
            Surface((x - 0.4, y * 0.5, z + 0.3), (0.8, 0, 0), (0, 0, -0.6), light.contact, 0, group, motion=motion)
        )


def bicycle_side(rng: np.random.Generator) -> Texture:
    """A bicycle from the side."""
    height, width = 128, 208
    alpha = np.zeros((height, width), np.uint8)
    picture = _plain((height, width), (34, 34, 36))
    frame = rng.choice([(150, 30, 30), (30, 60, 140), (40, 44, 46), (30, 100, 60)]).tolist()
    rear, front, crank, saddle, head = (42, 88), (166, 88), (92, 92), (80, 30), (150, 26)
    for wheel in (rear, front):
        cv2.circle(alpha, wheel, 37, 255, 6, cv2.LINE_AA)
        for angle in range(0, 180, 30):
            arm = (np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))]) * 36).astype(int)
            cv2.line(alpha, (wheel[0] - int(arm[0]), wheel[1] - int(arm[1])), (wheel[0] + int(arm[0]), wheel[1] + int(arm[1])), 255, 1)
    for a, b in ((rear, crank), (rear, saddle), (saddle, crank), (crank, head), (saddle, head), (head, front)):
        cv2.line(alpha, a, b, 255, 6, cv2.LINE_AA)
        cv2.line(picture, a, b, frame, 6, cv2.LINE_AA)
    cv2.line(alpha, (66, 24), (96, 24), 255, 7)
    cv2.line(alpha, head, (146, 8), 255, 5)
    cv2.line(alpha, (132, 8), (150, 8), 255, 6)
    return _finish(picture, alpha)


class Cyclist:
    """A bicycle in its own plane, along the street, and a rider across it."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.bicycle = bicycle_side(rng)
        coat = rng.choice([(206, 216, 40), (40, 60, 110), (130, 36, 40), (46, 48, 52)])
        self.body = upper_body(rng, np.asarray(coat, np.float32))
        self.leg = leg(rng, (40, 42, 52))
        self.tyre = _finish(mottled(rng, (48, 8), (30, 30, 32), 0.1, 4))
        self.phase = float(rng.uniform(0, 6.28))

    def place(self, world: World, x: float, z: float, light: Light, motion: Motion, *, oncoming: bool) -> None:
        group, label = world.new_group(), LABEL["bicyclist"]
        tint = light.on(np.array([0.0, 0.0, -1.0]))
        sign = -1.0 if oncoming else 1.0

        def add(origin: tuple[float, ...], u: tuple[float, ...], v: tuple[float, ...], texture: Texture, swing: Swing | None = None) -> None:
            world.surfaces.append(
                Surface(origin, u, v, texture, label, group, tint, two_sided=True, motion=motion, swing=swing)
            )

        add((x, 1.08, z - sign * 0.88), (0, 0, sign * 1.76), (0, -1.08, 0), self.bicycle)
        for wheel in (-0.55, 0.55):
            add((x - 0.03, 0.66, z + wheel), (0.06, 0, 0), (0, -0.66, 0), self.tyre)
        add((x - 0.28, 0.98, z + sign * 0.42), (0.56, 0, 0), (0, -0.05, 0), self.tyre)  # handlebar
        for side, phase in ((-1, 0.0), (1, np.pi)):
            pedal = Swing((0.0, 0.16, 0.0), 1.1, self.phase + phase)
            add((x + side * 0.11 - 0.09, 0.98, z + 0.01 * side), (0.18, 0, 0), (0, -0.72, 0), self.leg, pedal)
        add((x - 0.27, 1.78, z - 0.04), (0.54, 0, 0), (0, -0.92, sign * -0.14), self.body)
        world.shadows.append(
            Surface((x - 0.4, 0.0, z + 0.95), (0.8, 0, 0), (0, 0, -1.9), light.contact, 0, group, motion=motion)
        )


# --- poles and signs --------------------------------------------------------------------------------------------


def lamp_post(rng: np.random.Generator, arm: bool) -> Texture:
    """A lamp post, foot at the middle of the bottom edge; `arm` reaches to the right."""
    height, width = 320, 96
    alpha = np.zeros((height, width), np.uint8)
    tone = rng.uniform(60, 150)
    picture = _plain((height, width), (tone, tone * 1.01, tone * 1.0))
    foot = width // 2
    cv2.line(alpha, (foot, height), (foot, 8), 255, 5)
    cv2.line(alpha, (foot, height), (foot, int(height * 0.82)), 255, 8)
    if arm:
        cv2.line(alpha, (foot, 9), (width - 14, 4), 255, 4)
        cv2.rectangle(alpha, (width - 26, 1), (width - 2, 8), 255, -1)
        picture[:9, width - 26 :] = 205
    else:
        cv2.rectangle(alpha, (foot - 9, 0), (foot + 9, 18), 255, -1)
        picture[3:16, foot - 7 : foot + 7] = 222
    picture *= np.where(np.arange(width) < foot, 1.2, 0.75).astype(np.float32)[None, :, None]
    return _finish(picture, alpha)


def pole(rng: np.random.Generator) -> Texture:
    tone = rng.uniform(70, 150)
    picture = mottled(rng, (128, 8), (tone, tone, tone), 0.06, 20)
    return _finish(picture * np.linspace(1.25, 0.7, 8, dtype=np.float32)[None, :, None])


def sign_plate(rng: np.random.Generator, kind: str) -> Texture:
    """`kind` is "round", "triangle", "board" or "lights" (a traffic signal's head)."""
    size = 96
    alpha = np.zeros((size, size), np.uint8)
    picture = _plain((size, size), (228, 228, 224))
    red, middle = (190, 28, 34), size // 2
    if kind == "round":
        cv2.circle(alpha, (middle, middle), 46, 255, -1, cv2.LINE_AA)
        if rng.random() < 0.4:
            picture[:] = (26, 70, 160)
            cv2.arrowedLine(picture, (middle, 76), (middle, 22), (235, 235, 235), 9, cv2.LINE_AA, tipLength=0.4)
        else:
            cv2.circle(picture, (middle, middle), 41, red, 11, cv2.LINE_AA)
            cv2.putText(picture, str(rng.choice([20, 30, 40])), (22, 62), cv2.FONT_HERSHEY_DUPLEX, 1.3, (20, 20, 20), 3)
    elif kind == "triangle":
        corners = np.array([(middle, 3), (94, 88), (2, 88)], np.int32)
        cv2.fillPoly(alpha, [corners], 255, cv2.LINE_AA)
        cv2.polylines(picture, [corners], True, red, 18, cv2.LINE_AA)
        cv2.line(picture, (middle, 40), (middle, 66), (20, 20, 20), 6)
    elif kind == "lights":
        alpha[2:-2, 30:66] = 255
        picture[:] = (26, 27, 28)
        lit = int(rng.integers(0, 3))
        for lamp, colour in enumerate(((236, 40, 34), (236, 160, 30), (40, 226, 120))):
            cv2.circle(picture, (middle, 18 + 30 * lamp), 11, [c * (1.0 if lamp == lit else 0.22) for c in colour], -1)
    else:
        alpha[8:-8, 2:-2] = 255
        picture[:] = rng.choice([(28, 84, 60), (26, 66, 150), (226, 224, 216), (150, 40, 36)])
        ink = 30 if picture.mean() > 150 else 228
        for row in range(3):
            for x in range(10, int(rng.integers(50, 84)), 9):
                cv2.rectangle(picture, (x, 20 + 20 * row), (x + 5, 29 + 20 * row), (ink, ink, ink), -1)
        cv2.rectangle(picture, (4, 10), (size - 5, size - 11), (ink, ink, ink), 1)
    return _finish(picture, alpha)
