"""The sections of a page with numbers: summary, tiles, classes and confusions."""

from __future__ import annotations

from typing import Any

import numpy as np

from sdcpc_ros.evaluation.pages.class_charts import Bar, class_bars, confusion_chart, largest_confusions
from sdcpc_ros.evaluation.pages.numbers import count_noun, milliseconds, percent
from sdcpc_ros.evaluation.pages.rendering import HALF_PX, PAGE_PX, DrawnChart, Tile

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


def summary(report: dict[str, Any]) -> str:
    """The report in a few sentences."""
    scores, bag = report["scores"], report["bag"]
    judged = [each for each in report["classes"] if each["iou"] is not None]
    if scores["miou"] is None:
        sentences = [
            "There is no ground truth, so this page cannot say whether the labels are right. It shows how steady and "
            "how confident they are."
        ]
    else:
        best, worst = (pick(judged, key=lambda each: each["iou"]) for pick in (max, min))
        sentences = [
            f"Labels and truth overlap by {percent(scores['miou'])} on the average of "
            f"{count_noun(len(judged), 'class', 'classes')}: best on {_name(best)} ({percent(best['iou'], 0)}), "
            f"worst on {_name(worst)} ({percent(worst['iou'], 0)})."
        ]
        if scores["mvc8"] is not None:
            sentences.append(
                f"Where the truth stays the same for 8 frames, {percent(scores['mvc8'])} of the labels do too."
            )
    resets = len(report.get("resets", []))
    if resets:
        sentences.append(f"The network's memory was emptied {count_noun(resets, 'time')}.")
    if bag["unusable"]:
        sentences.append(f"{count_noun(bag['unusable'], 'image')} could not be used.")
    return " ".join(sentences)


def share_tiles(scores: dict[str, Any]) -> list[Tile]:
    """The shares of a report or a fleet as tiles in percent, the main ones first."""
    judged = scores["miou"] is not None
    main = ("miou", "mvc8", "mvc16") if judged else ("steady",)
    found = []
    for key, name, meaning in _SHARES:
        if scores[key] is not None:
            meaning = _STEADY_WITHOUT_TRUTH if key == "steady" and not judged else meaning
            found.append(Tile(name, f"{100 * scores[key]:.1f}", meaning, "%", key in main))
    return found


def tiles(report: dict[str, Any]) -> list[Tile]:
    """The main numbers with their meaning. A number that could not be judged is left out."""
    scores, per_frame = report["scores"], report.get("timing", {}).get("ms_per_frame")
    found = share_tiles(scores)
    if per_frame is not None:
        value, unit = milliseconds(per_frame["p50"]).split()
        meaning = (
            f"From image to labels, the median on {report['settings']['device']}; 95 % of the frames take at most "
            f"{milliseconds(per_frame['p95'])}, the slowest {milliseconds(per_frame['max'])}."
        )
        found.append(Tile("Time a frame", value, meaning, unit, main=True))
    judged = scores["judged_frames"]
    meaning = f"{count_noun(judged, 'frame')} with a ground truth." if judged else "None has a ground truth."
    if report["bag"]["unusable"]:
        meaning += f" {count_noun(report['bag']['unusable'], 'image')} could not be used."
    found.append(Tile("Frames", str(scores["frames"]), meaning))
    return sorted(found, key=lambda tile: not tile.main)


def class_section(report: dict[str, Any]) -> dict[str, Any]:
    """Bars of IoU by class; without a truth, of the classes' shares of the pixels."""
    classes = report["classes"]
    judged = [each for each in classes if each["iou"] is not None]
    if judged:
        shown, key, title = judged, "iou", "How well each class is found"
        meaning = "Intersection over union: 100 % means that labels and truth are the same pixels."
    else:
        shown, key, title = [each for each in classes if each["predicted_share"]], "predicted_share", "What is seen"
        meaning = "The share of all pixels that each class was given. There is no truth to compare it with."
    absent = [_name(each) for each in classes if each not in shown]
    columns = ("iou", "truth_share", "predicted_share", "confidence")
    return {
        "title": title,
        "meaning": meaning,
        "chart": class_chart(shown, key, title, HALF_PX if judged else PAGE_PX) if shown else None,
        "absent": f"{'Not in the truth' if judged else 'Never seen'}: {', '.join(absent)}." if absent else "",
        "head": ["class", "IoU", "of the truth", "of the labels", "confidence"],
        "rows": [(_name(each), *(percent(each[column]) for column in columns)) for each in classes],
    }


def class_chart(classes: list[dict[str, Any]], key: str, title: str, width_px: float) -> DrawnChart:
    """Bars of the classes, those of the largest `key` first."""
    ordered = sorted(classes, key=lambda each: -each[key])
    bars = [Bar(each["name"], tuple(each["colour"]), each[key], _note(each)) for each in ordered]
    notes = "; ".join(bar.note for bar in bars)
    return DrawnChart.of("classes", lambda name, width: class_bars(name, f"{title}: {notes}.", bars, width), width_px)


def confusion_section(report: dict[str, Any]) -> dict[str, Any] | None:
    """Of a report or a fleet; None if nothing was judged."""
    matrix, unlabelled = (np.array(report.get(name, []), np.int64) for name in ("confusion", "unlabelled"))
    if not (matrix.any() or unlabelled.any()):
        return None
    names = [each["name"] for each in report["classes"]]

    def draw(name: str, width: float) -> Any:
        return confusion_chart(name, names, matrix, unlabelled, width)

    return {
        "chart": DrawnChart.of("confusion", draw, HALF_PX),
        "largest": [
            f"{percent(pair['share'], 0)} of {pair['truth'].replace('_', ' ')} is taken for "
            f"{pair['given'].replace('_', ' ')}"
            for pair in largest_confusions(names, matrix)
        ],
    }


def _name(each: dict[str, Any]) -> str:
    return str(each["name"]).replace("_", " ")


def _note(each: dict[str, Any]) -> str:
    """A class's known numbers in words."""
    words = (
        ("iou", "IoU {}"),
        ("truth_share", "{} of the truth"),
        ("predicted_share", "{} of the labels"),
        ("confidence", "confidence {}"),
    )
    known = (text.format(percent(each[key])) for key, text in words if each.get(key) is not None)
    return f"{_name(each)}: {', '.join(known)}"
