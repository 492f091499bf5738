"""The metrics of a report as functions of sums over frames, for any choice of frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sdcpc_ros.evaluation.report_file import column, counts, frame_times_ms, label_set_of

_MEANS = {"mvc8": "mVC8", "mvc16": "mVC16", "steady": "Steady pixels", "confidence": "Confidence"}


@dataclass(frozen=True)
class Metric:
    """What one of the columns of `FrameMetrics.values` is."""

    name: str
    title: str
    unit: str = "%"
    better: int = 1  #: 1 if more is better, -1 if less is, 0 if neither


class FrameMetrics:
    """All metrics of a report, in the same order for every report of the same classes.

    `miou`, `weighted_iou`, `mvc8`, `mvc16`, `steady`, `confidence` and `iou.CLASS` are percent, `ms` the mean time a
    frame.
    """

    def __init__(self, report: dict[str, Any]) -> None:
        names = label_set_of(report).class_names
        means = [Metric(name, title, better=int(name != "confidence")) for name, title in _MEANS.items()]
        classes = [Metric(f"iou.{name}", name.replace("_", " ")) for name in names]
        time = Metric("ms", "Time per frame, mean", "ms", -1)
        self.metrics = (
            *(Metric("miou", "Mean IoU"), Metric("weighted_iou", "Weighted IoU")),
            *(*means, *classes, time),
        )
        self._classes = len(names)
        columns = [*(100 * column(report, name) for name in _MEANS), frame_times_ms(report)]
        sums = [part for values in columns for part in (np.nan_to_num(values), ~np.isnan(values))]
        pixels = [counts(report, name) for name in ("intersection", "truth", "predicted")]
        #: What is summed over frames, (N, K) float64: pixels by class, and the sum and number of the other values.
        self.columns = np.concatenate([*pixels, np.stack(sums, axis=1)], axis=1).astype(np.float64)

    def values(self, sums: np.ndarray) -> np.ndarray:
        """The metrics (..., M) of sums of `columns` (..., K), nan where nothing was judged."""
        pixels, rest = sums[..., : 3 * self._classes], sums[..., 3 * self._classes :]
        intersection, truth, predicted = np.split(pixels, 3, axis=-1)
        iou = np.where(truth > 0, _divided(intersection, truth + predicted - intersection), np.nan)
        miou = _divided(np.nansum(iou, axis=-1, keepdims=True), (~np.isnan(iou)).sum(axis=-1, keepdims=True))
        weighted = _divided(np.nansum(iou * truth, axis=-1, keepdims=True), truth.sum(axis=-1, keepdims=True))
        means = _divided(rest[..., ::2], rest[..., 1::2])
        return np.concatenate([100 * miou, 100 * weighted, means[..., :-1], 100 * iou, means[..., -1:]], axis=-1)

    def totals(self) -> np.ndarray:
        """The metrics over all frames, (M,)."""
        return self.values(self.columns.sum(axis=0))

    def influence(self) -> np.ndarray:
        """The totals less the totals without a frame, for each frame, (N, M); 0 where either is nan."""
        sums = self.columns.sum(axis=0)
        return np.nan_to_num(self.values(sums) - self.values(sums - self.columns))


def _divided(dividend: np.ndarray, divisor: np.ndarray) -> np.ndarray:
    """The quotient, nan where the divisor is 0."""
    return np.divide(dividend, divisor, out=np.full(np.shape(divisor), np.nan), where=divisor > 0)
