"""Images for a page, as data URIs."""

from __future__ import annotations

import base64

import cv2
import numpy as np
from markupsafe import Markup

from sdcpc_ros.labels.label_set import IGNORE

_QUALITY = 80
_WRONG = (214, 40, 112)  # neither a colour of the usual label sets nor of a street
_MOST_FLICKER = 0.25  # changes a frame that get the strongest colour
#: From calm to flickering, RGB, over a dimmed picture.
_HEAT = np.array([(252, 211, 77), (249, 115, 22), (214, 40, 112)], np.float32)


def data_uri(picture: np.ndarray, quality: int = _QUALITY) -> Markup:
    """An (H, W, 3) uint8 RGB image as the data URI of a JPEG."""
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_OPTIMIZE, 1]
    encoded, jpeg = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)
    if not encoded:
        raise ValueError(f"a picture of shape {picture.shape} could not be encoded as JPEG")
    return Markup("data:image/jpeg;base64," + base64.b64encode(jpeg.tobytes()).decode("ascii"))


def difference(image: np.ndarray, labels: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Wrong labels in colour over the dimmed image; pixels without truth are darkest.

    `image` (H, W, 3) uint8 RGB, `labels` and `truth` (H, W) uint8; returns (H, W, 3) uint8.
    """
    drawn = _dimmed(image)
    drawn[truth == IGNORE] //= 3
    wrong = (labels != truth) & (truth != IGNORE)
    drawn[wrong] = (0.25 * drawn[wrong] + 0.75 * np.array(_WRONG)).astype(np.uint8)
    return drawn


def flicker_map(rate: np.ndarray, backdrop: np.ndarray | None, max_width: int) -> np.ndarray:
    """Label changes over a dimmed picture, (h, w, 3) uint8 RGB, no wider than `max_width`.

    `rate` (H, W) float32 in 0..1, changes per frame, nan where never judged; `backdrop` (h, w, 3) uint8 RGB.
    """
    scale = min(1.0, max_width / rate.shape[1])
    size = max(1, round(rate.shape[1] * scale)), max(1, round(rate.shape[0] * scale))
    # Each patch shows its largest value, since averaging would hide thin lines.
    block = max(1, round(1 / scale))
    peaks = cv2.dilate(np.nan_to_num(rate), np.ones((block, block), np.uint8))
    strength = np.clip(cv2.resize(peaks, size, interpolation=cv2.INTER_AREA) / _MOST_FLICKER, 0, 1)[..., None]
    if backdrop is None:
        drawn = np.full((size[1], size[0], 3), 60, np.uint8)
    else:
        drawn = _dimmed(cv2.resize(backdrop, size, interpolation=cv2.INTER_AREA))
    place = strength[..., 0] * (len(_HEAT) - 1)
    lower = np.minimum(place.astype(int), len(_HEAT) - 2)
    part = (place - lower)[..., None]
    colour = (1 - part) * _HEAT[lower] + part * _HEAT[lower + 1]
    opacity = np.minimum(1, strength * 4) * 0.85
    return (drawn * (1 - opacity) + colour * opacity + 0.5).astype(np.uint8)


def _dimmed(image: np.ndarray) -> np.ndarray:
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return cv2.cvtColor((grey * 0.45 + 20).astype(np.uint8), cv2.COLOR_GRAY2RGB)
