"""Metrics as functions of sums over frames, for any choice of frames."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from sdcpc_ros.evaluation.report_file import column, counts, label_set_of


@dataclass(frozen=True)
class FrameMetric:
    """A metric of a report, in percent or ms, as a function of the sums of columns over frames."""

    name: str
    title: str
    unit: str
    better: int  #: 1 if more is better, -1 if less is, 0 if neither
    columns: np.ndarray  #: (N, K) float64; several metrics may share them
    value: Callable[[np.ndarray], np.ndarray]  #: sums (..., K) -> (...), nan where nothing was judged

    def total(self) -> float:
        """Over all frames."""
        return float(self.value(self.columns.sum(axis=0)))

    def influence(self) -> np.ndarray:
        """The total less the total without a frame, for each frame (N,); 0 where either is nan."""
        sums = self.columns.sum(axis=0)
        return np.nan_to_num(self.value(sums) - self.value(sums - self.columns))


def frame_metrics(report: dict[str, Any]) -> list[FrameMetric]:
    """All metrics of a report, in the same order for every report; the value of a missing one is nan.

    `miou`, `weighted_iou`, `mvc8`, `mvc16`, `steady`, `confidence` and `iou.CLASS` are percent, `ms` the mean time a
    frame.
    """
    pixels = np.concatenate([counts(report, name) for name in ("intersection", "truth", "predicted")], axis=1)
    pixels = pixels.astype(np.float64)
    names = label_set_of(report).class_names
    elapsed = report.get("timing", {}).get("frames_ms")
    frames = len(report["frames"]["number"])
    milliseconds = np.array(elapsed, np.float64) if elapsed and len(elapsed) == frames else np.full(frames, np.nan)
    return [
        FrameMetric("miou", "Mean IoU", "%", 1, pixels, _miou),
        FrameMetric("weighted_iou", "Weighted IoU", "%", 1, pixels, _weighted_iou),
        _mean("mvc8", "mVC8", "%", 1, 100 * column(report, "mvc8")),
        _mean("mvc16", "mVC16", "%", 1, 100 * column(report, "mvc16")),
        _mean("steady", "Steady pixels", "%", 1, 100 * column(report, "steady")),
        _mean("confidence", "Confidence", "%", 0, 100 * column(report, "confidence")),
        *(
            FrameMetric(f"iou.{name}", name.replace("_", " "), "%", 1, pixels, partial(_class_iou, index, len(names)))
            for index, name in enumerate(names)
        ),
        _mean("ms", "Time per frame, mean", "ms", -1, milliseconds),
    ]


def _mean(name: str, title: str, unit: str, better: int, values: np.ndarray) -> FrameMetric:
    known = ~np.isnan(values)
    columns = np.stack([np.where(known, values, 0), known], axis=1).astype(np.float64)
    return FrameMetric(name, title, unit, better, columns, lambda sums: _divided(sums[..., 0], sums[..., 1]))


def _miou(sums: np.ndarray) -> np.ndarray:
    iou = _iou(sums)
    return 100 * _divided(np.nansum(iou, axis=-1), (~np.isnan(iou)).sum(axis=-1))


def _weighted_iou(sums: np.ndarray) -> np.ndarray:
    truth = np.split(sums, 3, axis=-1)[1]
    return 100 * _divided(np.nansum(_iou(sums) * truth, axis=-1), truth.sum(axis=-1))


def _class_iou(index: int, classes: int, sums: np.ndarray) -> np.ndarray:
    return 100 * _iou(sums[..., index::classes])[..., 0]


def _iou(sums: np.ndarray) -> np.ndarray:
    """IoU (..., C) of intersection, truth and predicted pixels (..., 3 C); nan where the truth holds none."""
    intersection, truth, predicted = np.split(sums, 3, axis=-1)
    return np.where(truth > 0, _divided(intersection, truth + predicted - intersection), np.nan)


def _divided(dividend: np.ndarray, divisor: np.ndarray) -> np.ndarray:
    """The quotient, nan where the divisor is 0."""
    return np.divide(dividend, divisor, out=np.full(np.shape(divisor), np.nan), where=divisor > 0)
