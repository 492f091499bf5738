"""The metrics of a report as functions of sums over its frames, and the bootstrap of such sums.

The circular block bootstrap (Politis and Romano 1992): neighbouring frames are correlated, so drawing single frames
would give intervals that are too narrow. Runs of consecutive frames are drawn instead, the same ones for all columns,
so that two models on the same frames stay paired.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from sdcpc_ros.evaluation.metrics import iou_of_counts
from sdcpc_ros.evaluation.report_file import column, counts, frame_times_ms, label_set_of

CHUNK_BYTES = 64 << 20  # of the table of how often each run was drawn
_MEANS = {"mvc8": "mVC8", "mvc16": "mVC16", "steady": "Steady pixels", "confidence": "Confidence"}


@dataclass(frozen=True)
class Metric:
    """A column of `FrameMetrics.values`."""

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
        overall = [Metric("miou", "Mean IoU"), Metric("weighted_iou", "Weighted IoU")]
        self.metrics = (*overall, *means, *classes, time)
        self._classes = len(names)
        columns = [*(100 * column(report, name) for name in _MEANS), frame_times_ms(report)]
        sums = [part for values in columns for part in (np.nan_to_num(values), ~np.isnan(values))]
        pixels = [counts(report, name) for name in ("intersection", "truth", "predicted")]
        #: The terms of the sums, (N, K) float64: pixels by class, and the sum and number of the other values.
        self.columns = np.concatenate([*pixels, np.stack(sums, axis=1)], axis=1).astype(np.float64)

    def values(self, sums: np.ndarray) -> np.ndarray:
        """The metrics (..., M) of sums of `columns` (..., K), nan where nothing was judged."""
        pixels, rest = sums[..., : 3 * self._classes], sums[..., 3 * self._classes :]
        intersection, truth, predicted = np.split(pixels, 3, axis=-1)
        iou = iou_of_counts(intersection, truth, predicted)
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


def resampled_sums(columns: np.ndarray, *, block: int, replicates: int, seed: int) -> np.ndarray:
    """Sums over resampled frames: columns (N, K) float64 -> (replicates, K).

    Each draw takes N frames in runs of `block`, the last run cut to fit; a run may begin at any frame and go on at the
    first after the last. Raises ValueError for a block that is not between 1 and N.
    """
    frames = len(columns)
    if not 1 <= block <= frames:
        raise ValueError(f"blocks of {block} frames cannot be drawn from {frames}")
    runs = -(-frames // block)
    whole, last = _run_sums(columns, block), _run_sums(columns, frames - (runs - 1) * block)
    random = np.random.default_rng(seed)
    starts = random.integers(0, frames, (replicates, runs))
    sums = last[starts[:, -1]]
    chunk = max(1, CHUNK_BYTES // (8 * frames))
    for first in range(0, replicates, chunk):
        drawn = starts[first : first + chunk, :-1]
        rows = np.arange(len(drawn))[:, None] * frames
        times = np.bincount((rows + drawn).ravel(), minlength=len(drawn) * frames).reshape(len(drawn), frames)
        sums[first : first + chunk] += times.astype(np.float64) @ whole
    return sums


def block_length(series: np.ndarray) -> int:
    """The length of the runs for the mean of a series (N,).

    The automatic choice of Politis and White (2004), as corrected by Patton, Politis and White (2009) for the circular
    bootstrap: 1 for noise, longer for a longer correlation; at most a third of the series.
    """
    count = len(series)
    most = max(1, int(min(math.ceil(3 * math.sqrt(count)), count // 3)))
    centred = series - series.mean()
    variance = float(centred @ centred) / count
    if count < 4 or variance <= 0:
        return 1
    # The largest significant lag: the lags after it are insignificant for a while.
    calm = max(5, math.ceil(math.sqrt(math.log10(count))))
    last_lag = min(count - 1, math.ceil(math.sqrt(count)) + calm)
    covariance = np.array([float(centred[: count - lag] @ centred[lag:]) / count for lag in range(last_lag + 1)])
    bound = 2 * math.sqrt(math.log10(count) / count) * variance
    insignificant = np.abs(covariance[1:]) < bound
    lag = next((first for first in range(len(insignificant)) if insignificant[first : first + calm].all()), last_lag)
    width = min(2 * max(1, lag), last_lag)
    lags = np.arange(1, width + 1)
    window = np.clip(2 * (1 - lags / width), 0, 1)  # flat to the half, then falling
    spread = covariance[0] + 2 * float(window @ covariance[1 : width + 1])
    bias = 2 * float((window * lags) @ covariance[1 : width + 1])
    if spread <= 0:
        return most
    best = (1.5 * (bias / spread) ** 2 * count) ** (1 / 3)
    return int(min(most, max(1, round(best))))


def _run_sums(columns: np.ndarray, length: int) -> np.ndarray:
    """The sum of each run of so many frames, by the frame that it begins with, (N, K)."""
    around = np.concatenate([np.zeros((1, columns.shape[1])), columns, columns[: length - 1]])
    totals = around.cumsum(axis=0)
    return totals[length:] - totals[: len(columns)]


def _divided(dividend: np.ndarray, divisor: np.ndarray) -> np.ndarray:
    """The quotient, nan where the divisor is 0."""
    return np.divide(dividend, divisor, out=np.full(np.shape(divisor), np.nan), where=divisor > 0)
