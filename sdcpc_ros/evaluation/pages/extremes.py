"""The worst and the best frames, and the map of flicker, as a page shows them."""

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
from sdcpc_ros.label_set import IGNORE, LabelSet

_MAP_WIDTH = 760
_NAMED_SHARES = 5


@dataclass(frozen=True)
class View:
    """A picture of a frame."""

    name: str
    alt: str
    uri: Markup
    width: int
    height: int

    @classmethod
    def of(cls, name: str, alt: str, picture: np.ndarray) -> View:
        return cls(name, alt, data_uri(picture), picture.shape[1], picture.shape[0])


def extreme_groups(report: dict[str, Any], pictures: ReportPictures) -> list[dict[str, Any]]:
    """The worst and the best frames with what they were chosen by; a group without pictures is left out."""
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
    painted = View.of("labels", _told(f"Labels of {which}", labels, label_set), overlay(image, labels, label_set))
    views = [View.of("camera", f"Camera image of {which}", image), painted]
    if truth is not None:
        right = View.of("truth", _told(f"Ground truth of {which}", truth, label_set), overlay(image, truth, label_set))
        wrong = float(((labels != truth) & (truth != IGNORE)).sum()) / max(1, int((truth != IGNORE).sum()))
        told = f"{percent(wrong)} of the pixels wrong"
        views.insert(1, right)
        views.append(
            View.of(
                f"difference: {percent(wrong)} wrong",
                f"Difference of {which}: {told}",
                difference(image, labels, truth),
            )
        )
    index = report["frames"]["number"].index(extreme.number) if extreme.number in report["frames"]["number"] else None
    return {
        "number": extreme.number,
        "at": "–" if index is None else time_of(report, index),
        "value": f"{'mean IoU' if judged else 'confidence'} {percent(extreme.value)}",
        "detail": _weakest(report, index, label_set) if judged and index is not None else "",
        "views": views,
    }


def _weakest(report: dict[str, Any], index: int, label_set: LabelSet) -> str:
    """Which classes of a frame are found worst."""
    right, truth, given = (counts(report, name)[index] for name in ("intersection", "truth", "predicted"))
    iou = np.divide(right, truth + given - right, out=np.full(len(label_set), np.nan), where=truth > 0)
    lowest = [each for each in np.argsort(iou)[:3].tolist() if not np.isnan(iou[each]) and iou[each] < 0.9]
    told = ", ".join(f"{label_set.class_names[each].replace('_', ' ')} {percent(iou[each], 0)}" for each in lowest)
    return f"lowest: {told}" if told else ""


def _told(what: str, labels: np.ndarray, label_set: LabelSet) -> str:
    """A label image in words: its largest classes."""
    pixels = np.bincount(labels.ravel(), minlength=256)[: len(label_set)]
    order = np.argsort(-pixels, kind="stable")[:_NAMED_SHARES].tolist()
    shares = [
        f"{label_set.class_names[each].replace('_', ' ')} {percent(float(pixels[each] / labels.size), 0)}"
        for each in order
        if pixels[each]
    ]
    return f"{what}: {', '.join(shares) or 'nothing'}"
