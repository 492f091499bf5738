"""Scores of one stream of labels, with or without ground truth: totals, and a row for every frame."""

from __future__ import annotations

import hashlib
import math
from array import array
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sdcpc_ros.evaluation.flicker import FlickerMap
from sdcpc_ros.evaluation.metrics import ConfusionMatrix, VideoConsistency
from sdcpc_ros.label_set import IGNORE, LabelSet

_DIGITS = 6  # of shares in the rows: a millionth is a fraction of a pixel


@dataclass
class FrameLog:
    """What is known of each frame, by column; a few hundred bytes a frame. None where there is nothing to tell.

    The three pixel counts by class, of which every IoU can be had for any choice of frames, lie flat: C for each frame.
    """

    number: list[int] = field(default_factory=list)  #: of the image on its topic, from 0
    stamp_ns: list[int] = field(default_factory=list)
    miou: list[float | None] = field(default_factory=list)  #: over the classes that the frame's truth holds
    mvc8: list[float | None] = field(default_factory=list)  #: share of the window of 8 frames that ends here
    mvc16: list[float | None] = field(default_factory=list)
    steady: list[float | None] = field(default_factory=list)  #: share of pixels that kept their label, see FlickerMap
    confidence: list[float | None] = field(default_factory=list)  #: mean over the pixels
    references: list[int] = field(default_factory=list)  #: earlier frames that took part
    reset: list[str | None] = field(default_factory=list)  #: why the memory was emptied before this frame
    intersection: array[int] = field(default_factory=lambda: array("q"))  #: pixels, flat (frames, C)
    truth: array[int] = field(default_factory=lambda: array("q"))
    predicted: array[int] = field(default_factory=lambda: array("q"))  #: of those that have a truth

    def __len__(self) -> int:
        return len(self.number)

    def to_dict(self) -> dict[str, Any]:
        return {name: list(column) for name, column in vars(self).items()}

    def counts(self, num_classes: int) -> np.ndarray:
        """Intersection, truth and predicted pixels by frame and class, (3, frames, C) int64."""
        return np.stack(
            [
                np.array(column, np.int64).reshape(len(self), num_classes)
                for column in (self.intersection, self.truth, self.predicted)
            ]
        )


class StreamScores:
    """Scores labels as they come, frame after frame; memory does not depend on the number of frames but for the log."""

    def __init__(self, label_set: LabelSet) -> None:
        self.label_set = label_set
        self.log = FrameLog()
        self.confusion = ConfusionMatrix(len(label_set))
        self.flicker = FlickerMap()
        self.judged = 0  #: frames with a ground truth
        self._consistency = {8: VideoConsistency(8), 16: VideoConsistency(16)}
        self._pixels = np.zeros(256, np.int64)  # of all frames, by label
        self._certainty = np.zeros(256)  # sum of confidence, by label
        self._digest = hashlib.sha256().digest()

    def update(
        self,
        labels: np.ndarray,
        truth: np.ndarray | None,
        confidence: np.ndarray | None,
        *,
        number: int,
        stamp_ns: int,
        references: int,
        reset: str | None,
    ) -> None:
        """The next frame: labels and truth (H, W) uint8 ids, 255 for none; confidence (H, W) uint8, 255 = certain.

        `reset` tells why the stream begins anew with this frame, None if it goes on.
        Raises ValueError, and has then counted nothing of it, when truth and labels cannot be compared.
        """
        frame = ConfusionMatrix(len(self.label_set))
        if truth is not None:
            frame.update(truth, labels)
        if reset is not None:
            self.flicker.break_stream()
            for consistency in self._consistency.values():
                consistency.end_video()
        self.confusion.merge(frame)
        self._digest = hashlib.sha256(self._digest + labels.tobytes()).digest()
        self.judged += truth is not None
        self._count_classes(labels, confidence)

        log = self.log
        log.number.append(number)
        log.stamp_ns.append(stamp_ns)
        log.references.append(references)
        log.reset.append(reset)
        log.miou.append(_rounded(frame.miou()))
        # A frame without truth is one of nothing but void: no window across it has pixels to judge.
        comparable = truth if truth is not None else np.full_like(labels, IGNORE)
        shares = {n: consistency.update(comparable, labels) for n, consistency in self._consistency.items()}
        log.mvc8.append(_rounded(shares[8]))
        log.mvc16.append(_rounded(shares[16]))
        log.steady.append(_rounded(self.flicker.update(labels, truth)))
        log.confidence.append(None if confidence is None else _rounded(float(confidence.mean()) / 255))
        log.intersection.extend(np.diag(frame.matrix).tolist())
        log.truth.extend(frame.truth_pixels().tolist())
        log.predicted.extend(frame.matrix.sum(axis=0).tolist())

    def scores(self) -> dict[str, Any]:
        """What sums the stream up; shares in 0..1, None where there was nothing to judge."""
        return {
            "frames": len(self.log),
            "judged_frames": self.judged,
            "miou": _rounded(self.confusion.miou()),
            "weighted_iou": _rounded(self.confusion.weighted_iou()),
            **{f"mvc{n}": _rounded(consistency.value()) for n, consistency in self._consistency.items()},
            "steady": _mean(self.log.steady),
            "confidence": _mean(self.log.confidence),
        }

    def classes(self) -> list[dict[str, Any]]:
        """Each class with its IoU, its share of the true and of the predicted pixels, and the confidence in it."""
        truth, total = self.confusion.truth_pixels(), max(1, int(self._pixels.sum()))
        judged = int(truth.sum())
        return [
            {
                "name": name,
                "colour": list(self.label_set.colours[index]),
                "iou": _rounded(iou),
                "truth_share": _rounded(truth[index] / judged) if judged else None,
                "predicted_share": _rounded(self._pixels[index] / total),
                "confidence": _rounded(self._certainty[index] / self._pixels[index]) if self._pixels[index] else None,
            }
            for index, (name, iou) in enumerate(zip(self.label_set.class_names, self.confusion.iou().tolist()))
        ]

    def labels_sha256(self) -> str:
        """A digest of every label image so far: equal digests, equal bytes.

        A chain, SHA-256 of the digest before and the frame's labels: unlike SHA-256 over all bytes, which no library
        lets out half way, it can be gone on with after a stop.
        """
        return self._digest.hex()

    def _count_classes(self, labels: np.ndarray, confidence: np.ndarray | None) -> None:
        flat = labels.ravel()
        self._pixels += np.bincount(flat, minlength=256)
        if confidence is not None:
            self._certainty += np.bincount(flat, weights=confidence.ravel(), minlength=256) / 255


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return _rounded(math.fsum(known) / len(known)) if known else None


def _rounded(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else round(float(value), _DIGITS)
