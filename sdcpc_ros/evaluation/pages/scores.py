"""What of a report is said in numbers: the summary, the tiles, classes and confusions."""

from __future__ import annotations

from typing import Any

import numpy as np

from sdcpc_ros.evaluation.pages.class_charts import Bar, class_bars, confusion_chart, largest_confusions
from sdcpc_ros.evaluation.pages.numbers import counted, milliseconds, percent
from sdcpc_ros.evaluation.pages.rendering import HALF_PX, PAGE_PX, DrawnChart, Tile
from sdcpc_ros.evaluation.report_file import label_set_of


def summary(report: dict[str, Any]) -> str:
    """The report in a few sentences."""
    scores, bag = report["scores"], report["bag"]
    judged = [each for each in report["classes"] if each["iou"] is not None]
    if scores["miou"] is None:
        told = [
            "There is no ground truth, so nothing here says whether the labels are right; what is told is how steady "
            "and how sure of themselves they are."
        ]
    else:
        best, worst = (pick(judged, key=lambda each: each["iou"]) for pick in (max, min))
        told = [
            f"Labels and truth overlap by {percent(scores['miou'])} on the average of "
            f"{counted(len(judged), 'class', 'classes')}: best on {_name(best)} ({percent(best['iou'], 0)}), "
            f"worst on {_name(worst)} ({percent(worst['iou'], 0)})."
        ]
        if scores["mvc8"] is not None:
            told.append(f"Where the truth stands still for 8 frames, {percent(scores['mvc8'])} of the labels do too.")
    resets = len(report.get("resets", []))
    if resets:
        told.append(f"The network's memory was emptied {counted(resets, 'time')} on the way.")
    if bag["unusable"]:
        told.append(f"{counted(bag['unusable'], 'image')} could not be used.")
    return " ".join(told)


def tiles(report: dict[str, Any]) -> list[Tile]:
    """The headline numbers, each with its meaning. What could not be judged is left out."""
    scores, timing = report["scores"], report.get("timing", {})
    found = [
        share_tile(
            "Mean IoU", scores["miou"], "Overlap of labels and truth, the average over the classes that occur.", True
        ),
        share_tile(
            "mVC8", scores["mvc8"], "Of the pixels whose truth stays for 8 frames, those whose label stays too.", True
        ),
        share_tile("mVC16", scores["mvc16"], "The same over 16 frames: how long labels hold still.", True),
        share_tile("Weighted IoU", scores["weighted_iou"], "Overlap, each class counting by its number of pixels."),
        share_tile("Steady pixels", scores["steady"], _steady_meaning(scores), scores["miou"] is None),
        share_tile("Confidence", scores["confidence"], "Probability the network gives its labels, on average."),
    ]
    per_frame = timing.get("ms_per_frame")
    if per_frame is not None:
        value, unit = milliseconds(per_frame["p50"]).split()
        meaning = (
            f"From image to labels, the median on {report['settings']['device']}; 95 % of the frames take at most "
            f"{milliseconds(per_frame['p95'])}, the slowest {milliseconds(per_frame['max'])}."
        )
        found.append(Tile("Time a frame", value, meaning, unit, main=True))
    judged = scores["judged_frames"]
    meaning = f"{counted(judged, 'frame')} with a ground truth." if judged else "None has a ground truth."
    if report["bag"]["unusable"]:
        meaning += f" {counted(report['bag']['unusable'], 'image')} could not be used."
    found.append(Tile("Frames", str(scores["frames"]), meaning))
    present = [tile for tile in found if tile is not None]
    return sorted(present, key=lambda tile: not tile.main)


def class_section(report: dict[str, Any]) -> dict[str, Any]:
    """Bars of IoU by class, or without a truth of the classes' shares of the pixels."""
    classes = report["classes"]
    judged = [each for each in classes if each["iou"] is not None]
    shown, key = (
        (judged, "iou") if judged else ([each for each in classes if each["predicted_share"]], "predicted_share")
    )
    absent = [_name(each) for each in classes if each not in shown]
    title = "How well each class is found" if judged else "What is seen"
    meaning = (
        "Intersection over union: 100 % means that labels and truth are the same pixels."
        if judged
        else "The share of all pixels that each class was given. There is no truth to compare it with."
    )
    without = "Not in the truth: " if judged else "Never seen: "

    return {
        "title": title,
        "meaning": meaning,
        "chart": class_chart(shown, key, title, HALF_PX if judged else PAGE_PX) if shown else None,
        "absent": f"{without}{', '.join(absent)}." if absent else "",
        "head": ["class", "IoU", "of the truth", "of the labels", "confidence"],
        "rows": [
            (
                _name(each),
                *(percent(each[column]) for column in ("iou", "truth_share", "predicted_share", "confidence")),
            )
            for each in classes
        ],
    }


def class_chart(classes: list[dict[str, Any]], key: str, title: str, width_px: float) -> DrawnChart:
    """Bars of the classes, those of the largest `key` first."""
    bars = [
        Bar(each["name"], tuple(each["colour"]), each[key], _note(each))
        for each in sorted(classes, key=lambda each: -each[key])
    ]
    told = "; ".join(bar.note for bar in bars)
    return DrawnChart.of("classes", lambda name, width: class_bars(name, f"{title}: {told}.", bars, width), width_px)


def confusion_section(report: dict[str, Any]) -> dict[str, Any] | None:
    matrix, unlabelled = np.array(report["confusion"], np.int64), np.array(report["unlabelled"], np.int64)
    if not (matrix.any() or unlabelled.any()):
        return None
    names = label_set_of(report).class_names

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


def share_tile(name: str, value: float | None, meaning: str, main: bool = False) -> Tile | None:
    """A share in 0..1 as a tile in percent; None where there is none."""
    return None if value is None else Tile(name, f"{100 * value:.1f}", meaning, "%", main)


def _steady_meaning(scores: dict[str, Any]) -> str:
    if scores["miou"] is None:
        return (
            "Pixels that keep their label from one frame to the next; what moves in the picture counts as change too."
        )
    return "Pixels that keep their label from one frame to the next, where the truth does."


def _name(each: dict[str, Any]) -> str:
    return str(each["name"]).replace("_", " ")


def _note(each: dict[str, Any]) -> str:
    """A class in words, as far as it is known."""
    known = (
        ("iou", "IoU {}"),
        ("truth_share", "{} of the truth"),
        ("predicted_share", "{} of the labels"),
        ("confidence", "confidence {}"),
    )
    told = (words.format(percent(each[key])) for key, words in known if each.get(key) is not None)
    return f"{_name(each)}: {', '.join(told)}"
