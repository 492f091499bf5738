"""The sections of a page with the worst and the best frames, and the flicker map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from sdcpc_ros.evaluation.extreme_frames import Extreme
from sdcpc_ros.evaluation.pages.images import data_uri, difference, flicker_map
from sdcpc_ros.evaluation.pages.numbers import percent
from sdcpc_ros.evaluation.pages.time_sections import time_of
from sdcpc_ros.evaluation.pictures import overlay
from sdcpc_ros.evaluation.report_file import counts, label_set_of
from sdcpc_ros.evaluation.report_pictures import ReportPictures
from sdcpc_ros.labels.label_set import IGNORE, LabelSet

_MAP_WIDTH = 760
_NAMED_SHARES = 5


@dataclass(frozen=True)
class FramePicture:
    """A picture of a frame."""

    name: str
    alt: str
    uri: Markup
    width: int
    height: int

    @classmethod
    def of(cls, name: str, alt: str, picture: np.ndarray) -> FramePicture:
        return cls(name, alt, data_uri(picture), picture.shape[1], picture.shape[0])


def extreme_groups(report: dict[str, Any], pictures: ReportPictures) -> list[dict[str, Any]]:
    """The worst and the best frames with their values; a group without images is left out."""
    judged = report["scores"]["miou"] is not None
    measure = "by the mean IoU of the frame alone" if judged else "by the confidence in their labels"
    groups = []
    for name, chosen in (("Worst", pictures.worst), ("Best", pictures.best)):
        if chosen:
            meaning = f"Chosen {measure}, at least a second or so apart."
            if judged:
                meaning += " The difference shows wrong pixels in colour; what has no truth is darkest."
            frames = [_frame(report, extreme, judged) for extreme in chosen]
            groups.append({"title": f"{name} frames", "meaning": meaning, "frames": frames})
    return groups


def flicker_section(report: dict[str, Any], pictures: ReportPictures) -> dict[str, Any] | None:
    rate = pictures.flicker
    if not rate.size or np.isnan(rate).all():
        return None
    judged = report["scores"]["miou"] is not None
    mean, often = float(np.nanmean(rate)), float(np.mean(rate[~np.isnan(rate)] > 0.1))
    drawn = flicker_map(rate, pictures.backdrop, _MAP_WIDTH)
    meaning = (
        f"How often the label of a pixel changes from one frame to the next"
        f"{' while its truth does not' if judged else ''}: in {percent(mean)} of the frames on average. "
        f"{percent(often)} of the picture changes its label more often than every tenth frame."
    )
    if not judged:
        meaning += " Without a truth, what moves in the picture counts as well."
    return {
        "meaning": meaning,
        "uri": data_uri(drawn),
        "alt": f"Flicker map over the first image. {meaning}",
        "width": drawn.shape[1],
        "height": drawn.shape[0],
    }


def _frame(report: dict[str, Any], extreme: Extreme, judged: bool) -> dict[str, Any]:
    label_set = label_set_of(report)
    image, labels, truth = extreme.image, extreme.labels, extreme.truth
    which = f"frame {extreme.number}"

    def painted(name: str, what: str, ids: np.ndarray) -> FramePicture:
        return FramePicture.of(name, _describe(f"{what} of {which}", ids, label_set), overlay(image, ids, label_set))

    views = [FramePicture.of("camera", f"Camera image of {which}", image)]
    if truth is not None:
        views.append(painted("truth", "Ground truth", truth))
    views.append(painted("labels", "Labels", labels))
    if truth is not None:
        share = percent(float(((labels != truth) & (truth != IGNORE)).sum()) / max(1, int((truth != IGNORE).sum())))
        alt = f"Difference of {which}: {share} of the pixels wrong"
        views.append(FramePicture.of(f"difference: {share} wrong", alt, difference(image, labels, truth)))
    numbers = report["frames"]["number"]
    index = numbers.index(extreme.number) if extreme.number in numbers else None
    return {
        "number": extreme.number,
        "at": "–" if index is None else time_of(report, index),
        "value": f"{'mean IoU' if judged else 'confidence'} {percent(extreme.value)}",
        "detail": _weakest(report, index, label_set) if judged and index is not None else "",
        "views": views,
    }


def _weakest(report: dict[str, Any], index: int, label_set: LabelSet) -> str:
    """The classes with the lowest IoU in a frame."""
    right, truth, given = (counts(report, name)[index] for name in ("intersection", "truth", "predicted"))
    iou = np.divide(right, truth + given - right, out=np.full(len(label_set), np.nan), where=truth > 0)
    lowest = [each for each in np.argsort(iou)[:3].tolist() if not np.isnan(iou[each]) and iou[each] < 0.9]
    names = ", ".join(f"{label_set.class_names[each].replace('_', ' ')} {percent(iou[each], 0)}" for each in lowest)
    return f"lowest: {names}" if names else ""


def _describe(what: str, labels: np.ndarray, label_set: LabelSet) -> str:
    """A label image in words, by its largest classes."""
    pixels = np.bincount(labels.ravel(), minlength=256)[: len(label_set)]
    order = np.argsort(-pixels, kind="stable")[:_NAMED_SHARES].tolist()
    shares = [
        f"{label_set.class_names[each].replace('_', ' ')} {percent(float(pixels[each] / labels.size), 0)}"
        for each in order
        if pixels[each]
    ]
    return f"{what}: {', '.join(shares) or 'nothing'}"
