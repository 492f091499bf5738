"""Selects the worst and the best frames of a stream in one pass."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from sdcpc_ros.evaluation.pictures import shrink


@dataclass(frozen=True)
class Extreme:
    """A selected frame, shrunk for display."""

    number: int
    value: float  #: of the measure
    image: np.ndarray  #: (h, w, 3) uint8 RGB
    labels: np.ndarray  #: (h, w) uint8
    truth: np.ndarray | None


class ExtremeFrames:
    """Keeps the `count` frames with the lowest, or highest, values that are at least `apart` frames from each other.

    Neighbouring frames look alike, so of close frames the more extreme one is kept. The selection is greedy: the first
    frame of the list is exact, later ones may not be.
    """

    def __init__(self, *, lowest: bool, count: int = 4, apart: int = 15, max_width: int = 480) -> None:
        self.lowest, self.count, self.apart, self.max_width = lowest, count, apart, max_width
        self._kept: list[Extreme] = []  # most extreme first

    def offer(self, value: float, number: int, image: np.ndarray, labels: np.ndarray, truth: np.ndarray | None) -> None:
        """Considers the next frame: image (H, W, 3) uint8 RGB, labels and truth (H, W) uint8."""
        rank = self._rank(value)
        rivals = [extreme for extreme in self._kept if abs(extreme.number - number) < self.apart]
        to_beat = rivals or (self._kept[-1:] if len(self._kept) == self.count else [])
        if any(rank >= self._rank(each.value) for each in to_beat):
            return
        small_truth = None if truth is None else shrink(truth, self.max_width)
        new = Extreme(number, value, shrink(image, self.max_width), shrink(labels, self.max_width), small_truth)
        others = [extreme for extreme in self._kept if abs(extreme.number - number) >= self.apart]
        self._kept = sorted([*others, new], key=lambda each: (self._rank(each.value), each.number))[: self.count]

    def frames(self) -> list[Extreme]:
        """The most extreme first."""
        return list(self._kept)

    def _rank(self, value: float) -> float:
        return value if self.lowest else -value


@dataclass(frozen=True)
class ReportPictures:
    """The images of an evaluation for its page."""

    worst: list[Extreme] = field(default_factory=list)  #: the worst first; by mIoU, or by confidence without a truth
    best: list[Extreme] = field(default_factory=list)  #: the best first
    #: (H, W) float32, label changes per frame by pixel in 0..1, nan where never judged; (0, 0) if there is none
    flicker: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    backdrop: np.ndarray | None = None  #: (h, w, 3) uint8 RGB, the first usable image, shrunk: to lay the map over
