"""The page of one bag's report: one HTML file without scripts or links."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sdcpc_ros.evaluation.extreme_frames import ReportPictures
from sdcpc_ros.evaluation.pages.frame_pictures import extreme_groups, flicker_section
from sdcpc_ros.evaluation.pages.rendering import count_noun, css_colour, seconds, write_page
from sdcpc_ros.evaluation.pages.scores import class_section, confusion_section, spoken, summary, tiles
from sdcpc_ros.evaluation.pages.time_sections import live_section, time_section
from sdcpc_ros.evaluation.report_file import check_report, label_set_of

_SHOWN_PROBLEMS = 20


def write_report(path: str | Path, report: dict[str, Any], pictures: ReportPictures | None = None) -> None:
    """Writes the page of a report, with `pictures` if given. Raises ReportError if the report is incomplete."""
    bag, model, label_set = check_report(report)["bag"], report["model"], label_set_of(report)
    pictures = pictures or ReportPictures()
    problems = report.get("problems", [])[:_SHOWN_PROBLEMS]
    context = {
        "title": f"{bag['name']}: segmentation report",
        "bag": bag,
        "facts": [
            ("camera", bag["camera"]),
            ("frames", f"{report['scores']['frames']} in {seconds(bag['duration_s'])}"),
            ("model", model["name"]),
            ("ground truth", bag["truth"]),
        ],
        "summary": summary(report),
        "tiles": tiles(report),
        "classes": class_section(report["classes"]),
        "confusion": confusion_section(report),
        "timeline": time_section(report),
        "live": live_section(report),
        "extremes": extreme_groups(report, pictures),
        "legend": [
            (spoken(name), css_colour(colour)) for name, colour in zip(label_set.class_names, label_set.colours)
        ],
        "flicker": flicker_section(report, pictures),
        "problems": problems,
        "problems_title": _problems_title(bag["unusable"], len(problems)),
        "command": report.get("command", ""),
        "configuration": _configuration(report),
        "versions": list(report["versions"].items()),
        "topics_title": f"All {count_noun(len(bag['topics']), 'topic')} of the bag",
        "topics": [(name, kind, count) for name, (kind, count) in bag["topics"].items()],
        "footer": _footer(report),
    }
    write_page(path, "report.html.jinja", context)


def _problems_title(unusable: int, shown: int) -> str:
    text = count_noun(unusable, "image") + (" was" if unusable == 1 else " were") + " left out"
    return f"{text}. The first {shown}:" if shown < unusable else f"{text}:"


def _configuration(report: dict[str, Any]) -> list[tuple[str, str]]:
    bag, model, settings = report["bag"], report["model"], report["settings"]
    size = settings.get("input_size")
    start, duration = settings.get("start_s") or 0.0, settings.get("duration_s")
    part = "all of it" if duration is None and not start else f"from {start:g} s"
    if duration is not None:
        part += f" for {duration:g} s"
    height, width = size or model["model_size"]
    return [
        ("bag", bag["path"]),
        ("part of the bag", part),
        ("camera", f"{bag['camera']} ({bag['camera_type']})"),
        ("ground truth", bag["truth"]),
        ("ids without truth", ", ".join(map(str, [*settings.get("void", []), 255]))),
        ("model", model["name"]),
        ("model's SHA-256", model["sha256"]),
        ("label set", f"{model['label_set']['name']}, {count_noun(len(report['classes']), 'class', 'classes')}"),
        ("network input", f"{width} x {height} px" + ("" if size else ", or as many in the camera's shape")),
        ("device, backend", f"{settings['device']}, {settings['backend']}"),
        *([("precision", settings["precision"])] if settings.get("precision") else []),
        *([("threads", str(settings["threads"]))] if settings.get("threads") else []),
        *([("images evaluated", f"1 in {settings['every']}")] if settings.get("every", 1) > 1 else []),
        ("memory emptied after a gap of", f"{settings['max_gap_s']:g} s"),
        ("SHA-256 of all labels", report.get("labels_sha256", "not known")),
    ]


def _footer(report: dict[str, Any]) -> str:
    finished = report.get("timing", {}).get("finished")
    made = f"Made by sdcpc_ros {report['versions'].get('sdcpc_ros', '')}".strip()
    return f"{made}, {finished}." if finished else f"{made}."
