"""Metrics as functions of sums over frames, for any choice of frames."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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
    slope: Callable[[np.ndarray], np.ndarray]  #: the gradient: sums (K,) -> (K,)

    def total(self) -> float:
        """Over all frames."""
        return float(self.value(self.columns.sum(axis=0)))

    def influence(self) -> np.ndarray:
        """The first-order effect of each frame on the total, (N,)."""
        return self.columns @ self.slope(self.columns.sum(axis=0))


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
        FrameMetric("miou", "Mean IoU", "%", 1, pixels, _miou, _miou_slope),
        FrameMetric("weighted_iou", "Weighted IoU", "%", 1, pixels, _weighted_iou, _weighted_iou_slope),
        _mean("mvc8", "mVC8", "%", 1, 100 * column(report, "mvc8")),
        _mean("mvc16", "mVC16", "%", 1, 100 * column(report, "mvc16")),
        _mean("steady", "Steady pixels", "%", 1, 100 * column(report, "steady")),
        _mean("confidence", "Confidence", "%", 0, 100 * column(report, "confidence")),
        _mean("ms", "Time a frame, mean", "ms", -1, milliseconds),
        *(_class_metric(pixels, name, index) for index, name in enumerate(names)),
    ]


def _mean(name: str, title: str, unit: str, better: int, values: np.ndarray) -> FrameMetric:
    known = ~np.isnan(values)
    columns = np.stack([np.where(known, values, 0), known], axis=1).astype(np.float64)
    return FrameMetric(name, title, unit, better, columns, _ratio, _ratio_slope)


def _ratio(sums: np.ndarray) -> np.ndarray:
    return _divided(sums[..., 0], sums[..., 1])


def _ratio_slope(sums: np.ndarray) -> np.ndarray:
    total, count = sums
    return np.array([1 / count, -total / count**2]) if count else np.zeros(2)


def _class_metric(pixels: np.ndarray, name: str, index: int) -> FrameMetric:
    def value(sums: np.ndarray) -> np.ndarray:
        return 100 * _iou(sums)[..., index]

    def slope(sums: np.ndarray) -> np.ndarray:
        return 100 * _iou_slopes(sums, np.eye(sums.size // 3)[index])

    return FrameMetric(f"iou.{name}", name.replace("_", " "), "%", 1, pixels, value, slope)


def _miou(sums: np.ndarray) -> np.ndarray:
    iou = _iou(sums)
    present = ~np.isnan(iou)
    return 100 * _divided(np.where(present, iou, 0).sum(axis=-1), present.sum(axis=-1))


def _miou_slope(sums: np.ndarray) -> np.ndarray:
    present = ~np.isnan(_iou(sums))
    return 100 * _iou_slopes(sums, present / max(1, present.sum()))


def _weighted_iou(sums: np.ndarray) -> np.ndarray:
    truth = np.split(sums, 3, axis=-1)[1]
    return 100 * _divided(np.nansum(_iou(sums) * truth, axis=-1), truth.sum(axis=-1))


def _weighted_iou_slope(sums: np.ndarray) -> np.ndarray:
    truth, iou = np.split(sums, 3)[1], _iou(sums)
    total = truth.sum()
    if total == 0:
        return np.zeros(sums.size)
    weighted = float(np.nansum(iou * truth)) / total
    slopes = _iou_slopes(sums, truth / total)
    slopes[truth.size : 2 * truth.size] += np.where(np.isnan(iou), 0, iou - weighted) / total
    return 100 * slopes


def _iou(sums: np.ndarray) -> np.ndarray:
    """IoU (..., C) of intersection, truth and predicted pixels (..., 3 C); nan where the truth holds none."""
    intersection, truth, predicted = np.split(sums, 3, axis=-1)
    return np.where(truth > 0, _divided(intersection, truth + predicted - intersection), np.nan)


def _iou_slopes(sums: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The gradient of the weighted sum of the classes' IoU, (3 C,)."""
    intersection, truth, predicted = np.split(sums, 3)
    union = np.where(truth > 0, truth + predicted - intersection, 1)
    weights = np.where(truth > 0, weights, 0)
    by_union = -weights * intersection / union**2
    return np.concatenate([weights / union - by_union, by_union, by_union])


def _divided(dividend: np.ndarray, divisor: np.ndarray) -> np.ndarray:
    divisor = np.asarray(divisor, np.float64)
    return np.divide(dividend, divisor, out=np.full(divisor.shape, np.nan), where=divisor > 0)
