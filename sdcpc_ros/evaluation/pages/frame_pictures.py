"""Pictures of a report: the worst and the best frames, selected in one pass, and the flicker map."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from sdcpc_ros.evaluation.pages.rendering import Section, css_colour, display_name, percent
from sdcpc_ros.evaluation.pages.timeline import time_of
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


def extreme_sections(report: dict[str, Any], pictures: ReportPictures) -> list[Section]:
    """The worst and the best frames with their values; a section without images is left out."""
    judged, label_set = report["scores"]["miou"] is not None, label_set_of(report)
    measure = "by the mean IoU of the frame alone" if judged else "by the confidence in their labels"
    meaning = f"Chosen {measure}, at least a second or so apart."
    if judged:
        meaning += " The difference shows wrong pixels in colour; what has no truth is darkest."
    legend = list(zip(map(display_name, label_set.class_names), map(css_colour, label_set.colours)))
    return [
        Section(title, meaning, [("frames", [_frame(report, each, judged) for each in chosen]), ("legend", legend)])
        for title, chosen in (("Worst frames", pictures.worst.frames), ("Best frames", pictures.best.frames))
        if chosen
    ]


def flicker_section(report: dict[str, Any], pictures: ReportPictures) -> Section | None:
    rate = pictures.flicker
    if not rate.size or np.isnan(rate).all():
        return None
    judged = report["scores"]["miou"] is not None
    mean, often = float(np.nanmean(rate)), float(np.mean(rate[~np.isnan(rate)] > 0.1))
    meaning = (
        f"How often the label of a pixel changes from one frame to the next"
        f"{' while its truth does not' if judged else ''}: in {percent(mean)} of the frames on average. "
        f"{percent(often)} of the picture changes its label more often than every tenth frame."
    )
    if not judged:
        meaning += " Without a truth, what moves in the picture counts as well."
    drawn = flicker_map(rate, pictures.backdrop, _MAP_WIDTH)
    picture = _picture("", f"Flicker map over the first image. {meaning}", drawn)
    return Section("Where labels flicker", meaning, [("flicker_map", picture)])


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
    strength = np.clip(cv2.resize(peaks, size, interpolation=cv2.INTER_AREA) / _MAX_FLICKER, 0, 1)
    if backdrop is None:
        drawn = np.full((size[1], size[0], 3), 60, np.uint8)
    else:
        drawn = _dimmed(cv2.resize(backdrop, size, interpolation=cv2.INTER_AREA))
    stops = np.linspace(0, 1, len(_HEAT))
    colour = np.stack([np.interp(strength, stops, channel) for channel in _HEAT.T], axis=-1)
    opacity = np.minimum(1, strength * 4)[..., None] * 0.85
    return (drawn * (1 - opacity) + colour * opacity + 0.5).astype(np.uint8)


def _frame(report: dict[str, Any], extreme: Extreme, judged: bool) -> dict[str, Any]:
    label_set = label_set_of(report)
    image, labels, truth = extreme.image, extreme.labels, extreme.truth
    which = f"frame {extreme.number}"

    def painted(name: str, what: str, ids: np.ndarray) -> dict[str, Any]:
        return _picture(name, _describe(f"{what} of {which}", ids, label_set), overlay(image, ids, label_set))

    views = [_picture("camera", f"Camera image of {which}", image)]
    if truth is not None:
        views.append(painted("truth", "Ground truth", truth))
    views.append(painted("labels", "Labels", labels))
    if truth is not None:
        share = percent(float(((labels != truth) & (truth != IGNORE)).sum()) / max(1, int((truth != IGNORE).sum())))
        alt = f"Difference of {which}: {share} of the pixels wrong"
        views.append(_picture(f"difference: {share} wrong", alt, difference(image, labels, truth)))
    index = report["frames"]["number"].index(extreme.number)
    caption = f"at {time_of(report, index)} · {'mean IoU' if judged else 'confidence'} {percent(extreme.value)}"
    lowest = _weakest(report, index, label_set) if judged else ""
    return {"number": extreme.number, "caption": caption + lowest, "views": views}


def _picture(name: str, alt: str, picture: np.ndarray) -> dict[str, Any]:
    """A picture (H, W, 3) uint8 RGB as a JPEG in a data URI."""
    options = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY, cv2.IMWRITE_JPEG_OPTIMIZE, 1]
    jpeg = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)[1]
    uri = "data:image/jpeg;base64," + base64.b64encode(jpeg.tobytes()).decode("ascii")
    return {"name": name, "alt": alt, "uri": uri, "width": picture.shape[1], "height": picture.shape[0]}


def _weakest(report: dict[str, Any], index: int, label_set: LabelSet) -> str:
    """The classes with the lowest IoU in a frame."""
    right, truth, given = (counts(report, name)[index] for name in ("intersection", "truth", "predicted"))
    iou = np.divide(right, truth + given - right, out=np.full(len(label_set), np.nan), where=truth > 0)
    lowest = [each for each in np.argsort(iou)[:3].tolist() if iou[each] < 0.9]
    names = ", ".join(f"{display_name(label_set.class_names[each])} {percent(iou[each], 0)}" for each in lowest)
    return f" · lowest: {names}" if names else ""


def _describe(what: str, labels: np.ndarray, label_set: LabelSet) -> str:
    """A label image in words, by its five largest classes."""
    pixels = np.bincount(labels.ravel(), minlength=256)[: len(label_set)]
    shares = [
        f"{display_name(label_set.class_names[each])} {percent(float(pixels[each] / labels.size), 0)}"
        for each in np.argsort(-pixels, kind="stable")[:5].tolist()
        if pixels[each]
    ]
    return f"{what}: {', '.join(shares) or 'nothing'}"


def _dimmed(image: np.ndarray) -> np.ndarray:
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return cv2.cvtColor((grey * 0.45 + 20).astype(np.uint8), cv2.COLOR_GRAY2RGB)
