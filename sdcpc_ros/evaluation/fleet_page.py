"""Many evaluated bags as one page: a line for each with the way to its own page, and the scores of all together."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from sdcpc_ros.evaluation.pages.class_charts import confusion_chart
from sdcpc_ros.evaluation.pages.numbers import counted, percent
from sdcpc_ros.evaluation.pages.rendering import HALF_PX, DrawnChart, render, write_page
from sdcpc_ros.evaluation.pages.scores import class_chart, share_tile

_SCORES = (
    ("miou", "Mean IoU", "Overlap of labels and truth over all bags' pixels, the average over the classes that occur."),
    ("mvc8", "mVC8", "Of the pixels whose truth stays for 8 frames, those whose label stays too."),
    ("mvc16", "mVC16", "The same over 16 frames: how long labels hold still."),
    ("steady", "Steady pixels", "Pixels that keep their label from one frame to the next, where the truth does."),
    ("weighted_iou", "Weighted IoU", "Overlap, each class counting by its number of pixels."),
    ("confidence", "Confidence", "Probability the network gives its labels, on average."),
)
_MAIN = ("miou", "mvc8", "mvc16", "steady")


def write_fleet_report(path: str | Path, fleet: dict[str, Any]) -> None:
    """Write the page of a fleet's report, as `sdcpc evaluate-bag` leaves it in fleet.json."""
    scores, bags = fleet["scores"], fleet["bags"]
    write_page(
        path,
        render(
            "fleet.html.jinja",
            {
                "title": f"{counted(len(bags), 'bag')}: segmentation report",
                "heading": counted(len(bags), "bag"),
                "summary": _summary(fleet),
                "tiles": []
                if scores is None
                else [
                    share_tile(name, scores[key], meaning, key in _MAIN)
                    for key, name, meaning in _SCORES
                    if scores[key] is not None
                ],
                "rows": [_row(entry) for entry in bags],
                "classes": _classes(fleet),
                "confusion": _confusion(fleet),
            },
        ),
    )


def _summary(fleet: dict[str, Any]) -> str:
    scores, told = fleet["scores"], []
    if scores is not None:
        told.append(f"{counted(scores['frames'], 'frame')} in all, {scores['judged_frames']} with a ground truth.")
    if fleet["failed"]:
        told.append(f"{counted(fleet['failed'], 'bag')} could not be evaluated.")
    if fleet["missed"]:
        told.append(f"{counted(fleet['missed'], 'bag')} missed a gate.")
    return " ".join(told)


def _row(entry: dict[str, Any]) -> dict[str, Any]:
    """A bag's line. Its page is named relative to this one; what a bag is called is never taken for a scheme."""
    scores, missed = entry.get("scores"), entry.get("missed") or []
    remark = "; ".join(missed) or entry["problem"]
    return {
        "name": entry["name"],
        "page": f"./{quote(entry['page'], errors='replace')}" if "page" in entry else "",
        "cells": ["–"] * 5 if scores is None else [str(scores["frames"]), *(percent(scores[name]) for name in _MAIN)],
        "status": "failed" if entry["status"] == "failed" or missed else "passed",
        "remark": remark,
    }


def _classes(fleet: dict[str, Any]) -> DrawnChart | None:
    judged = [each for each in fleet["classes"] if each["iou"] is not None]
    return class_chart(judged, "iou", "IoU by class", HALF_PX) if judged else None


def _confusion(fleet: dict[str, Any]) -> DrawnChart | None:
    matrix, unlabelled = (np.array(fleet.get(name, []), np.int64) for name in ("confusion", "unlabelled"))
    if not matrix.any():
        return None
    names = [each["name"] for each in fleet["classes"]]
    return DrawnChart.of(
        "confusion", lambda name, width: confusion_chart(name, names, matrix, unlabelled, width), HALF_PX
    )
