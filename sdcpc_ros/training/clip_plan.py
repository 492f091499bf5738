"""Plans of training clips: frames, their views and their ages. A plan is a function of (seed, index).

References of a clip come from one of four sources, chosen by the shares of the recipe's phase:

- filmed: true neighbours of the labelled frame, earlier or later, one to a few frames of the data set apart;
- street: earlier frames of a drive through a town of the synthetic street, at a random rate;
- cut: views of another frame, with ages as of a running camera, since a stream does not announce a cut;
- synthetic: the labelled frame itself, moved as by a camera that drives (or turns) at a random frame rate.

Clips have many rates, because at one rate the temporal path learns that references always match.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from sdcpc_ros.datasets.video_dataset import VideoDataset
from sdcpc_ros.training.recipe import STREET_RATE_HZ, Phase, Recipe

#: Share of the clips whose stream has only just begun.
_YOUNG_SHARE = 0.25
#: Motion of a driving camera, per second: share of the size for drift, scale for zoom; and light.
_ZOOM_PER_S, _DRIFT_PER_S, _LIGHT_PER_S = (-0.03, 0.26), 0.045, 0.15
#: A turning camera: sideways motion per frame as a share of the width.
_TURN = (0.03, 0.2)
_DAMAGES = 4
#: Places in the common noise at which that of a frame may begin.
NOISE_STARTS = 2**20


class ClipPlan(NamedTuple):
    """K references, oldest first, and V views of the labelled frame: F = K + V frames in all.

    The plans of a batch are stacked into one, with a batch axis in front.
    """

    frames: np.ndarray  #: (F,) int64, indices of the frames in the store
    matrices: np.ndarray  #: (F, 2, 3) float32, from the crop to the frame, in normalised coordinates
    age_s: np.ndarray  #: (K,) float32, seconds; negative for a reference that the stream does not have
    cut: np.ndarray  #: () bool, whether the references show something else
    motion: np.ndarray  #: (2, 3) float32, from the first view to the second, in normalised coordinates of the crop
    paste: np.ndarray  #: () int64, the frame whose rare objects are pasted into the labelled one, or -1
    colour: np.ndarray  #: (F, 7) float32: gamma, contrast, brightness, saturation and cast (3)
    grain: np.ndarray  #: (F,) float32, standard deviation of the noise in grey levels
    noise: np.ndarray  #: (F,) int64, where a frame's noise begins in the common one, 0..NOISE_STARTS - 1
    blur: np.ndarray  #: (F,) float32, sigma in px, 0 for none
    jpeg: np.ndarray  #: (F,) float32, quality, 0 for none
    shadow: np.ndarray  #: (4,) float32: a line and the strength, of the whole clip
    haze: np.ndarray  #: (2,) float32: density and brightness, of the whole clip
    boxes: np.ndarray  #: (R, 4) float32, rectangles of damage to the newest frame, in -1..1
    kinds: np.ndarray  #: (R,) int64, see `augmentation.damage`


class ClipPlanner:
    """Draws plans. Frames are numbered as in the store: the data set's first, then the towns'."""

    def __init__(
        self,
        recipe: Recipe,
        dataset: VideoDataset,
        towns: Mapping[str, Sequence[range]],
        frame_size: tuple[int, int],
        rare_pixels: Sequence[np.ndarray],
    ) -> None:
        """towns: for each `Phase.trains`, the frames of each town that it drives through. frame_size: (height, width),
        px. rare_pixels: for each rare class an (M, 3) array of frame, x, y in -1..1."""
        self.recipe, self.towns, self.frame_size = recipe, towns, frame_size
        self.rare_pixels = [pixels for pixels in rare_pixels if len(pixels)]
        self.labelled, self._frames, self._run_of = dataset.labelled, dataset.frames, dataset.run_of

    def plan(self, index: int) -> ClipPlan:
        """The plan of clip `index` of a run: step index // clips_per_step."""
        recipe, rng = self.recipe, np.random.default_rng((self.recipe.seed, index))
        phase = recipe.phase_at(index // recipe.clips_per_step)
        count, views = phase.references, recipe.views
        place, focus = self._labelled_frame(rng)
        last, paste, cut, moves = self.labelled[place], -1, False, np.tile(np.eye(2, 3), (count, 1, 1))
        frames: list[int] = [last] * count
        age_s: np.ndarray = np.zeros(count)
        kind = _kind(phase, rng)
        if kind == "street":
            towns = self.towns[phase.trains]
            town = towns[int(rng.integers(len(towns)))]
            last, frames, age_s = self._street(town, count, rng)
            focus = None
        elif kind == "filmed":
            frames, age_s = self._filmed(place, count, rng)
        else:
            interval_s = 1 / math.exp(rng.uniform(*np.log(recipe.rate_range_hz)))
            age_s = interval_s * np.arange(count, 0, -1)
            cut = kind == "cut" and count > 0 and len(self.labelled) > 1
            if cut:  # any labelled frame but this one
                other = (place + int(rng.integers(1, len(self.labelled)))) % len(self.labelled)
                frames = [self.labelled[other]] * count
            moves = _camera_moves(age_s, rng.random() < phase.turn_share, rng)
        if kind not in ("street", "cut") and rng.random() < phase.paste_share and self.rare_pixels:
            paste = int(self._rare_pixel(rng)[0])
        young = rng.random() < _YOUNG_SHARE and count > 0
        age_s = np.where(np.arange(count) < (int(rng.integers(1, count + 1)) if young else 0), -1.0, age_s)
        crop = self._crop(focus, rng)
        motion = _second_view(rng)
        last_moves = [crop] if views == 1 else [crop, _compose(crop, motion)]
        matrices = np.stack([*(_compose(move, crop) for move in moves), *last_moves])
        return ClipPlan(
            frames=np.array([*frames, *[last] * views]),
            matrices=matrices.astype(np.float32),
            age_s=age_s.astype(np.float32),
            cut=np.asarray(cut),
            motion=motion.astype(np.float32),
            paste=np.asarray(paste),
            noise=rng.integers(NOISE_STARTS, size=count + views),
            **_appearance(count + views, age_s, rng),
            **_damage(rng.random() < phase.disturbed_share, rng),
        )

    def _labelled_frame(self, rng: np.random.Generator) -> tuple[int, np.ndarray | None]:
        """The place of a labelled frame, and the point that its crop must contain; any, or one of a rare class."""
        if self.rare_pixels and rng.random() < self.recipe.rare_share:
            frame, x, y = self._rare_pixel(rng)
            return bisect_left(self.labelled, int(frame)), np.array([x, y])
        return int(rng.integers(len(self.labelled))), None

    def _rare_pixel(self, rng: np.random.Generator) -> np.ndarray:
        """Frame, x and y of a pixel of any rare class."""
        pixels = self.rare_pixels[int(rng.integers(len(self.rare_pixels)))]
        return pixels[int(rng.integers(len(pixels)))]

    def _filmed(self, place: int, count: int, rng: np.random.Generator) -> tuple[list[int], np.ndarray]:
        last = self.labelled[place]
        run = self._run_of(last)
        stride = int(rng.integers(1, self.recipe.max_stride + 1)) * (1 if rng.random() < 0.5 else -1)
        frames, ages = [], []
        for k in range(count, 0, -1):
            frame = last - k * stride
            present = frame in run
            frames.append(frame if present else last)
            ages.append(abs(self._frames[last].stamp_s - self._frames[frame].stamp_s) if present else -1.0)
        return frames, np.array(ages)

    def _street(self, town: range, count: int, rng: np.random.Generator) -> tuple[int, list[int], np.ndarray]:
        longest = (len(town) - 1) // max(count, 1)
        stride = min(longest, round(math.exp(rng.uniform(0, math.log(max(longest, 1) + 0.5)))))
        last = int(rng.integers(count * stride, len(town)))
        frames = [town[last - k * stride] for k in range(count, 0, -1)]
        return town[last], frames, stride * np.arange(count, 0, -1) / STREET_RATE_HZ

    def _crop(self, focus: np.ndarray | None, rng: np.random.Generator) -> np.ndarray:
        """From the crop's normalised coordinates to the frame's: scale, place and flip; (2, 3)."""
        (height, width), (crop_height, crop_width) = self.frame_size, self.recipe.crop_size
        scale = float(np.exp(rng.uniform(*np.log(self.recipe.scale_range))))
        share = np.array([crop_width / (width * scale), crop_height / (height * scale)])  # of the frame's size
        room = np.maximum(0, 1 - share)
        if focus is None:
            centre = rng.uniform(-1, 1, 2) * room
        else:
            centre = np.clip(focus + rng.uniform(-0.6, 0.6, 2) * share, -room, room)
        flip = -1.0 if rng.random() < 0.5 else 1.0
        return np.array([[share[0] * flip, 0, centre[0]], [0, share[1], centre[1]]])


def _kind(phase: Phase, rng: np.random.Generator) -> str:
    draw = rng.random()
    for kind, share in (("street", phase.street_share), ("filmed", phase.filmed_share), ("cut", phase.cut_share)):
        if draw < share:
            return kind
        draw -= share
    return "synthetic"


def _compose(outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """The affine map that applies `inner` first, (2, 3)."""
    return np.concatenate([outer[:, :2] @ inner[:, :2], (outer[:, :2] @ inner[:, 2] + outer[:, 2])[:, None]], 1)


def _camera_moves(age_s: np.ndarray, turns: bool, rng: np.random.Generator) -> np.ndarray:
    """(K, 2, 3): where an earlier frame's positions lie in the labelled frame, for a camera that drives or turns."""
    speed = math.exp(rng.uniform(math.log(0.5), math.log(2)))
    zoom = rng.uniform(*_ZOOM_PER_S) * speed
    drift = rng.normal(0, _DRIFT_PER_S, 2) * 2 * speed
    centre = rng.uniform(-0.2, 0.2, 2)
    interval_s = age_s[-1] if len(age_s) else 0.0
    if turns:
        drift[0] = 2 * rng.uniform(*_TURN) / max(interval_s, 1e-3) * rng.choice([-1, 1])
    moves = []
    for age in age_s:
        factor = (1 + zoom) ** age
        shift = centre * (1 - factor) - drift * age + rng.normal(0, 0.002, 2)
        moves.append([[factor, 0, shift[0]], [0, factor, shift[1]]])
    return np.array(moves).reshape(len(age_s), 2, 3)


def _second_view(rng: np.random.Generator) -> np.ndarray:
    """A map close to the identity, as between two consecutive images."""
    angle, zoom, shift = math.radians(rng.uniform(-1, 1)), 1 + rng.uniform(-0.03, 0.03), rng.uniform(-0.08, 0.08, 2)
    cos, sin = zoom * math.cos(angle), zoom * math.sin(angle)
    return np.array([[cos, -sin, shift[0]], [sin, cos, shift[1]]])


def _appearance(count: int, age_s: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Colour, grain, blur and JPEG of each frame, the clip's shadow and haze, by their fields of `ClipPlan`.

    The scene's colour is the clip's; exposure, grain and coding are each frame's own. Were frames copies of each other,
    their errors would be too, and averaging would gain nothing.
    """
    saturation = rng.uniform(0.5, 1.4)
    scene = [np.exp(rng.normal(0, 0.2)), rng.uniform(0.75, 1.3), rng.normal(0, 0.05), saturation]
    colour = np.tile([*scene, *np.exp(rng.normal(0, 0.07, 3))], (count, 1))
    ages = np.zeros(count)
    ages[: len(age_s)] = np.maximum(age_s, 0)
    colour[:, 4:] *= (rng.uniform(0.96, 1.04, count) + rng.normal(0, _LIGHT_PER_S) * np.minimum(ages, 1))[:, None]
    blur = np.full(count, rng.uniform(0.3, 1.3) if rng.random() < 0.25 else 0.0)
    grain = rng.uniform(0, 7, count)
    quality = np.where(rng.random(count) < 0.35, rng.uniform(35, 95, count), 0.0)
    angle, strength = rng.uniform(0, 2 * math.pi), rng.uniform(0.2, 0.6) if rng.random() < 0.25 else 0.0
    shadow = np.array([math.cos(angle), math.sin(angle), rng.uniform(-0.7, 0.7), strength])
    haze = np.array([rng.uniform(0.1, 0.5) if rng.random() < 0.12 else 0.0, rng.uniform(140, 230)])
    look = {"colour": colour, "grain": grain, "blur": blur, "jpeg": quality, "shadow": shadow, "haze": haze}
    return {name: values.astype(np.float32) for name, values in look.items()}


def _damage(damaged: bool, rng: np.random.Generator) -> dict[str, np.ndarray]:
    boxes = np.zeros((_DAMAGES, 4), np.float32)
    if damaged:
        for index in range(int(rng.integers(1, _DAMAGES + 1))):
            size, corner = rng.uniform(0.2, 0.8, 2), rng.uniform(-1, 1, 2)
            boxes[index] = [*corner, *(corner + size)]
    return {"boxes": boxes, "kinds": rng.integers(4, size=_DAMAGES)}
