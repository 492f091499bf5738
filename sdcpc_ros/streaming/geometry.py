"""Image size and network size: the size that the network sees, and resizing between the two."""

from __future__ import annotations

import math

import cv2
import numpy as np

#: Network sides are multiples of this, so that stride-8 features divide evenly.
MULTIPLE = 8
#: Smallest side of an image, px: `network.sdcpc.MIN_SIDE`, here without the import of PyTorch.
MIN_SIDE = 32
#: Largest side of the network's input, px.
MAX_SIDE = 8192


def network_size(image_size: tuple[int, int], model_size: tuple[int, int]) -> tuple[int, int]:
    """The (height, width) at which a model trained at `model_size` sees an image of `image_size`.

    The image keeps its aspect ratio and gets the model's number of pixels, so that objects have about the scale of
    training; sides are rounded to MULTIPLE.
    """
    height, width = image_size
    scale = math.sqrt(model_size[0] * model_size[1] / (height * width))
    return _rounded(height * scale), _rounded(width * scale)


def to_network(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) uint8 -> (h, w, 3) uint8; the image itself when it already has that size."""
    if image.shape[:2] == size:
        return image
    # Averages of 2 x 2 first: two to three times as fast as averaging areas of fractional sizes (a 4K image to 800 x
    # 448: 14 ms, not 31), and equal but for rounding and the borders between areas.
    while _is_at_least(image, 4, size) and image.shape[0] % 2 == image.shape[1] % 2 == 0:
        image = cv2.resize(image, (image.shape[1] // 2, image.shape[0] // 2), interpolation=cv2.INTER_AREA)
    # Bilinear sampling skips pixels below half size and aliases.
    averaged = _is_at_least(image, 2, size)
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA if averaged else cv2.INTER_LINEAR)


def confidence_from_probability(probability: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(h, w) float32 in 0..1 -> (H, W) uint8, 255 = certain, resized bilinearly."""
    return cv2.resize(np.rint(probability * 255).astype(np.uint8), size[::-1], interpolation=cv2.INTER_LINEAR)


def scaled_camera_matrix(matrix: np.ndarray, image_size: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """K (3, 3) or P (3, 4) of an image of `image_size`, for the same image resized to `size`, both (height, width).

    Pixel centres lie at integers, so the principal point moves by half a pixel before and after scaling.
    """
    scale_y, scale_x = size[0] / image_size[0], size[1] / image_size[1]
    scaled = np.asarray(matrix, dtype=np.float64).copy()
    # A row is (f, 0, c, ...): scaling maps u to s * (u + 0.5) - 0.5.
    scaled[0] = scaled[0] * scale_x + (0.5 * scale_x - 0.5) * scaled[2]
    scaled[1] = scaled[1] * scale_y + (0.5 * scale_y - 0.5) * scaled[2]
    return scaled


def _is_at_least(image: np.ndarray, times: int, size: tuple[int, int]) -> bool:
    return image.shape[0] >= times * size[0] and image.shape[1] >= times * size[1]


def _rounded(side: float) -> int:
    return max(MIN_SIDE, MULTIPLE * round(side / MULTIPLE))
