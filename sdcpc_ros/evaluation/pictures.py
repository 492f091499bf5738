"""Draws overlays, legends and contact sheets with OpenCV. All images are RGB."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from sdcpc_ros.labels.label_set import IGNORE, LabelSet
from sdcpc_ros.streaming.overlay import OverlayPainter

_PAPER = (250, 250, 248)
_MARGIN = 28  # px around a contact sheet
_INK = (38, 42, 48)
_FAINT_INK = (120, 126, 134)
_FONT = cv2.FONT_HERSHEY_DUPLEX
_FONT_HEIGHT_PX = 22.0  # of OpenCV's strokes at scale 1
_CAPTION_PX = 10
_SUPERSAMPLING = 4  # OpenCV draws small text badly, so it is drawn larger and shrunk


def overlay(image: np.ndarray, labels: np.ndarray, label_set: LabelSet, opacity: float = 0.6) -> np.ndarray:
    """Class colours over an image, with a thin line where classes meet; pixels without a label (255) stay as they are.

    `image` (H, W, 3) uint8 RGB, `labels` (H, W) uint8; returns (H, W, 3) uint8.
    """
    painted = OverlayPainter(label_set).paint(image, labels, opacity)
    border = np.zeros(labels.shape, bool)
    border[:, 1:] = labels[:, 1:] != labels[:, :-1]
    border[1:] |= labels[1:] != labels[:-1]
    border &= labels != IGNORE
    painted[border] = painted[border] // 2 + 110
    return painted


def shrink(picture: np.ndarray, max_width: int) -> np.ndarray:
    """An image (H, W, 3), or labels (H, W), no wider than `max_width` and with even sides, as video wants them.

    It is never enlarged; labels keep their ids.
    """
    scale = min(1.0, max_width / picture.shape[1])
    height, width = (max(2, int(side * scale) // 2 * 2) for side in picture.shape[:2])
    return cv2.resize(
        picture, (width, height), interpolation=cv2.INTER_NEAREST if picture.ndim == 2 else cv2.INTER_AREA
    )


def fit_into(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """An image (H, W, 3) as large as fits into `size` (height, width), in the middle of black."""
    height, width = size
    if picture.shape[:2] == size:
        return picture
    scale = min(height / picture.shape[0], width / picture.shape[1])
    rows, columns = (max(1, min(side, round(scale * own))) for side, own in zip(size, picture.shape[:2]))
    fitted = cv2.resize(picture, (columns, rows), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    top, left = (height - rows) // 2, (width - columns) // 2
    return cv2.copyMakeBorder(fitted, top, height - rows - top, left, width - columns - left, cv2.BORDER_CONSTANT)


def text_width(text: str, height_px: float) -> int:
    """The width of `draw_text`, px."""
    (width, _), _ = cv2.getTextSize(text, _FONT, height_px / _FONT_HEIGHT_PX * _SUPERSAMPLING, _SUPERSAMPLING)
    return -(-width // _SUPERSAMPLING)


def draw_text(
    canvas: np.ndarray, text: str, left: int, baseline: int, height_px: float, colour: tuple[int, int, int] = _INK
) -> None:
    """Draws a line of ASCII onto a canvas in place, with capitals of `height_px`; the rest is cut off."""
    scale = height_px / _FONT_HEIGHT_PX * _SUPERSAMPLING
    (width, ascent), descent = cv2.getTextSize(text, _FONT, scale, _SUPERSAMPLING)
    pad = _SUPERSAMPLING * 2
    columns, rows = (-(-(size + 2 * pad) // _SUPERSAMPLING) for size in (width, ascent + descent))
    strokes = np.zeros((rows * _SUPERSAMPLING, columns * _SUPERSAMPLING), np.uint8)
    cv2.putText(strokes, text, (pad, pad + ascent), _FONT, scale, 255, _SUPERSAMPLING, cv2.LINE_AA)
    coverage = cv2.resize(strokes, (columns, rows), interpolation=cv2.INTER_AREA)

    top, left = baseline - (pad + ascent) // _SUPERSAMPLING, left - pad // _SUPERSAMPLING
    y0, x0 = max(0, top), max(0, left)
    y1, x1 = min(canvas.shape[0], top + rows), min(canvas.shape[1], left + columns)
    if y1 <= y0 or x1 <= x0:
        return
    alpha = coverage[y0 - top : y1 - top, x0 - left : x1 - left, None].astype(np.float32) / 255
    region = canvas[y0:y1, x0:x1]
    region[:] = (region * (1 - alpha) + np.array(colour, np.float32) * alpha + 0.5).astype(np.uint8)


def legend(label_set: LabelSet, width: int, text_height_px: float = 11) -> np.ndarray:
    """The classes with their colours, in as many rows as needed: (h, width, 3) uint8."""
    swatch, gap, line = round(text_height_px * 1.5), round(text_height_px * 0.7), round(text_height_px * 2.4)
    names = [name.replace("_", " ") for name in label_set.class_names]
    cell = swatch + 3 * gap + max(text_width(name, text_height_px) for name in names)
    columns = max(1, min(len(names), (width - gap) // cell))
    columns = -(-len(names) // -(-len(names) // columns))  # rows of even length
    cell = (width - gap) // columns
    rows = -(-len(names) // columns)
    canvas = _paper(rows * line + gap, width)
    for index, (name, colour) in enumerate(zip(names, label_set.colours)):
        left, top = gap + index % columns * cell, gap // 2 + index // columns * line
        box = (left, top + (line - swatch) // 2)
        cv2.rectangle(canvas, box, (box[0] + swatch - 1, box[1] + swatch - 1), colour, cv2.FILLED)
        draw_text(canvas, name, left + swatch + gap, top + round((line + text_height_px) / 2), text_height_px)
    return canvas


def contact_sheet(title: str, subtitle: str, rows: Sequence[np.ndarray], label_set: LabelSet) -> np.ndarray:
    """Rows of `side_by_side`, of one width, below a title and above a legend: (H, W, 3) uint8 RGB.

    Raises ValueError if there is no row.
    """
    if not rows:
        raise ValueError("a contact sheet needs at least one row")
    width = rows[0].shape[1]
    head = _paper(90, width)
    draw_text(head, title, 0, 44, 19)
    draw_text(head, subtitle, 0, 70, 11, _FAINT_INK)
    page = np.concatenate([head, *rows, legend(label_set, width, 13)])
    return cv2.copyMakeBorder(page, 0, _MARGIN, _MARGIN, _MARGIN, cv2.BORDER_CONSTANT, value=_PAPER)


def side_by_side(panels: Mapping[str, np.ndarray]) -> np.ndarray:
    """Pictures (H, W, 3) uint8 RGB of one size beside each other, each with its caption (the key) in it."""
    captioned = [picture.copy() for picture in panels.values()]
    for panel, caption in zip(captioned, panels):
        left, baseline, pad = 8, panel.shape[0] - 10, 5
        patch = panel[max(0, baseline - _CAPTION_PX - pad) : baseline + pad + 1, left - pad :]
        patch = patch[:, : text_width(caption, _CAPTION_PX) + 2 * pad]
        patch[:] = patch // 3  # white text is readable over any picture then
        draw_text(panel, caption, left, baseline, _CAPTION_PX, (255, 255, 255))
    return np.concatenate(captioned, axis=1)


def _paper(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), _PAPER, np.uint8)
