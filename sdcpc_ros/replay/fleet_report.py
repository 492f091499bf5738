"""One report over many bags: the status of each, and the pooled scores of all their frames."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.markup import escape
from rich.table import Table

from sdcpc_ros.evaluation.gates import Gate, missed_gates
from sdcpc_ros.evaluation.metrics import ConfusionMatrix
from sdcpc_ros.evaluation.report_file import ReportError, column, label_set_of, read_report
from sdcpc_ros.replay.fleet import Outcome

FLEET_FORMAT = "sdcpc fleet evaluation 1"
_MEANS = ("mvc8", "mvc16", "steady", "confidence")
_COLUMNS = (("mIoU", "miou"), ("mVC8", "mvc8"), ("mVC16", "mvc16"), ("steady", "steady"), ("confidence", "confidence"))


def fleet_report(outcomes: Sequence[Outcome], gates: Sequence[Gate], output: Path) -> dict[str, Any]:
    """For JSON: each bag in the given order, and the pooled scores of those that did not fail.

    IoU is pooled by pixels; mVC is the mean over all windows, steadiness and confidence over all frames. Shares in
    0..1, None where nothing could be judged.
    """
    reports, entries = [], []
    for outcome in outcomes:
        job, status, problem = outcome.job, outcome.status, outcome.problem
        found: dict[str, Any] = {}
        if status != "failed":
            try:
                report = read_report(job.report_path)
            except (OSError, ReportError) as error:
                status, problem = "failed", f"its report cannot be read back: {error}"
            else:
                reports.append(report)
                found = {
                    "report": job.report_path.relative_to(output).as_posix(),
                    "page": job.page_path.relative_to(output).as_posix(),
                    "scores": report["scores"],
                    "unusable": report["bag"]["unusable"],
                    "labels_sha256": report["labels_sha256"],
                    "missed": missed_gates(gates, report),
                }
        named = {"name": job.output.name, "path": str(job.bag)}
        entries.append({**named, "status": status, "problem": problem, **found})
    return {
        "format": FLEET_FORMAT,
        "bags": entries,
        "failed": sum(entry["status"] == "failed" for entry in entries),
        "missed": sum(bool(entry.get("missed")) for entry in entries),
        **_pool(reports),
    }


def _pool(reports: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The scores of several reports as if they were one."""
    if not reports:
        return {"scores": None, "classes": []}
    label_set = label_set_of(reports[0])
    confusion = ConfusionMatrix(len(label_set))
    for report in reports:
        confusion.matrix += np.array(report["confusion"], np.int64)
        confusion.unlabelled += np.array(report["unlabelled"], np.int64)
    scores = {
        "frames": sum(report["scores"]["frames"] for report in reports),
        "judged_frames": sum(report["scores"]["judged_frames"] for report in reports),
        "miou": _round(confusion.miou()),
        "weighted_iou": _round(confusion.weighted_iou()),
    }
    for name in _MEANS:
        values = np.concatenate([column(report, name) for report in reports])
        known = values[~np.isnan(values)].tolist()
        scores[name] = _round(math.fsum(known) / len(known)) if known else None
    classes = [
        {"name": name, "colour": list(colour), "iou": _round(iou)}
        for name, colour, iou in zip(label_set.class_names, label_set.colours, confusion.iou())
    ]
    matrix, unlabelled = confusion.matrix.tolist(), confusion.unlabelled.tolist()
    return {"scores": scores, "classes": classes, "confusion": matrix, "unlabelled": unlabelled}


def fleet_table(fleet: dict[str, Any]) -> Table:
    """A line for each bag and one for all; shares in percent."""
    table = Table(title=f"{len(fleet['bags'])} bags, {fleet['failed']} failed", title_justify="left")
    table.add_column("bag")
    for name in ("frames", *(title for title, _ in _COLUMNS)):
        table.add_column(name, justify="right")
    table.add_column("")
    for entry in fleet["bags"]:
        remark = "; ".join(entry.get("missed", [])) or entry["problem"] or entry["status"]
        style = "red" if entry["status"] == "failed" or entry.get("missed") else None
        table.add_row(escape(entry["name"]), *_cells(entry.get("scores")), escape(remark), style=style)
    table.add_section()
    table.add_row("all", *_cells(fleet["scores"]), "")
    return table


def _cells(scores: dict[str, Any] | None) -> list[str]:
    if scores is None:
        return ["-"] * (1 + len(_COLUMNS))
    shares = (scores[key] for _, key in _COLUMNS)
    return [str(scores["frames"]), *("-" if share is None else f"{100 * share:.2f}" for share in shares)]


def _round(value: float) -> float | None:
    return None if math.isnan(value) else round(float(value), 6)
