"""From the world to pixels: which surface is seen where, and where it goes in the next frame.

With A = K R [u v (origin - camera)] of a surface (3 x 3), A (a, b, 1) is z (x, y, 1): pixel and depth of the point
at a along u and b along v. So the rows of A^-1 applied to a pixel give a/z, b/z and 1/z: texture coordinates, the
inside test and the depth test all at once. And A' A^-1, with A' of the next frame, is the homography that carries the
surface's pixels there, whatever the camera and the object do: that is the optical flow.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from sdcpc_ros.datasets.street.textures import MAX_LEVEL
from sdcpc_ros.datasets.street.world import EgoMotion, SurfaceTable

FOCAL = 0.9  # of the image's width
HORIZON = 0.45  # of the image's height
NEAR_M = 0.15
FAR_M = 190.0
SMALLEST = 1 / 130  # radians; smaller surfaces are not drawn
SKY = 0  # the surface that lies behind all others


@dataclass(frozen=True)
class Placed:
    """Surfaces as the camera sees them at one moment."""

    table: SurfaceTable
    to_image: np.ndarray  # (N, 3, 3), the A above
    to_surface: np.ndarray  # (N, 3, 3), its inverse; zero where not in sight
    boxes: np.ndarray  # (N, 4) int: x0, y0, x1, y1, half open
    levels: np.ndarray  # (N, 2) int: how far textures shrink across and down
    in_sight: np.ndarray  # indices, nearest first, of the surfaces that may be seen
    nearness: np.ndarray  # (N,) 1/m: 1/z of the nearest point in front of the camera

    def colour(self, index: int) -> np.ndarray:
        """A surface's texture as seen in its box, (h, w, 3) uint8; it goes on beyond the surface's edges."""
        colour, _ = self.table.textures[index].level(*self.levels[index])
        return self._warp(colour, index, cv2.BORDER_REPLICATE)

    def alpha(self, index: int) -> np.ndarray | None:
        """A surface's alpha as seen in its box, (h, w) uint8, zero beyond the surface's edges; None without holes."""
        _, alpha = self.table.textures[index].level(*self.levels[index])
        return None if alpha is None else self._warp(alpha, index, cv2.BORDER_CONSTANT)

    def _warp(self, texels: np.ndarray, index: int, border: int) -> np.ndarray:
        x0, y0, x1, y1 = self.boxes[index].tolist()
        to_texels = self.to_surface[index].copy()  # from a pixel in the box to a texel
        to_texels[:2] = to_texels[:2] * [[texels.shape[1]], [texels.shape[0]]] - 0.5 * to_texels[2]
        to_texels[:, 2] += to_texels[:, 0] * x0 + to_texels[:, 1] * y0
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return cv2.warpPerspective(texels, to_texels, (x1 - x0, y1 - y0), flags=flags, borderMode=border)


@dataclass(frozen=True)
class View:
    """The visible surface and its depth at each pixel at one moment."""

    placed: Placed
    surface: np.ndarray  # (H, W) int32, index
    inverse_depth: np.ndarray  # (H, W) float32, 1/m


class PinholeCamera:
    """A pinhole camera without distortion, with images of `size` (height, width), carried by `ego`.

    `matrix` is its K (3, 3), px; pixel centres lie at integers.
    """

    def __init__(self, size: tuple[int, int], ego: EgoMotion) -> None:
        height, width = size
        self.size, self.ego = size, ego
        focal = FOCAL * width
        self.matrix = np.array([[focal, 0, (width - 1) / 2], [0, focal, HORIZON * height - 0.5], [0, 0, 1]])
        self._columns = np.arange(width, dtype=np.float32)
        self._rows = np.arange(height, dtype=np.float32)[:, None]

    def place(self, table: SurfaceTable, time_s: float) -> Placed:
        """Project surfaces; those behind the camera, turned away, too far or outside the image are not in sight."""
        bases = table.bases(time_s)
        bases[~table.at_infinity, :, 2] -= self.ego.position(time_s)
        bases = self.ego.rotation(time_s) @ bases  # now in the camera's axes
        to_image = self.matrix @ bases
        u, v, origin = bases[..., 0], bases[..., 1], bases[..., 2]
        facing = np.linalg.det(bases)
        facing = np.where(table.two_sided, np.abs(facing), facing)
        lengths = np.linalg.norm(u, axis=1), np.linalg.norm(v, axis=1)
        usable = facing > 1e-4 * lengths[0] * lengths[1]

        points, shown = _clip_near(np.stack([origin, origin + u, origin + u + v, origin + v], axis=1))
        nearest = np.where(shown, points[..., 2], np.inf).min(axis=1)
        reach = np.minimum(np.maximum(*lengths) / SMALLEST, FAR_M)
        usable &= (nearest < reach) | (table.at_infinity & shown.any(axis=1))
        boxes, centres = self._bounds(points, shown)
        in_sight = np.flatnonzero(usable & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]))
        in_sight = in_sight[np.argsort(nearest[in_sight], kind="stable")]
        to_surface, levels = np.zeros_like(to_image), np.zeros((len(table), 2), np.int64)
        to_surface[in_sight] = inverse = np.linalg.inv(to_image[in_sight])
        levels[in_sight] = _ripmap_levels(inverse, centres[in_sight], table.texture_sizes[in_sight])
        return Placed(table, to_image, to_surface, boxes, levels, in_sight, 1 / np.maximum(nearest, NEAR_M))

    def _bounds(self, points: np.ndarray, shown: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Boxes of pixels (N, 4) around the shown points (N, P, 3), and the middles (N, 3) of what is in the image."""
        height, width = self.size
        depth, inside = np.maximum(points[..., 2:], NEAR_M / 2), shown[..., None]
        pixels = self.matrix[0, 0] * points[..., :2] / depth + self.matrix[:2, 2]
        pixels = np.clip(pixels, -0.5, [width - 0.5, height - 0.5])
        low, high = np.where(inside, pixels, np.inf).min(axis=1), np.where(inside, pixels, -np.inf).max(axis=1)
        boxes = np.clip(np.hstack([np.ceil(low), np.floor(high) + 1]), 0, [width, height, width, height])
        centres = (pixels * inside).sum(axis=1) / np.maximum(inside.sum(axis=1), 1)
        return boxes.astype(np.int64), np.hstack([centres, np.ones((len(centres), 1))])

    def rasterise(self, table: SurfaceTable, time_s: float) -> View:
        """Find the nearest surface at every pixel."""
        placed = self.place(table, time_s)
        surface = np.full(self.size, SKY, np.int32)
        inverse_depth = np.full(self.size, 1e-6, np.float32)
        planes = placed.to_surface.astype(np.float32)
        for index in placed.in_sight.tolist():
            if index == SKY:
                continue
            x0, y0, x1, y1 = placed.boxes[index]
            seen_depth = inverse_depth[y0:y1, x0:x1]
            if seen_depth.min() >= placed.nearness[index]:
                continue  # hidden by nearer surfaces, which are drawn first
            x, y = self._columns[x0:x1], self._rows[y0:y1]
            a, b, w = (row[0] * x + (row[1] * y + row[2]) for row in planes[index])  # a/z, b/z, 1/z
            nearer = w > seen_depth
            for coordinate in (a, b):
                nearer &= coordinate >= 0
                nearer &= coordinate < w
            if not nearer.any():
                continue
            alpha = placed.alpha(index)
            if alpha is not None:
                nearer &= alpha > 127
            np.copyto(seen_depth, w, where=nearer)
            surface[y0:y1, x0:x1][nearer] = index
        return View(placed, surface, inverse_depth)

    def flow(self, view: View, following: View) -> tuple[np.ndarray, np.ndarray]:
        """Optical flow (H, W, 2) to the next frame, and (H, W) whether the same point is visible there."""
        table, (height, width) = view.placed.table, self.size
        present = np.flatnonzero(np.bincount(view.surface.ravel(), minlength=len(table)))
        homographies = np.zeros((9, len(table)), np.float32)
        carried = following.placed.to_image[present] @ view.placed.to_surface[present]
        homographies[:, present] = carried.reshape(-1, 9).T
        h = [row[view.surface] for row in homographies]
        x, y = self._columns, self._rows
        stretch = h[6] * x + h[7] * y + h[8]  # next depth over this depth
        ahead = stretch > 1e-3
        stretch = np.where(ahead, stretch, 1)
        target_x = (h[0] * x + h[1] * y + h[2]) / stretch
        target_y = (h[3] * x + h[4] * y + h[5]) / stretch
        inside = ahead & (target_x > -0.5) & (target_x < width - 0.5) & (target_y > -0.5) & (target_y < height - 0.5)
        column = np.where(inside, np.rint(target_x), 0).astype(np.intp)
        row = np.where(inside, np.rint(target_y), 0).astype(np.intp)
        target = row * width + column
        same_object = table.things[following.surface.ravel()[target]] == table.things[view.surface]
        expected, found = view.inverse_depth / stretch, following.inverse_depth.ravel()[target]
        same_depth = np.abs(found - expected) <= 0.05 * expected + 2e-3  # else it is another side of the object
        flow = np.stack([target_x - x, target_y - y], axis=-1)
        flow[~ahead] = 0
        return flow, inside & same_object & same_depth


def _clip_near(corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corners (N, 4, 3) and where their edges cut the near plane (N, 8, 3), and which of these points are shown."""
    following = np.roll(corners, -1, axis=1)
    z, z_next = corners[..., 2], following[..., 2]
    crosses = (z > NEAR_M) != (z_next > NEAR_M)
    share = np.where(crosses, (NEAR_M - z) / np.where(crosses, z_next - z, 1), 0)
    cuts = corners + share[..., None] * (following - corners)
    return np.concatenate([corners, cuts], axis=1), np.concatenate([z > NEAR_M, crosses], axis=1)


def _ripmap_levels(to_surface: np.ndarray, pixel: np.ndarray, texture_sizes: np.ndarray) -> np.ndarray:
    """How many times to halve each texture (N, 2: across, down) so that a texel is about a pixel at `pixel` (N, 3)."""
    here = np.einsum("nij,nj->ni", to_surface, pixel)  # a/z, b/z, 1/z
    w = np.maximum(here[:, 2], 1e-9)[:, None, None]
    slope = (to_surface[:, :2, :2] - here[:, :2, None] / w * to_surface[:, 2:, :2]) / w  # d(a, b) / d(x, y)
    texels = np.linalg.norm(slope, axis=2) * texture_sizes[:, ::-1]  # a pixel
    return np.clip(np.floor(np.log2(np.maximum(texels, 1e-6)) + 0.25), 0, MAX_LEVEL).astype(np.int64)
