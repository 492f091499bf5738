"""The page of one bag's report, and that of a fleet with a line for each bag."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from sdcpc_ros.evaluation.pages.frame_pictures import ReportPictures, extreme_sections, flicker_section
from sdcpc_ros.evaluation.pages.rendering import (
    Section,
    Tile,
    count_noun,
    css_colour,
    display_name,
    footer_of,
    milliseconds,
    percent,
    seconds,
    write_page,
)
from sdcpc_ros.evaluation.pages.timeline import live_section, time_section
from sdcpc_ros.evaluation.report_file import check_report

_SHOWN_PROBLEMS = 20
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
_FLEET_COLUMNS = {"mean IoU": "miou", "mVC8": "mvc8", "mVC16": "mvc16", "steady": "steady"}


def write_report(path: str | Path, report: dict[str, Any], pictures: ReportPictures | None = None) -> None:
    """Writes the page of a report, with `pictures` if given. Raises ReportError if the report is incomplete."""
    bag = check_report(report)["bag"]
    stamps_ns = report["frames"]["stamp_ns"]
    span_s = (max(stamps_ns) - min(stamps_ns)) / 1e9 if stamps_ns else 0.0
    pictures = pictures or ReportPictures()
    classes, confusion = class_section(report["classes"]), confusion_section(report)
    write_page(
        path,
        title=f"{bag['name']}: segmentation report",
        kind="Segmentation of a recording",
        name=bag["name"],
        facts=[
            ("camera", bag["camera"]),
            ("frames", f"{report['scores']['frames']} in {seconds(span_s)}"),
            ("model", report["model"]["name"]),
            ("ground truth", bag["truth"]),
        ],
        sections=[
            Section(bare=True, parts=[("lead", summary(report)), ("tiles", tiles(report))]),
            classes if confusion is None else [classes, confusion],
            time_section(report),
            live_section(report),
            *extreme_sections(report, pictures),
            flicker_section(report, pictures),
            _problems_section(report),
            _how_section(report),
        ],
        footer=footer_of(report),
    )


def write_fleet_page(path: str | Path, fleet: dict[str, Any]) -> None:
    """Writes the page of a fleet's report, as `sdcpc evaluate-bag` writes it to fleet.json."""
    scores, bags = fleet["scores"], fleet["bags"]
    summary = []
    if scores is not None:
        frames = count_noun(scores["frames"], "frame")
        summary.append(f"{frames} in all, {scores['judged_frames']} with a ground truth.")
    if fleet["failed"]:
        summary.append(f"{count_noun(fleet['failed'], 'bag')} could not be evaluated.")
    if fleet["missed"]:
        summary.append(f"{count_noun(fleet['missed'], 'bag')} missed a gate.")
    table = {"head": ["bag", "frames", *_FLEET_COLUMNS], "rows": [_bag_row(entry) for entry in bags]}
    confusion = confusion_section(fleet)
    pooled = "Intersection over union over the pixels of all bags."
    write_page(
        path,
        title=f"{count_noun(len(bags), 'bag')}: segmentation report",
        kind="Segmentation of recordings",
        name=count_noun(len(bags), "bag"),
        sections=[
            Section(bare=True, parts=[("lead", " ".join(summary)), ("tiles", share_tiles(scores) if scores else [])]),
            Section("Each bag", parts=[("bags", table)]),
            None if confusion is None else [replace(class_section(fleet["classes"]), meaning=pooled), confusion],
        ],
    )


def _bag_row(entry: dict[str, Any]) -> dict[str, Any]:
    """A bag's line. The link is relative and begins with "./", so a bag's name is never taken for a URL scheme."""
    scores, missed = entry.get("scores"), entry.get("missed") or []
    shares = [] if scores is None else [percent(scores[key]) for key in _FLEET_COLUMNS.values()]
    return {
        "name": entry["name"],
        "page": f"./{quote(entry['page'], errors='replace')}" if "page" in entry else "",
        "cells": ["–"] * (1 + len(_FLEET_COLUMNS)) if scores is None else [str(scores["frames"]), *shares],
        "failed": entry["status"] == "failed" or bool(missed),
        "remark": "; ".join(missed) or entry["problem"],
    }


def configuration(report: dict[str, Any]) -> dict[str, str]:
    """The bag, the model and all settings of a report, by name."""
    bag, model, settings = report["bag"], report["model"], dict(report["settings"])
    height, width = settings.pop("input_size", None) or model["model_size"]
    fitted = "" if report["settings"].get("input_size") else ", or as many in the camera's shape"
    settings |= {"camera": f"{bag['camera']} ({bag['camera_type']})", "truth": bag["truth"]}
    settings["void"] = ", ".join(map(str, [*settings.get("void", []), 255]))
    return {
        "bag": bag["path"],
        "model": model["name"],
        "model's SHA-256": model["sha256"],
        "label set": f"{model['label_set']['name']}, {count_noun(len(report['classes']), 'class', 'classes')}",
        "network input": f"{width} x {height} px{fitted}",
        **{display_name(name): str(value) for name, value in settings.items() if value not in (None, False)},
    }


def _problems_section(report: dict[str, Any]) -> Section | None:
    problems, unusable = report.get("problems", [])[:_SHOWN_PROBLEMS], report["bag"]["unusable"]
    if not problems:
        return None
    meaning = count_noun(unusable, "image") + (" was" if unusable == 1 else " were") + " left out"
    meaning += f". The first {len(problems)}:" if len(problems) < unusable else ":"
    return Section("Images that could not be used", meaning, [("list", problems)])


def _how_section(report: dict[str, Any]) -> Section:
    topics = report["bag"]["topics"]
    command = report.get("command")
    repeats = "The same bag, model and settings give the same numbers again, but for the times:" if command else ""
    made_with = {**configuration(report), "SHA-256 of all labels": report.get("labels_sha256", "not known")}
    table = {
        "title": f"All {count_noun(len(topics), 'topic')} of the bag",
        "head": ["topic", "type", "messages"],
        "rows": [(name, kind, count) for name, (kind, count) in topics.items()],
    }
    parts = [
        *([("code", command)] if command else []),
        *(("heading", "Configuration"), ("pairs", made_with.items())),
        *(("heading", "Versions"), ("pairs", report["versions"].items())),
        ("details", table),
    ]
    return Section("How this was made", repeats, parts)


def summary(report: dict[str, Any]) -> str:
    """The best and the worst class in a sentence; without a ground truth, what the page cannot show."""
    judged = [each for each in report["classes"] if each["iou"] is not None]
    if not judged:
        return (
            "There is no ground truth, so this page cannot tell whether the labels are right. It shows how stable and "
            "how confident they are."
        )
    best, worst = (pick(judged, key=lambda each: each["iou"]) for pick in (max, min))
    return (
        f"Of {count_noun(len(judged), 'class', 'classes')}, {display_name(best['name'])} is labelled best, with an IoU "
        f"of {percent(best['iou'], 0)}, and {display_name(worst['name'])} worst, with {percent(worst['iou'], 0)}."
    )


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
            "name": display_name(each["name"]),
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
    names = [display_name(each["name"]) for each in report["classes"]]
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
