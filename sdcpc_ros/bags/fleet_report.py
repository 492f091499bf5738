"""One report over many bags: what became of each, and the scores of all their frames together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.markup import escape
from rich.table import Table

from sdcpc_ros.bags.fleet import Outcome
from sdcpc_ros.evaluation.gates import Gate, missed_gates
from sdcpc_ros.evaluation.metrics import ConfusionMatrix
from sdcpc_ros.evaluation.report_file import ReportError, read_report

FLEET_FORMAT = "sdcpc fleet evaluation 1"
_COLUMNS = (("mIoU", "miou"), ("mVC8", "mvc8"), ("mVC16", "mvc16"), ("steady", "steady"), ("confidence", "confidence"))


def fleet_report(outcomes: Sequence[Outcome], gates: Sequence[Gate], output: Path) -> dict[str, Any]:
    """For JSON: each bag in the order it was given in, and the pooled scores of those that did not fail.

    IoU is pooled by pixels; mVC is the mean over all windows, steadiness and confidence over all frames. Shares in
    0..1, None where there was nothing to judge.
    """
    pool, entries = _Pool(), []
    for outcome in outcomes:
        report, status, problem = None, outcome.status, outcome.problem
        if status != "failed":
            try:
                report = read_report(outcome.job.files.report)
            except (OSError, ReportError) as error:
                status, problem = "failed", f"its report cannot be read back: {error}"
        entry: dict[str, Any] = {
            "name": outcome.job.output.name,
            "path": str(outcome.job.bag),
            "status": status,
            "problem": problem,
        }
        if report is not None:
            pool.add(report)
            entry["report"] = outcome.job.files.report.relative_to(output).as_posix()
            entry["page"] = outcome.job.files.page.relative_to(output).as_posix()
            entry["scores"] = report["scores"]
            entry["unusable"] = report["bag"]["unusable"]
            entry["labels_sha256"] = report["labels_sha256"]
            entry["missed"] = missed_gates(gates, report)
        entries.append(entry)
    return {
        "format": FLEET_FORMAT,
        "bags": entries,
        "failed": sum(entry["status"] == "failed" for entry in entries),
        "missed": sum(bool(entry.get("missed")) for entry in entries),
        **pool.summary(),
    }


class _Pool:
    """The scores of several reports as if they were one."""

    def __init__(self) -> None:
        self._confusion: ConfusionMatrix | None = None
        self._label_set: dict[str, Any] = {}
        self._judged = self._frames = 0
        self._sums: dict[str, tuple[float, int]] = dict.fromkeys(("mvc8", "mvc16", "steady", "confidence"), (0.0, 0))

    def add(self, report: dict[str, Any]) -> None:
        matrix = np.array(report["confusion"], np.int64)
        one = ConfusionMatrix(len(matrix))
        one.matrix, one.unlabelled = matrix, np.array(report["unlabelled"], np.int64)
        if self._confusion is None:
            self._confusion, self._label_set = one, report["model"]["label_set"]
        else:
            self._confusion.merge(one)
        self._frames += report["scores"]["frames"]
        self._judged += report["scores"]["judged_frames"]
        for name, (total, count) in self._sums.items():
            values = [value for value in report["frames"][name] if value is not None]
            self._sums[name] = total + math.fsum(values), count + len(values)

    def summary(self) -> dict[str, Any]:
        if self._confusion is None:
            return {"scores": None, "classes": []}
        scores = {
            "frames": self._frames,
            "judged_frames": self._judged,
            "miou": _rounded(self._confusion.miou()),
            "weighted_iou": _rounded(self._confusion.weighted_iou()),
            **{name: _rounded(total / count) if count else None for name, (total, count) in self._sums.items()},
        }
        names = self._label_set["class_names"]
        classes = [
            {"name": name, "colour": colour, "iou": _rounded(iou)}
            for name, colour, iou in zip(names, self._label_set["colours"], self._confusion.iou())
        ]
        return {
            "scores": scores,
            "classes": classes,
            "confusion": self._confusion.matrix.tolist(),
            "unlabelled": self._confusion.unlabelled.tolist(),
        }


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


def _rounded(value: float) -> float | None:
    return None if math.isnan(value) else round(float(value), 6)
