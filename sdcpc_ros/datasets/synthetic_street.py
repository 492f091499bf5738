"""A synthetic street: ego-motion video with exact labels and exact optical flow, drawn from a seed.

The world is in `sdcpc_ros.datasets.street`, to be read in this order: `textures` (images drawn from random numbers),
`weather` (light, sky and air), `world` (textured parallelograms that move), the objects made of them (`roadside`,
`buildings`, `cars`, `people`), `scene` (their placement by the seed), `projection` (from the world to
pixels).
"""

from __future__ import annotations

import operator

import cv2
import numpy as np

from sdcpc_ros.datasets.street.projection import SKY, PinholeCamera, View
from sdcpc_ros.datasets.street.scene import Scene
from sdcpc_ros.datasets.video_dataset import VideoDataset, VideoFrame
from sdcpc_ros.labels.label_set import CAMVID_11

MIN_SIZE = 32
LONGEST_VIEW_M = 300.0  # haze grows no thicker than at this distance


class SyntheticStreet(VideoDataset):
    """A drive down a street that the seed makes up: one video, every frame labelled, with exact flow.

    Frame i depends on (seed, size, length, rate_hz) and i alone: random access gives the bytes of sequential access.
    Frames are drawn on request. OpenCV 5 interpolates and writes differently from 4: it gives other values at about 6 %
    of the pixels and other labels at fewer than 0.1 %, along edges.
    Not for use from several threads at once. Raises ValueError for a negative seed, a size under 32 x 32, a length
    under 1 or a rate that is not positive.
    """

    def __init__(
        self, *, seed: int, size: tuple[int, int] = (360, 480), length: int = 90, rate_hz: float = 15.0
    ) -> None:
        """size: (height, width), px; length: frames."""
        self.seed, self.length, self._rate_hz = operator.index(seed), operator.index(length), float(rate_hz)
        height, width = (operator.index(value) for value in size)
        self.size = (height, width)
        if self.seed < 0:
            raise ValueError(f"seed is {seed}; zero or a positive integer is needed")
        if height < MIN_SIZE or width < MIN_SIZE:
            raise ValueError(f"size is {height} x {width} (height x width); at least {MIN_SIZE} x {MIN_SIZE} is needed")
        if self.length < 1:
            raise ValueError(f"length is {length} frames; at least 1 is needed")
        if not (np.isfinite(self._rate_hz) and self._rate_hz > 0):
            raise ValueError(f"rate_hz is {rate_hz}; a positive number of frames a second is needed")
        video = f"street {seed}"
        frames = [VideoFrame(video, i / self._rate_hz, f"{video}, frame {i}", True) for i in range(self.length)]
        super().__init__(f"synthetic street, seed {seed}", CAMVID_11, frames)
        self.scene = Scene(self.seed, duration_s=self.length / self._rate_hz)
        self.camera = PinholeCamera(self.size, self.scene.ego)
        x, y = np.linspace(-1, 1, width, dtype=np.float32), np.linspace(-1, 1, height, dtype=np.float32)[:, None]
        self._vignette = 1 - np.float32(0.07) * (x * x + y * y)
        self._views: dict[int, View] = {}

    def image(self, index: int) -> np.ndarray:
        """The image of a frame, (H, W, 3) uint8 RGB. Raises IndexError for other frames, as do `labels` and `flow`."""
        return self._picture(self.view(index), index)

    def labels(self, index: int) -> np.ndarray:
        """The labels of a frame, (H, W) uint8 ids of CAMVID_11."""
        return self.scene.surfaces.labels[self.view(index).surface]

    def flow(self, index: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Flow to the next frame, (H, W, 2) float32: the point at (x, y) is at (x + dx, y + dy) there; and (H, W) bool:
        it is inside the next frame and not hidden there. None for the last frame."""
        view = self.view(index)
        return self.camera.flow(view, self.view(index + 1)) if index + 1 < self.length else None

    def view(self, i: int) -> View:
        """What the camera sees in frame i: the surface and its depth at each pixel."""
        if not 0 <= i < self.length:
            raise IndexError(f"frame {i} of a street of {self.length} frames")
        if i not in self._views:
            if len(self._views) > 1:  # the flow of a frame needs the next one
                self._views.pop(next(iter(self._views)))
            self._views[i] = self.camera.rasterise(self.scene.surfaces, i / self._rate_hz)
        return self._views[i]

    def _picture(self, view: View, i: int) -> np.ndarray:
        """The image (H, W, 3) uint8: textures under the light of the moment, through air and lens."""
        table, weather = self.scene.surfaces, self.scene.town.weather
        time_s = i / self._rate_hz
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
