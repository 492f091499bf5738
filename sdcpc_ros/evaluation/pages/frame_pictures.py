"""Pictures of a report: the worst and the best frames, selected in one pass, and the flicker map."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from sdcpc_ros.evaluation.metrics import iou_of_counts
from sdcpc_ros.evaluation.pages.rendering import display_name, percent
from sdcpc_ros.evaluation.pages.timeline import seconds_after_start
from sdcpc_ros.evaluation.pictures import overlay, shrink
from sdcpc_ros.evaluation.report_file import counts, label_set_of
from sdcpc_ros.labels.label_set import IGNORE, LabelSet

_JPEG_QUALITY = 80
_MAP_WIDTH = 760
_BACKDROP_WIDTH = 640
_WRONG = (214, 40, 112)  # not a colour of the usual label sets
_MAX_FLICKER = 0.25  # changes a frame that get the strongest colour
_HEAT = np.array([(252, 211, 77), (249, 115, 22), (214, 40, 112)], np.float32)  # RGB, from little flicker to much


@dataclass(frozen=True)
class Extreme:
    """A selected frame, shrunk for display."""

    number: int
    value: float  #: of the measure
    image: np.ndarray  #: (h, w, 3) uint8 RGB
    labels: np.ndarray  #: (h, w) uint8
    truth: np.ndarray | None


class ExtremeFrames:
    """Keeps the `count` frames with the lowest, or highest, values that are at least `apart` frames from each other.

    Neighbouring frames look alike, so of close frames the more extreme one is kept. The selection is greedy: the first
    frame of the list is exact, later ones may not be.
    """

    def __init__(self, *, lowest: bool, count: int = 4, apart: int = 15, max_width: int = 480) -> None:
        self.count, self.apart, self.max_width = count, apart, max_width
        self._sign = 1 if lowest else -1
        self.frames: list[Extreme] = []  #: most extreme first

    def offer(self, value: float, number: int, image: np.ndarray, labels: np.ndarray, truth: np.ndarray | None) -> None:
        """Considers the next frame: image (H, W, 3) uint8 RGB, labels and truth (H, W) uint8."""
        rivals = [extreme for extreme in self.frames if abs(extreme.number - number) < self.apart]
        to_beat = rivals or (self.frames[-1:] if len(self.frames) == self.count else [])
        if any(self._sign * (value - each.value) >= 0 for each in to_beat):
            return
        small_truth = None if truth is None else shrink(truth, self.max_width)
        new = Extreme(number, value, shrink(image, self.max_width), shrink(labels, self.max_width), small_truth)
        others = [extreme for extreme in self.frames if abs(extreme.number - number) >= self.apart]
        self.frames = sorted([*others, new], key=lambda each: (self._sign * each.value, each.number))[: self.count]


class ReportPictures:
    """The images of an evaluation for its page."""

    def __init__(self, apart: int = 15) -> None:
        self.worst, self.best = ExtremeFrames(lowest=True, apart=apart), ExtremeFrames(lowest=False, apart=apart)
        self.backdrop: np.ndarray | None = None  #: (h, w, 3) uint8 RGB, the first image: to lay the map over
        #: (H, W) float32, label changes per frame by pixel in 0..1, nan where never judged; (0, 0) if there is none
        self.flicker = np.zeros((0, 0), np.float32)

    def add(
        self, value: float | None, number: int, image: np.ndarray, labels: np.ndarray, truth: np.ndarray | None
    ) -> None:
        """The next frame, and its value: the mIoU, or the confidence without a truth; None: not to be chosen."""
        if value is not None:
            for extremes in (self.worst, self.best):
                extremes.offer(value, number, image, labels, truth)
        if self.backdrop is None:
            self.backdrop = shrink(image, _BACKDROP_WIDTH)


def frame_values(report: dict[str, Any], extremes: ExtremeFrames) -> list[dict[str, Any]]:
    """The frames for templates/report.html.jinja: pictures with descriptions, value, and classes of lowest IoU."""
    label_set, judged = label_set_of(report), report["scores"]["miou"] is not None
    found = []
    for extreme in extremes.frames:
        index = report["frames"]["number"].index(extreme.number)
        found.append(
            {
                "number": extreme.number,
                "time": seconds_after_start(report, index),
                "value": extreme.value,
                "lowest": _lowest(report, index, label_set) if judged else "",
                "views": _views(extreme, label_set),
            }
        )
    return found


def flicker_values(pictures: ReportPictures) -> dict[str, Any] | None:
    """The flicker map for the page, its mean, and the share of pixels that change in over a tenth of the frames."""
    rate = pictures.flicker
    known = rate[~np.isnan(rate)]
    if not known.size or pictures.backdrop is None:
        return None
    drawn = flicker_map(rate, pictures.backdrop, _MAP_WIDTH)
    return {"mean": float(known.mean()), "often": float(np.mean(known > 0.1)), "picture": _jpeg(drawn)}


def difference(image: np.ndarray, labels: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Wrong labels in colour over the dimmed image; pixels without truth are darkest.

    `image` (H, W, 3) uint8 RGB, `labels` and `truth` (H, W) uint8; returns (H, W, 3) uint8.
    """
    drawn = _dimmed(image)
    drawn[truth == IGNORE] //= 3
    wrong = (labels != truth) & (truth != IGNORE)
    drawn[wrong] = (0.25 * drawn[wrong] + 0.75 * np.array(_WRONG)).astype(np.uint8)
    return drawn


def flicker_map(rate: np.ndarray, backdrop: np.ndarray, max_width: int) -> np.ndarray:
    """Label changes over a dimmed picture, (h, w, 3) uint8 RGB, no wider than `max_width`.

    `rate` (H, W) float32 in 0..1, changes per frame, nan where never judged; `backdrop` (h, w, 3) uint8 RGB.
    """
    scale = min(1.0, max_width / rate.shape[1])
    size = max(1, round(rate.shape[1] * scale)), max(1, round(rate.shape[0] * scale))
    # Each patch shows its largest value, since averaging would hide thin lines.
    block = max(1, round(1 / scale))
    peaks = cv2.dilate(np.nan_to_num(rate), np.ones((block, block), np.uint8))
    strength = np.clip(cv2.resize(peaks, size, interpolation=cv2.INTER_AREA) / _MAX_FLICKER, 0, 1)
    drawn = _dimmed(cv2.resize(backdrop, size, interpolation=cv2.INTER_AREA))
    stops = np.linspace(0, 1, len(_HEAT))
    colour = np.stack([np.interp(strength, stops, channel) for channel in _HEAT.T], axis=-1)
    opacity = np.minimum(1, strength * 4)[..., None] * 0.85
    return (drawn * (1 - opacity) + colour * opacity + 0.5).astype(np.uint8)


def _views(extreme: Extreme, label_set: LabelSet) -> list[dict[str, Any]]:
    """The camera image, the labels and, with a truth, the truth and the difference."""
    image, labels, truth = extreme.image, extreme.labels, extreme.truth
    views = [("camera", "Camera image", "", image)]
    if truth is not None:
        views.append(("truth", "Ground truth", _largest(truth, label_set), overlay(image, truth, label_set)))
    views.append(("labels", "Labels", _largest(labels, label_set), overlay(image, labels, label_set)))
    if truth is not None:
        judged = truth != IGNORE
        wrong = percent(float(((labels != truth) & judged).sum()) / max(1, int(judged.sum())))
        drawn = difference(image, labels, truth)
        views.append((f"difference: {wrong} wrong", "Difference", f": {wrong} of the pixels wrong", drawn))
    return [
        {"name": name, "alt": f"{what} of frame {extreme.number}{described}", "picture": _jpeg(drawn)}
        for name, what, described, drawn in views
    ]


def _jpeg(picture: np.ndarray) -> dict[str, Any]:
    """A picture (H, W, 3) uint8 RGB as a JPEG in a data URI, with its size."""
    options = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY, cv2.IMWRITE_JPEG_OPTIMIZE, 1]
    jpeg = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)[1]
    uri = "data:image/jpeg;base64," + base64.b64encode(jpeg.tobytes()).decode("ascii")
    return {"uri": uri, "width": picture.shape[1], "height": picture.shape[0]}


def _lowest(report: dict[str, Any], index: int, label_set: LabelSet) -> str:
    """The classes with the lowest IoU in a frame."""
    iou = iou_of_counts(*(counts(report, name)[index] for name in ("intersection", "truth", "predicted")))
    lowest = [each for each in np.argsort(iou)[:3].tolist() if iou[each] < 0.9]
    return ", ".join(f"{display_name(label_set.class_names[each])} {percent(iou[each], 0)}" for each in lowest)


def _largest(labels: np.ndarray, label_set: LabelSet) -> str:
    """The five largest classes of a label image, in words."""
    pixels = np.bincount(labels.ravel(), minlength=256)[: len(label_set)]
    shares = [
        f"{display_name(label_set.class_names[each])} {percent(float(pixels[each] / labels.size), 0)}"
        for each in np.argsort(-pixels, kind="stable")[:5].tolist()
        if pixels[each]
    ]
    return f": {', '.join(shares) or 'nothing'}"


def _dimmed(image: np.ndarray) -> np.ndarray:
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return cv2.cvtColor((grey * 0.45 + 20).astype(np.uint8), cv2.COLOR_GRAY2RGB)
