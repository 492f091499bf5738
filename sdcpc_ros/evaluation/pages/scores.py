"""The sections of a page with numbers: summary, tiles, classes and confusions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sdcpc_ros.evaluation.pages.rendering import Section, Tile, count_noun, css_colour, milliseconds, percent, spoken

#: Shares of a report: key, name, meaning.
_SHARES = (
    ("miou", "Mean IoU", "Overlap of labels and truth, the average over the classes that occur."),
    ("mvc8", "mVC8", "Of the pixels whose truth stays for 8 frames, those whose label stays too."),
    ("mvc16", "mVC16", "The same over 16 frames."),
    ("weighted_iou", "Weighted IoU", "Overlap, each class weighted by its number of pixels."),
    ("steady", "Steady pixels", "Pixels that keep their label from one frame to the next, where the truth does."),
    ("confidence", "Confidence", "Mean probability that the network gives its labels."),
)
_STEADY_WITHOUT_TRUTH = "Pixels that keep their label from one frame to the next; motion counts as change too."
_CLASS_COLUMNS = {
    "iou": "IoU",
    "truth_share": "of the truth",
    "predicted_share": "of the labels",
    "confidence": "confidence",
}
_MIN_SHARE_DRAWN = 0.002  # of a row of the confusion matrix


def summary(report: dict[str, Any]) -> str:
    """The report in a few sentences."""
    scores, bag = report["scores"], report["bag"]
    judged = [each for each in report["classes"] if each["iou"] is not None]
    if scores["miou"] is None:
        sentences = [
            "There is no ground truth, so this page cannot tell whether the labels are right. It shows how stable and "
            "how confident they are."
        ]
    else:
        best, worst = (pick(judged, key=lambda each: each["iou"]) for pick in (max, min))
        sentences = [
            f"The mean IoU of {count_noun(len(judged), 'class', 'classes')} is {percent(scores['miou'])}. The best "
            f"class is {spoken(best['name'])} ({percent(best['iou'], 0)}), the worst {spoken(worst['name'])} "
            f"({percent(worst['iou'], 0)})."
        ]
        if scores["mvc8"] is not None:
            sentences.append(
                f"Where the truth stays the same for 8 frames, {percent(scores['mvc8'])} of the labels stay the same."
            )
    resets = len(report.get("resets", []))
    if resets:
        sentences.append(f"The frame buffer was emptied {count_noun(resets, 'time')}.")
    if bag["unusable"]:
        sentences.append(f"{count_noun(bag['unusable'], 'image')} could not be used.")
    return " ".join(sentences)


def share_tiles(scores: dict[str, Any]) -> list[Tile]:
    """The shares of a report or a fleet as tiles in percent, the main ones first. Unknown ones are left out."""
    judged = scores["miou"] is not None
    main = ("miou", "mvc8", "mvc16") if judged else ("steady",)
    found = []
    for key, name, meaning in _SHARES:
        if scores[key] is not None:
            meaning = _STEADY_WITHOUT_TRUTH if key == "steady" and not judged else meaning
            found.append(Tile(name, f"{100 * scores[key]:.1f}", meaning, "%", key in main))
    return found


def tiles(report: dict[str, Any]) -> list[Tile]:
    """The main numbers of a report with their meaning."""
    scores, per_frame = report["scores"], report.get("timing", {}).get("ms_per_frame")
    found = share_tiles(scores)
    if per_frame is not None:
        value, unit = milliseconds(per_frame["p50"]).split()
        meaning = (
            f"From image to labels, the median on {report['settings']['device']}; 95 % of the frames take at most "
            f"{milliseconds(per_frame['p95'])}, the slowest {milliseconds(per_frame['max'])}."
        )
        found.append(Tile("Time per frame", value, meaning, unit, main=True))
    judged = scores["judged_frames"]
    meaning = f"{count_noun(judged, 'frame')} with a ground truth." if judged else "None has a ground truth."
    if report["bag"]["unusable"]:
        meaning += f" {count_noun(report['bag']['unusable'], 'image')} could not be used."
    found.append(Tile("Frames", str(scores["frames"]), meaning))
    return sorted(found, key=lambda tile: not tile.main)


def class_section(classes: Sequence[dict[str, Any]]) -> Section:
    """Classes with bars of IoU, the best first; without a truth, of their shares of the labels."""
    judged = any(each["iou"] is not None for each in classes)
    key = "iou" if judged else "predicted_share"
    columns = [column for column in _CLASS_COLUMNS if column in classes[0]]
    if judged:
        title = "IoU of each class"
        meaning = "Intersection over union: 100 % means that labels and truth are the same pixels."
    else:
        title = "Share of each class"
        meaning = "The share of all pixels that each class was given. There is no truth to compare it with."
    rows = [
        {
            "name": spoken(each["name"]),
            "colour": css_colour(each["colour"]),
            "bar": None if each[key] is None else f"{100 * each[key]:.1f}",
            "cells": [percent(each[column]) for column in columns],
        }
        for each in sorted(classes, key=lambda each: -1 if each[key] is None else each[key], reverse=True)
    ]
    return Section(title, meaning, [("classes", {"head": [_CLASS_COLUMNS[each] for each in columns], "rows": rows})])


def confusion_section(report: dict[str, Any]) -> Section | None:
    """The confusion matrix of a report or a fleet in shares of its rows; None if nothing was judged.

    Rows without pixels are left out. A last column holds unlabelled pixels, if there are any.
    """
    matrix, unlabelled = (np.array(report.get(name, []), np.int64) for name in ("confusion", "unlabelled"))
    if not (matrix.any() or unlabelled.any()):
        return None
    names = [spoken(each["name"]) for each in report["classes"]]
    columns = names
    if unlabelled.any():
        matrix, columns = np.column_stack([matrix, unlabelled]), [*names, "no label"]
    totals = matrix.sum(axis=1, keepdims=True)
    shares = np.divide(matrix, totals, out=np.zeros(matrix.shape), where=totals > 0)
    rows = [
        {"name": names[row], "cells": [_cell(names[row], *pair) for pair in zip(columns, shares[row].tolist())]}
        for row in np.flatnonzero(totals).tolist()
    ]
    wrong = shares[:, : len(names)] * (1 - np.eye(len(names)))
    largest = [divmod(flat, len(names)) for flat in np.argsort(-wrong, axis=None, kind="stable")[:5].tolist()]
    taken = [
        f"{percent(wrong[pair], 0)} of {names[pair[0]]} is taken for {names[pair[1]]}"
        for pair in largest
        if wrong[pair]
    ]
    meaning = (
        "Each row is a class of the ground truth. Its cells are the labels of its pixels in percent. A good model is "
        "dark along the diagonal and pale elsewhere."
    )
    parts: list[tuple[str, Any]] = [("confusion", {"columns": columns, "rows": rows})]
    parts += [("heading", "Most frequent confusions"), ("list", taken)] if taken else []
    return Section("Confusion matrix", meaning, parts)


def _cell(true_class: str, given: str, share: float) -> dict[str, Any] | None:
    if share < _MIN_SHARE_DRAWN:
        return None
    return {
        "text": f"{100 * share:.0f}" if share >= 0.01 else "",
        "note": f"{true_class} taken for {given}: {percent(share)}",
        "opacity": f"{share**0.6:.2f}",  # rises faster than the share, so that 5 % are visible
        "dark": share > 0.45,
    }
