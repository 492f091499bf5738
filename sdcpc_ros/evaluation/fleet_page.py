"""The page of a fleet: a line for each bag with a link to its own page, and the pooled scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

from sdcpc_ros.evaluation.pages.rendering import count_noun, percent, write_page
from sdcpc_ros.evaluation.pages.scores import class_section, confusion_section, share_tiles

_COLUMNS = ("miou", "mvc8", "mvc16", "steady")


def write_fleet_report(path: str | Path, fleet: dict[str, Any]) -> None:
    """Writes the page of a fleet's report, as `sdcpc evaluate-bag` writes it to fleet.json."""
    scores, bags = fleet["scores"], fleet["bags"]
    judged = any(each["iou"] is not None for each in fleet["classes"])
    context = {
        "title": f"{count_noun(len(bags), 'bag')}: segmentation report",
        "heading": count_noun(len(bags), "bag"),
        "summary": _summary(fleet),
        "tiles": [] if scores is None else share_tiles(scores),
        "rows": [_row(entry) for entry in bags],
        "classes": class_section(fleet["classes"]) if judged else None,
        "confusion": confusion_section(fleet),
    }
    write_page(path, "fleet.html.jinja", context)


def _summary(fleet: dict[str, Any]) -> str:
    scores, sentences = fleet["scores"], []
    if scores is not None:
        sentences.append(
            f"{count_noun(scores['frames'], 'frame')} in all, {scores['judged_frames']} with a ground truth."
        )
    if fleet["failed"]:
        sentences.append(f"{count_noun(fleet['failed'], 'bag')} could not be evaluated.")
    if fleet["missed"]:
        sentences.append(f"{count_noun(fleet['missed'], 'bag')} missed a gate.")
    return " ".join(sentences)


def _row(entry: dict[str, Any]) -> dict[str, Any]:
    """A bag's line. The link is relative and begins with "./", so a bag's name is never taken for a URL scheme."""
    scores, missed = entry.get("scores"), entry.get("missed") or []
    return {
        "name": entry["name"],
        "page": f"./{quote(entry['page'], errors='replace')}" if "page" in entry else "",
        "cells": ["–"] * 5 if scores is None else [str(scores["frames"]), *(percent(scores[key]) for key in _COLUMNS)],
        "status": "failed" if entry["status"] == "failed" or missed else "passed",
        "remark": "; ".join(missed) or entry["problem"],
    }
