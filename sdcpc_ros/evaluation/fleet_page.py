"""The page of a fleet: a line for each bag with a link to its own page, and the pooled scores."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sdcpc_ros.evaluation.pages.rendering import Section, count_noun, percent, write_page
from sdcpc_ros.evaluation.pages.scores import class_section, confusion_section, share_tiles

_COLUMNS = {"mean IoU": "miou", "mVC8": "mvc8", "mVC16": "mvc16", "steady": "steady"}


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
    table = {"head": ["bag", "frames", *_COLUMNS], "rows": [_row(entry) for entry in bags]}
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


def _row(entry: dict[str, Any]) -> dict[str, Any]:
    """A bag's line. The link is relative and begins with "./", so a bag's name is never taken for a URL scheme."""
    scores, missed = entry.get("scores"), entry.get("missed") or []
    known = [] if scores is None else [str(scores["frames"]), *(percent(scores[key]) for key in _COLUMNS.values())]
    return {
        "name": entry["name"],
        "page": f"./{quote(entry['page'], errors='replace')}" if "page" in entry else "",
        "cells": known or ["–"] * (1 + len(_COLUMNS)),
        "failed": entry["status"] == "failed" or bool(missed),
        "remark": "; ".join(missed) or entry["problem"],
    }
