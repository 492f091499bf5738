"""Scores a stream of labels, with or without ground truth: totals, and a row for every frame."""

from __future__ import annotations

import hashlib
import math
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sdcpc_ros.evaluation.metrics import ConfusionMatrix, FlickerMap, TemporalConsistency, VideoConsistency
from sdcpc_ros.labels.label_set import LabelSet

_DIGITS = 6  # of shares: a millionth is less than a pixel


@dataclass
class FrameLog:
    """Numbers of each frame, by column; a few hundred bytes a frame. None where there is no value.

    The three pixel counts are flat, with C entries a frame. They give every IoU for any choice of frames.
    """

    number: list[int] = field(default_factory=list)  #: of the image on its topic, from 0
    stamp_ns: list[int] = field(default_factory=list)
    miou: list[float | None] = field(default_factory=list)  #: over the classes in the frame's truth
    mvc8: list[float | None] = field(default_factory=list)  #: of the window of 8 frames that ends here
    mvc16: list[float | None] = field(default_factory=list)
    steady: list[float | None] = field(default_factory=list)  #: share of pixels that keep their label, see FlickerMap
    confidence: list[float | None] = field(default_factory=list)  #: mean over the pixels
    references: list[int] = field(default_factory=list)  #: earlier frames that were used
    reset: list[str | None] = field(default_factory=list)  #: why the memory was emptied before this frame
    intersection: array[int] = field(default_factory=lambda: array("q"))  #: pixels, flat (frames, C)
    truth: array[int] = field(default_factory=lambda: array("q"))
    predicted: array[int] = field(default_factory=lambda: array("q"))  #: of those with a truth

    def __len__(self) -> int:
        return len(self.number)

    def to_dict(self) -> dict[str, Any]:
        return {name: list(column) for name, column in vars(self).items()}


class Scorer:
    """Scores labels, with or without ground truth, of bags, data sets and live runs; memory grows by a log row a frame.

    mVC windows and TC pairs that contain a frame without ground truth are left out. `mvc_modes` as VideoConsistency.
    """

    def __init__(self, label_set: LabelSet, mvc_modes: tuple[str, ...] = ("clean",)) -> None:
        self.label_set = label_set
        self.log = FrameLog()
        self.confusion = ConfusionMatrix(len(label_set))
        self.flicker = FlickerMap()
        self.tc = TemporalConsistency(len(label_set))
        self.mvc = {(n, mode): VideoConsistency(n, mode) for n in (8, 16) for mode in mvc_modes}
        self.judged = 0  #: frames with a ground truth
        self._last: tuple[np.ndarray, np.ndarray, np.ndarray | None] | None = None  # labels and flow, if known
        self._pixels = np.zeros(256, np.int64)  # of all frames, by label
        self._confidence_sum = np.zeros(256)  # by label
        self._digest = hashlib.sha256().digest()

    def update(
        self,
        labels: np.ndarray,
        truth: np.ndarray | None,
        confidence: np.ndarray | None = None,
        *,
        number: int | None = None,
        stamp_ns: int = 0,
        references: int = 0,
        reset: str | None = None,
        flow: np.ndarray | None = None,
        flow_valid: np.ndarray | None = None,
    ) -> None:
        """Scores the next frame: labels and truth (H, W) uint8 ids, 255 for none; confidence (H, W) uint8, 255 is 1.

        `reset`: why the stream begins anew with this frame; None if it continues. `flow` (H, W, 2), px, to the next
        frame, and `flow_valid` (H, W) bool, as TemporalConsistency takes them.
        Raises ValueError, and counts nothing of the frame, if truth and labels cannot be compared.
        """
        frame = ConfusionMatrix(len(self.label_set))
        if truth is not None:
            frame.update(truth, labels)
        if reset is not None:
            self.interrupt()
        self.confusion.merge(frame)
        self._digest = hashlib.sha256(self._digest + labels.tobytes()).digest()
        self.judged += truth is not None
        self._pixels += np.bincount(labels.ravel(), minlength=256)
        if confidence is not None:
            self._confidence_sum += np.bincount(labels.ravel(), weights=confidence.ravel(), minlength=256) / 255

        log = self.log
        log.number.append(len(log) if number is None else number)
        log.stamp_ns.append(stamp_ns)
        log.references.append(references)
        log.reset.append(reset)
        log.miou.append(rounded(frame.miou()))
        shares: dict[tuple[int, str], float | None] = {}
        if truth is None:
            self._end_windows()
        else:
            if self._last is not None:
                self.tc.update(self._last[0], labels, *self._last[1:])
            self._last = None if flow is None else (labels, flow, flow_valid)
            shares = {which: consistency.update(truth, labels) for which, consistency in self.mvc.items()}
        log.mvc8.append(rounded(shares.get((8, "clean"))))
        log.mvc16.append(rounded(shares.get((16, "clean"))))
        log.steady.append(rounded(self.flicker.update(labels, truth)))
        log.confidence.append(None if confidence is None else rounded(float(confidence.mean()) / 255))
        log.intersection.extend(np.diag(frame.matrix).tolist())
        log.truth.extend(frame.truth_pixels().tolist())
        log.predicted.extend(frame.matrix.sum(axis=0).tolist())

    def interrupt(self) -> None:
        """The next frame does not continue the last one."""
        self.flicker.break_stream()
        self._end_windows()

    def scores(self) -> dict[str, Any]:
        """The totals; shares in 0..1, None where nothing could be judged."""
        return {
            "frames": len(self.log),
            "judged_frames": self.judged,
            "miou": rounded(self.confusion.miou()),
            "weighted_iou": rounded(self.confusion.weighted_iou()),
            **{f"mvc{n}": rounded(self.mvc[n, "clean"].value()) for n in (8, 16)},
            "steady": mean(self.log.steady),
            "confidence": mean(self.log.confidence),
        }

    def classes(self) -> list[dict[str, Any]]:
        """Each class with its IoU, its share of the true and of the predicted pixels, and its mean confidence."""
        truth, total = self.confusion.truth_pixels(), max(1, int(self._pixels.sum()))
        judged, pixels = int(truth.sum()), self._pixels
        return [
            {
                "name": name,
                "colour": list(self.label_set.colours[index]),
                "iou": rounded(iou),
                "truth_share": rounded(truth[index] / judged) if judged else None,
                "predicted_share": rounded(pixels[index] / total),
                "confidence": rounded(self._confidence_sum[index] / pixels[index]) if pixels[index] else None,
            }
            for index, (name, iou) in enumerate(zip(self.label_set.class_names, self.confusion.iou().tolist()))
        ]

    def labels_sha256(self) -> str:
        """A digest of all label images so far: each frame's is SHA-256 of the digest before and the frame's labels."""
        return self._digest.hex()

    def report(self) -> dict[str, Any]:
        """All of it, for a report in JSON."""
        numbered = zip(self.log.number, self.log.reset)
        return {
            "labels_sha256": self.labels_sha256(),
            "scores": self.scores(),
            "classes": self.classes(),
            "confusion": self.confusion.matrix.tolist(),
            "unlabelled": self.confusion.unlabelled.tolist(),
            "resets": [{"number": number, "cause": cause} for number, cause in numbered if cause is not None],
            "frames": self.log.to_dict(),
        }

    def _end_windows(self) -> None:
        self._last = None
        for consistency in self.mvc.values():
            consistency.end_video()


def mean(values: Iterable[float | None]) -> float | None:
    """Of the values that are not None, rounded; None if there is none."""
    known = [value for value in values if value is not None]
    return rounded(math.fsum(known) / len(known)) if known else None


def rounded(value: float | None) -> float | None:
    """A share with six digits; None for None and nan."""
    return None if value is None or math.isnan(value) else round(float(value), _DIGITS)
