"""The images of an evaluation for its page."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from sdcpc_ros.evaluation.extreme_frames import Extreme


@dataclass(frozen=True)
class ReportPictures:
    """Images that `evaluate_bag` keeps."""

    worst: list[Extreme] = field(default_factory=list)  #: the worst first; by mIoU, or by confidence without a truth
    best: list[Extreme] = field(default_factory=list)  #: the best first
    #: (H, W) float32, label changes per frame by pixel in 0..1, nan where never judged; (0, 0) if there is none
    flicker: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    backdrop: np.ndarray | None = None  #: (h, w, 3) uint8 RGB, the first usable image, shrunk: to lay the map over
