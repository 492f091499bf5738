"""A synthetic street: ego-motion video with exact labels and exact optical flow, drawn from a seed.

The world is in `sdcpc_ros.datasets.street`, to be read in this order: `textures` (images drawn from random numbers),
`weather` (light, sky and air), `world` (textured parallelograms that move), the objects made of them (`ground`,
`buildings`, `roadside`, `cars`, `people`), `scene` (their placement by the seed), `projection` (from the world to
pixels).
"""

from __future__ import annotations

import operator
from collections.abc import Sequence

import cv2
import numpy as np

from sdcpc_ros.datasets.street.projection import SKY, PinholeCamera, View
from sdcpc_ros.datasets.street.scene import Scene
from sdcpc_ros.datasets.video_dataset import VideoDataset, VideoFrame
from sdcpc_ros.labels.label_set import CAMVID_11

MIN_SIZE = 32
LONGEST_VIEW_M = 300.0  # haze grows no thicker than at this distance


class SyntheticStreet:
    """A drive down a street that the seed makes up, frames 0 to length - 1.

    Frame i depends on (seed, size, length, rate_hz) and i alone: random access gives the bytes of sequential access.
    OpenCV 5 interpolates and writes differently from 4: it gives other values at about 6 % of the pixels and other
    labels at fewer than 0.1 %, along edges.
    Not for use from several threads at once. Raises ValueError for a negative seed, a size under 32 x 32, a length
    under 1 or a rate that is not positive.
    """

    def __init__(
        self, *, seed: int, size: tuple[int, int] = (360, 480), length: int = 90, rate_hz: float = 15.0
    ) -> None:
        self.seed, self.length, self.rate_hz = operator.index(seed), operator.index(length), float(rate_hz)
        height, width = (operator.index(value) for value in size)
        self.size = (height, width)
        if self.seed < 0:
            raise ValueError(f"seed is {seed}; zero or a positive integer is needed")
        if height < MIN_SIZE or width < MIN_SIZE:
            raise ValueError(f"size is {height} x {width} (height x width); at least {MIN_SIZE} x {MIN_SIZE} is needed")
        if self.length < 1:
            raise ValueError(f"length is {length} frames; at least 1 is needed")
        if not (np.isfinite(self.rate_hz) and self.rate_hz > 0):
            raise ValueError(f"rate_hz is {rate_hz}; a positive number of frames a second is needed")
        self.scene = Scene(self.seed, duration_s=self.length / self.rate_hz)
        self.camera = PinholeCamera(self.size, self.scene.ego)
        x, y = np.linspace(-1, 1, width, dtype=np.float32), np.linspace(-1, 1, height, dtype=np.float32)[:, None]
        self._vignette = 1 - np.float32(0.07) * (x * x + y * y)
        self._views: dict[int, View] = {}

    def __len__(self) -> int:
        return self.length

    @property
    def camera_matrix(self) -> np.ndarray:
        """K (3, 3) of the pinhole camera without distortion, px; pixel centres lie at integers."""
        return self.camera.matrix.copy()

    def image_and_labels(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """As `image` and `labels`."""
        return self.image(i), self.labels(i)

    def image(self, i: int) -> np.ndarray:
        """The image of frame i, (H, W, 3) uint8 RGB. Raises IndexError for other frames, as do `labels` and `flow`."""
        return self._picture(self.view(i), i)

    def labels(self, i: int) -> np.ndarray:
        """The labels of frame i, (H, W) uint8 ids of CAMVID_11."""
        return self.scene.surfaces.labels[self.view(i).surface]

    def flow(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """Flow to the next frame, (H, W, 2) float32: the point at (x, y) is at (x + dx, y + dy) there; and (H, W) bool:
        it is inside the next frame and not hidden there."""
        return self.camera.flow(self.view(i), self._view_at(i + 1))

    def view(self, i: int) -> View:
        """What the camera sees in frame i: the surface and its depth at each pixel."""
        if not 0 <= i < self.length:
            raise IndexError(f"frame {i} of a street of {self.length} frames")
        return self._view_at(i)

    def _view_at(self, i: int) -> View:
        """The last two views are cached, since the flow of a frame needs the next one, even after the last frame."""
        if i not in self._views:
            if len(self._views) > 1:
                self._views.pop(next(iter(self._views)))
            self._views[i] = self.camera.rasterise(self.scene.surfaces, i / self.rate_hz)
        return self._views[i]

    def _picture(self, view: View, i: int) -> np.ndarray:
        """The image (H, W, 3) uint8: textures under the light of the moment, through air and lens."""
        table, weather = self.scene.surfaces, self.scene.town.weather
        time_s = i / self.rate_hz
        exposure = weather.exposure(time_s, self.scene.ego.position(time_s)[2]).astype(np.float32)
        distance = 1 / np.maximum(view.inverse_depth, 1 / LONGEST_VIEW_M)
        clear = np.exp(distance * np.float32(-1 / weather.visibility_m))
        clear[view.surface == SKY] = 1
        veil = (1 - clear) * self._vignette
        clear *= self._vignette
        clear *= 1 - self._shadows(view, time_s)
        colours = cv2.split(self._colours(view))
        # One channel at a time: NumPy is several times faster on whole planes than on pixels of three.
        planes = [
            table.tints[:, c][view.surface] * colours[c] * (exposure[c] * clear)
            + veil * (exposure[c] * np.float32(haze))
            for c, haze in enumerate(weather.haze)
        ]
        lit = cv2.merge(planes)
        surface, cross = view.surface.astype(np.float32), cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
        edges = cv2.dilate(surface, cross) != cv2.erode(surface, cross)
        cv2.copyTo(cv2.GaussianBlur(lit, (3, 3), 0.75), edges.view(np.uint8), lit)  # a lens cuts no pixel in two
        lit = cv2.GaussianBlur(lit, (3, 3), weather.blur)
        y, x = np.random.default_rng([self.seed, 2, i]).integers(0, weather.grain.shape[:2])
        grain = weather.grain.take(range(y, y + self.size[0]), axis=0, mode="wrap")  # another part for each frame
        lit += grain.take(range(x, x + self.size[1]), axis=1, mode="wrap")
        return np.clip(lit, 0, 255, out=lit).astype(np.uint8)

    def _colours(self, view: View) -> np.ndarray:
        """Textures as seen, unlit: (H, W, 3) uint8."""
        table, placed = self.scene.surfaces, view.placed
        colours = np.empty((*self.size, 3), np.uint8)
        colours[:] = table.textures[SKY].colour[0, 0]  # above the sky's picture, in very tall images
        for index in np.flatnonzero(np.bincount(view.surface.ravel(), minlength=len(table))).tolist():
            x0, y0, x1, y1 = placed.boxes[index]
            seen = (view.surface[y0:y1, x0:x1] == index).view(np.uint8)
            cv2.copyTo(placed.colour(index), seen, colours[y0:y1, x0:x1])
        return colours

    def _shadows(self, view: View, time_s: float) -> np.ndarray:
        """The share of its light that each pixel of the ground loses, (H, W) float32."""
        placed = self.camera.place(self.scene.shadows, time_s)
        darkness = np.zeros(self.size, np.uint8)
        for index in placed.in_sight.tolist():
            x0, y0, x1, y1 = placed.boxes[index]
            area, alpha = darkness[y0:y1, x0:x1], placed.alpha(index)
            np.maximum(area, 0 if alpha is None else alpha, out=area)
        darkness *= self.scene.surfaces.ground[view.surface]
        return darkness * np.float32(1 / 255)


class StreetDataset(VideoDataset):
    """Streets as a data set: one video a seed, every frame labelled, with exact flow.

    Frames are drawn on request; changing from one street to another costs a second.
    Raises ValueError for what SyntheticStreet refuses, a seed that comes twice, or none.
    """

    def __init__(
        self, seeds: Sequence[int], *, length: int, size: tuple[int, int] = (360, 480), rate_hz: float = 15.0
    ) -> None:
        """length: frames of each street; size: (height, width), px."""
        self.seeds = list(seeds)
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds are {self.seeds}; one or more are needed, each once")
        self._street = SyntheticStreet(seed=self.seeds[0], length=length, size=size, rate_hz=rate_hz)
        frames = [
            VideoFrame(f"street {seed}", i / rate_hz, f"street {seed}, frame {i}", True)
            for seed in self.seeds
            for i in range(length)
        ]
        listed = f"seed {self.seeds[0]}" if len(self.seeds) == 1 else f"seeds {', '.join(map(str, self.seeds))}"
        super().__init__(f"synthetic street, {listed}", CAMVID_11, frames)

    def image(self, index: int) -> np.ndarray:
        street, i = self._street_at(index)
        return street.image(i)

    def labels(self, index: int) -> np.ndarray:
        street, i = self._street_at(index)
        return street.labels(i)

    def sources(self, index: int) -> tuple[str, str]:
        return self.frames[index].name, f"the labels of {self.frames[index].name}"

    def flow(self, index: int) -> tuple[np.ndarray, np.ndarray] | None:
        if index == self.run_of(index)[-1]:
            return None
        street, i = self._street_at(index)
        return street.flow(i)

    def _street_at(self, index: int) -> tuple[SyntheticStreet, int]:
        """The street of a frame, and the frame's number in it."""
        place, i = divmod(range(len(self))[index], self._street.length)
        if self._street.seed != self.seeds[place]:
            last = self._street
            self._street = SyntheticStreet(
                seed=self.seeds[place], length=last.length, size=last.size, rate_hz=last.rate_hz
            )
        return self._street, i
