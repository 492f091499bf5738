"""A synthetic street: ego-motion video with exact labels and exact optical flow, drawn from a seed.

Everything seen is a textured parallelogram. With A = K R [u v (origin - camera)] of a surface (3 x 3), A (a, b, 1) is
z (x, y, 1): the pixel and depth of the point at a along u and b along v. So the rows of A^-1 applied to a pixel give a/z, b/z
and 1/z: texture coordinates, the inside test and the z-buffer all at once; and A' A^-1, with A' of the next frame, is
the homography that carries the surface's pixels there, whatever camera and object do: that is the optical flow.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import cv2
import numpy as np

from sdcpc_ros.datasets.street_scene import Scene
from sdcpc_ros.datasets.street_textures import MAX_LEVEL
from sdcpc_ros.datasets.street_world import SurfaceTable

FOCAL = 0.9  # of the image's width
HORIZON = 0.45  # of the image's height
NEAR_M = 0.15
FAR_M = 190.0
MIN_SIZE = 32
SKY = 0  # index of the surface that lies behind all others


@dataclass(frozen=True)
class StreetFrame:
    """One frame: what the camera saw and what is true of it."""

    image: np.ndarray  # (H, W, 3) uint8 RGB
    labels: np.ndarray  # (H, W) uint8, CamVid-11 ids
    flow: np.ndarray  # (H, W, 2) float32: the point seen at (x, y) is at (x + dx, y + dy) in the next frame
    flow_valid: np.ndarray  # (H, W) bool: that point is inside the next frame and not hidden there


@dataclass(frozen=True)
class _Placed:
    """Surfaces as one camera sees them."""

    to_image: np.ndarray  # (N, 3, 3), the A above
    to_surface: np.ndarray  # (N, 3, 3), its inverse
    boxes: np.ndarray  # (N, 4) int: x0, y0, x1, y1, half open
    levels: np.ndarray  # (N, 2) int: how far textures shrink across and down
    visible: np.ndarray  # indices of the surfaces that may be seen


@dataclass(frozen=True)
class _View:
    """What is seen at each pixel at one moment."""

    placed: _Placed
    surface: np.ndarray  # (H, W) int32
    inverse_depth: np.ndarray  # (H, W) float32, 1/m


class SyntheticStreet:
    """A drive down a street that the seed makes up, as a sequence of `StreetFrame`s.

    Frame i depends on (seed, size, length, rate_hz) and i alone: random access gives the bytes of sequential access.
    Raises ValueError for a negative seed, a size under 32 x 32, a length under 1 or a rate that is not positive.
    """

    def __init__(
        self, *, seed: int, size: tuple[int, int] = (360, 480), length: int = 90, rate_hz: float = 15.0
    ) -> None:
        if seed < 0:
            raise ValueError(f"seed is {seed}; zero or a positive integer is needed")
        height, width = (int(value) for value in size)
        if height < MIN_SIZE or width < MIN_SIZE:
            raise ValueError(f"size is {height} x {width} (height x width); at least {MIN_SIZE} x {MIN_SIZE} is needed")
        if length < 1:
            raise ValueError(f"length is {length} frames; at least 1 is needed")
        if not (np.isfinite(rate_hz) and rate_hz > 0):
            raise ValueError(f"rate_hz is {rate_hz}; a positive number of frames a second is needed")
        self.seed, self.size, self.length, self.rate_hz = int(seed), (height, width), int(length), float(rate_hz)
        self._scene = Scene(self.seed, duration_s=self.length / self.rate_hz)
        focal = FOCAL * width
        self._camera = np.array(
            [[focal, 0, (width - 1) / 2], [0, focal, HORIZON * height - 0.5], [0, 0, 1]], np.float64
        )
        self._views: OrderedDict[int, _View] = OrderedDict()

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, i: int) -> StreetFrame:
        image, labels = self.image_and_labels(i)
        i = range(self.length)[i]
        flow, flow_valid = self._flow(self._view(i), self._view(i + 1))
        return StreetFrame(image, labels, flow, flow_valid)

    def image_and_labels(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """The image and labels of frame i without its flow, in about half the time. Raises IndexError past the end."""
        if not -self.length <= i < self.length:
            raise IndexError(f"frame {i} of a street of {self.length} frames")
        i = range(self.length)[i]
        view = self._view(i)
        return self._shade(view, i), self._scene.surfaces.labels[view.surface]

    # --- geometry ---------------------------------------------------------------------------------------------

    def _place(self, table: SurfaceTable, time_s: float) -> _Placed:
        """Project surfaces; those behind the camera, facing away, too far or outside the image are not visible."""
        bases = table.bases(time_s)
        position = self._scene.ego.position(time_s)
        bases[~table.infinite, :, 2] -= position
        in_camera = self._scene.ego.rotation(time_s) @ bases  # (N, 3, 3)
        to_image = self._camera @ in_camera
        facing = np.linalg.det(in_camera)  # positive when its front is turned to the camera
        scale = np.linalg.norm(in_camera[:, :, 0], axis=1) * np.linalg.norm(in_camera[:, :, 1], axis=1)
        usable = np.where(table.two_sided, np.abs(facing), facing) > 1e-4 * scale

        u, v, origin = in_camera[..., 0], in_camera[..., 1], in_camera[..., 2]
        corners = np.stack([origin, origin + u, origin + u + v, origin + v], axis=1)  # (N, 4, 3)
        following = np.roll(corners, -1, axis=1)
        z, z_next = corners[..., 2], following[..., 2]
        crosses = (z > NEAR_M) != (z_next > NEAR_M)
        share = np.where(crosses, (NEAR_M - z) / np.where(crosses, z_next - z, 1), 0)
        cuts = corners + share[..., None] * (following - corners)
        points = np.concatenate([corners, cuts], axis=1)  # (N, 8, 3)
        shown = np.concatenate([z > NEAR_M, crosses], axis=1)
        nearest = np.where(shown, points[..., 2], np.inf).min(axis=1)
        usable &= shown.any(axis=1) & ((nearest < FAR_M) | table.infinite)

        height, width = self.size
        depth = np.maximum(points[..., 2], NEAR_M * 0.5)
        x = self._camera[0, 0] * points[..., 0] / depth + self._camera[0, 2]
        y = self._camera[1, 1] * points[..., 1] / depth + self._camera[1, 2]
        x, y = np.clip(x, -0.5, width - 0.5), np.clip(y, -0.5, height - 0.5)
        low = [np.where(shown, value, np.inf).min(axis=1) for value in (x, y)]
        high = [np.where(shown, value, -np.inf).max(axis=1) for value in (x, y)]
        with np.errstate(invalid="ignore"):
            boxes = np.stack([np.ceil(low[0]), np.ceil(low[1]), np.floor(high[0]) + 1, np.floor(high[1]) + 1], axis=1)
        boxes = np.where(usable[:, None], np.clip(boxes, 0, [width, height, width, height]), 0).astype(np.int64)
        visible = np.flatnonzero((boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]))

        to_surface = np.zeros_like(to_image)
        to_surface[visible] = np.linalg.inv(to_image[visible])
        levels = np.zeros((len(table), 2), np.int64)
        weight = shown.astype(np.float64) / np.maximum(shown.sum(axis=1), 1)[:, None]
        centre = np.stack([(x * weight).sum(axis=1), (y * weight).sum(axis=1), np.ones(len(table))], axis=1)
        levels[visible] = _ripmap_levels(to_surface[visible], centre[visible], table.texture_sizes[visible])
        return _Placed(to_image, to_surface, boxes, levels, visible)

    def _view(self, i: int) -> _View:
        """Which surface is seen at each pixel of frame i; the last few are kept, as flow needs a frame and its next."""
        view = self._views.get(i)
        if view is None:
            view = self._rasterise(i / self.rate_hz)
            self._views[i] = view
            while len(self._views) > 2:
                self._views.popitem(last=False)
        return view

    def _rasterise(self, time_s: float) -> _View:
        table = self._scene.surfaces
        placed = self._place(table, time_s)
        surface = np.full(self.size, SKY, np.int32)
        inverse_depth = np.full(self.size, 1e-6, np.float32)
        columns, rows = np.arange(self.size[1], dtype=np.float32), np.arange(self.size[0], dtype=np.float32)[:, None]
        for index in placed.visible:
            if index == SKY:
                continue
            x0, y0, x1, y1 = placed.boxes[index]
            plane = placed.to_surface[index].astype(np.float32)
            x, y = columns[x0:x1], rows[y0:y1]
            a, b, w = (row[0] * x + (row[1] * y + row[2]) for row in plane)  # a/z, b/z, 1/z
            area = (slice(y0, y1), slice(x0, x1))
            nearer = w > inverse_depth[area]
            for coordinate in (a, b):
                nearer &= coordinate >= 0
                nearer &= coordinate < w
            texture = table.textures[index]
            if texture.alpha is not None:
                _, alpha = texture.level(*placed.levels[index])
                nearer &= _warp(alpha, placed.to_surface[index], (x0, y0, x1, y1)) > 127
            np.copyto(inverse_depth[area], w, where=nearer)
            surface[area][nearer] = index
        return _View(placed, surface, inverse_depth)

    def _flow(self, view: _View, following: _View) -> tuple[np.ndarray, np.ndarray]:
        """Displacement of every pixel's own surface point to the next frame, and whether it is seen there."""
        height, width = self.size
        groups = self._scene.surfaces.groups
        present = np.flatnonzero(np.bincount(view.surface.ravel(), minlength=len(groups)))
        homographies = np.zeros((len(groups), 9), np.float32)
        carried = following.placed.to_image[present] @ view.placed.to_surface[present]
        homographies[present] = carried.reshape(-1, 9)
        h = np.ascontiguousarray(homographies.T)[:, view.surface]  # (9, H, W)
        x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
        stretch = h[6] * x + h[7] * y + h[8]  # next depth over this depth
        ahead = stretch > 1e-3
        safe = np.where(ahead, stretch, 1)
        target_x = (h[0] * x + h[1] * y + h[2]) / safe
        target_y = (h[3] * x + h[4] * y + h[5]) / safe
        flow = np.stack([target_x - x, target_y - y], axis=-1)
        inside = ahead & (target_x > -0.5) & (target_x < width - 0.5) & (target_y > -0.5) & (target_y < height - 0.5)
        column = np.where(inside, np.rint(target_x), 0).astype(np.intp)
        row = np.where(inside, np.rint(target_y), 0).astype(np.intp)
        at_target = row * width + column
        expected = view.inverse_depth / safe
        seen = following.inverse_depth.ravel()[at_target]
        same = groups[following.surface.ravel()[at_target]] == groups[view.surface]
        close = np.abs(seen - expected) <= 0.05 * expected + 2e-3  # the rest is the same object's other side
        flow[~ahead] = 0
        return flow, inside & same & close

    # --- light ------------------------------------------------------------------------------------------------

    def _shade(self, view: _View, i: int) -> np.ndarray:
        table, light = self._scene.surfaces, self._scene.light
        time_s = i / self.rate_hz
        colour = np.empty((*self.size, 3), np.uint8)
        for index in np.flatnonzero(np.bincount(view.surface.ravel(), minlength=len(table))):
            box = view.placed.boxes[index]
            if index == SKY:
                box = np.array([0, 0, self.size[1], self.size[0]])
            x0, y0, x1, y1 = box
            texels, _ = table.textures[index].level(*view.placed.levels[index])
            painted = _warp(texels, view.placed.to_surface[index], box)
            mask = (view.surface[y0:y1, x0:x1] == index).view(np.uint8)
            cv2.copyTo(painted, mask, colour[y0:y1, x0:x1])

        lit = table.tints[view.surface]  # (H, W, 3) float32
        lit *= (1 - light.shadow * self._shadows(view, time_s))[..., None]
        lit *= colour
        distance = 1 / np.maximum(view.inverse_depth, 1 / 300)
        clear = np.exp(distance * np.float32(-1 / light.visibility_m))
        clear[view.surface == SKY] = 1
        haze = np.asarray(light.haze, np.float32)
        lit -= haze
        lit *= clear[..., None]
        lit += haze
        lit *= light.exposure(time_s, self._scene.ego.position(time_s)[2])
        lit *= self._vignette()[..., None]
        soft = cv2.GaussianBlur(lit, (3, 3), 0.75)
        edges = _edges(view.surface)
        cv2.copyTo(soft, edges, lit)  # stands in for the lens: no pixel of a camera is cut by one edge
        lit = cv2.GaussianBlur(lit, (3, 3), light.blur)
        lit += self._sensor_noise(i)
        return np.clip(lit, 0, 255, out=lit).astype(np.uint8)

    def _shadows(self, view: _View, time_s: float) -> np.ndarray:
        """How much of the sun each ground pixel loses, (H, W) float32 in 0..1."""
        table = self._scene.shadows
        darkness = np.zeros(self.size, np.uint8)
        placed = self._place(table, time_s)
        for index in placed.visible:
            x0, y0, x1, y1 = placed.boxes[index]
            _, alpha = table.textures[index].level(*placed.levels[index])
            area = darkness[y0:y1, x0:x1]
            shade = _warp(alpha, placed.to_surface[index], placed.boxes[index], outside=0)
            cv2.max(area, shade, dst=area)
        darkness *= self._scene.is_ground[view.surface]
        return darkness.astype(np.float32) / 255

    def _vignette(self) -> np.ndarray:
        height, width = self.size
        x = np.linspace(-1, 1, width, dtype=np.float32)
        y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
        return 1 - np.float32(0.07) * (x * x + y * y)

    def _sensor_noise(self, i: int) -> np.ndarray:
        """Grain, (H, W, 1) or (H, W, 3) float32: windows of a fixed sheet of noise, another one for each frame."""
        height, width = self.size
        rng = np.random.default_rng([self.seed, 7, i])
        sheet = self._scene.light.grain
        top, left = rng.integers(0, sheet.shape[0], 2)
        rows, columns = np.arange(top, top + height) % sheet.shape[0], np.arange(left, left + width) % sheet.shape[1]
        return sheet[rows][:, columns]


def _warp(
    texels: np.ndarray, to_surface: np.ndarray, box: np.ndarray | tuple[int, int, int, int], outside: int | None = None
) -> np.ndarray:
    """A texture as seen in a box of the image; `outside` fills what lies beyond its edges, else the edge is extended."""
    x0, y0, x1, y1 = (int(value) for value in box)
    height, width = texels.shape[:2]
    to_texels = np.array([[width, 0, -0.5], [0, height, -0.5], [0, 0, 1]]) @ to_surface
    to_texels[:, 2] += to_texels[:, 0] * x0 + to_texels[:, 1] * y0
    return cv2.warpPerspective(
        texels,
        to_texels,
        (x1 - x0, y1 - y0),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE if outside is None else cv2.BORDER_CONSTANT,
        borderValue=outside or 0,
    )


def _ripmap_levels(to_surface: np.ndarray, pixel: np.ndarray, texture_sizes: np.ndarray) -> np.ndarray:
    """How many times to halve each texture (N, 2: across, down) so that a texel is about a pixel at `pixel` (N, 3)."""
    here = np.einsum("nij,nj->ni", to_surface, pixel)  # a/z, b/z, 1/z
    w = np.maximum(here[:, 2], 1e-9)[:, None, None]
    coordinate = here[:, :2, None] / w
    slope = (to_surface[:, :2, :2] - coordinate * to_surface[:, 2:, :2]) / w  # d(a, b) / d(x, y)
    texels = np.linalg.norm(slope, axis=2) * texture_sizes[:, ::-1]  # texels a pixel
    return np.clip(np.floor(np.log2(np.maximum(texels, 1e-6)) + 0.25), 0, MAX_LEVEL).astype(np.int64)


def _edges(surface: np.ndarray) -> np.ndarray:
    """Pixels beside another surface, (H, W) uint8 0 or 1."""
    edges = np.zeros(surface.shape, np.uint8)
    across = (surface[:, 1:] != surface[:, :-1]).view(np.uint8)
    down = (surface[1:] != surface[:-1]).view(np.uint8)
    edges[:, 1:] |= across
    edges[:, :-1] |= across
    edges[1:] |= down
    edges[:-1] |= down
    return edges
