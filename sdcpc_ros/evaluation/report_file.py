"""Reads, checks and writes the report of a bag's evaluation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sdcpc_ros.evaluation.gates import value_at
from sdcpc_ros.labels.label_set import LabelSet, LabelSetError
from sdcpc_ros.runtime.atomic_file import atomic_path

#: The format version in every report of a bag.
REPORT_FORMAT = "sdcpc bag evaluation 1"
_COLUMNS = ("number", "stamp_ns", "miou", "mvc8", "mvc16", "steady", "confidence", "references", "reset")
_COUNTS = ("intersection", "truth", "predicted")
#: Entries that a report must have, by their paths in it.
_NEEDED: dict[str, type] = {
    **dict.fromkeys(("bag.name", "bag.path", "bag.camera", "bag.camera_type", "bag.truth", "model.name"), str),
    "model.sha256": str,
    **dict.fromkeys(("model.model_size", "settings.void", "classes", "confusion", "unlabelled"), list),
    **dict.fromkeys(("versions", "scores"), dict),
    **{f"frames.{name}": list for name in (*_COLUMNS, *_COUNTS)},
}


class ReportError(ValueError):
    """A file is not a report of an evaluation, or reports cannot be compared."""


def read_report(path: str | Path) -> dict[str, Any]:
    """Reads and checks a report. Raises ReportError, or OSError if the file cannot be read."""
    try:
        report = json.loads(Path(path).read_bytes())
    except (ValueError, RecursionError) as error:  # not JSON, or not text
        raise ReportError(f"'{path}' is no report: it is not JSON ({error})") from None
    try:
        return check_report(report)
    except ReportError as error:
        raise ReportError(f"'{path}' is no report: {error}") from None


def check_report(report: Any) -> dict[str, Any]:
    """Returns the report if it has everything that pages and comparisons need. Raises ReportError."""
    if not isinstance(report, dict) or report.get("format") != REPORT_FORMAT:
        found = report.get("format") if isinstance(report, dict) else None
        raise ReportError(f"its format is {found!r}; '{REPORT_FORMAT}' is needed (`sdcpc evaluate-bag` writes it)")
    missing = [path for path, kind in _NEEDED.items() if not isinstance(value_at(report, path), kind)]
    if missing:
        raise ReportError(f"it lacks {', '.join(missing)}")
    try:
        classes = len(label_set_of(report))
    except (LabelSetError, KeyError, TypeError) as error:
        raise ReportError(f"it does not tell its classes: {error}") from None
    frames = report["frames"]
    count = len(frames["number"])
    if count == 0:
        raise ReportError("it holds no frame")
    expected = {**dict.fromkeys(_COLUMNS, count), **dict.fromkeys(_COUNTS, count * classes)}
    for name, length in expected.items():
        if len(frames[name]) != length:
            raise ReportError(f"frames.{name} has {len(frames[name])} entries; {length} are needed")
    try:
        np.array(frames["stamp_ns"], np.int64)
        for name in _COUNTS:
            counts(report, name)
        for name in set(_COLUMNS) - {"reset"}:
            column(report, name)
        frame_times_ms(report)
        shape = np.array(report["confusion"], np.int64).shape
    except (TypeError, ValueError, OverflowError, AttributeError) as error:
        raise ReportError(f"its frames hold something else than numbers ({error})") from None
    if shape != (classes, classes) or len(report["classes"]) != classes:
        raise ReportError(f"its confusion matrix or its classes are not those of {classes} classes")
    return report


def write_json(path: str | Path, values: dict[str, Any], indent: int | None = None) -> None:
    """Writes a JSON file atomically. Raises ValueError for nan, OSError."""
    text = json.dumps(values, indent=indent, allow_nan=False) + "\n"
    with atomic_path(path) as temporary:
        temporary.write_text(text)


def label_set_of(report: dict[str, Any]) -> LabelSet:
    return LabelSet.from_dict(report["model"]["label_set"])


def column(report: dict[str, Any], name: str) -> np.ndarray:
    """A column of the frames as (N,) float64, nan for None."""
    return floats(report["frames"][name], len(report["frames"]["number"]))


def floats(values: Sequence[float | None] | None, count: int) -> np.ndarray:
    """The values as (count,) float64, nan for None; all nan if there are not so many values."""
    return np.array(values if values is not None and len(values) == count else [None] * count, np.float64)


def frame_times_ms(report: dict[str, Any]) -> np.ndarray:
    """The time of each frame from image to labels, (N,) float64 ms; nan if the report has no such times."""
    return floats(report.get("timing", {}).get("frames_ms"), len(report["frames"]["number"]))


def counts(report: dict[str, Any], name: str) -> np.ndarray:
    """`intersection`, `truth` or `predicted`: pixels by frame and class, (N, C) int64."""
    return np.array(report["frames"][name], np.int64).reshape(len(report["frames"]["number"]), -1)
