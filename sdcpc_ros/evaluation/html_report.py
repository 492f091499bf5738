"""The page of one bag's report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sdcpc_ros.evaluation.extreme_frames import ReportPictures
from sdcpc_ros.evaluation.pages.frame_pictures import extreme_sections, flicker_section
from sdcpc_ros.evaluation.pages.rendering import Section, count_noun, footer_of, seconds, spoken, write_page
from sdcpc_ros.evaluation.pages.scores import class_section, confusion_section, summary, tiles
from sdcpc_ros.evaluation.pages.time_sections import live_section, time_section
from sdcpc_ros.evaluation.report_file import check_report

_SHOWN_PROBLEMS = 20


def write_report(path: str | Path, report: dict[str, Any], pictures: ReportPictures | None = None) -> None:
    """Writes the page of a report, with `pictures` if given. Raises ReportError if the report is incomplete."""
    bag = check_report(report)["bag"]
    pictures = pictures or ReportPictures()
    classes, confusion = class_section(report["classes"]), confusion_section(report)
    write_page(
        path,
        title=f"{bag['name']}: segmentation report",
        kind="Segmentation of a recording",
        name=bag["name"],
        facts=[
            ("camera", bag["camera"]),
            ("frames", f"{report['scores']['frames']} in {seconds(bag['duration_s'])}"),
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


def configuration(report: dict[str, Any]) -> dict[str, str]:
    """What the report is of, and all settings that were made, by name."""
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
        **{spoken(name): str(value) for name, value in settings.items() if value not in (None, False)},
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
