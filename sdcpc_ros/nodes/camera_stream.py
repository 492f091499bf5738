"""One camera: the newest image that waits, and counters of what happened. No ROS in here.

The executor's thread offers images, the worker's thread takes them and reports the outcome; a lock guards both.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sdcpc_ros.images.decoding import ImageFormat

#: Why a good image was not segmented: a newer one came while it waited, or the node was deactivated.
DROP_CAUSES = ("newer", "deactivated")
#: Images over which stage times are summarised: half a minute at 10 Hz.
TIMING_WINDOW = 300
_WARNING_PERIOD_S = 5.0


@dataclass(frozen=True)
class ReceivedImage:
    """A checked image message that waits or is being segmented."""

    message: Any
    format: ImageFormat
    stamp_ns: int  # of the header, in the camera's time
    received_s: float  # steady clock

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)"""
        return self.format.height, self.format.width

    @property
    def stamp_s(self) -> float:
        return self.stamp_ns / 1e9  # not * 1e-9: offline evaluation divides too, and ages must be equal to the last bit


@dataclass(frozen=True)
class StreamStatus:
    """What happened to one camera since it was configured; a copy. Times are of the steady clock.

    The counts have the names that /diagnostics shows: "received", "processed", "lost to faults", "camera_info refused",
    and by cause "dropped: CAUSE" (DROP_CAUSES), "rejected: CAUSE" (BadImage.CAUSES), "resets: CAUSE" (RESET_CAUSES).
    """

    counts: Counter[str] = field(default_factory=Counter)
    active_since_s: float | None = None  # None while the node is not active
    last_received_s: float | None = None
    input_age_s: float | None = None  # of the last image on arrival: the node's clock minus the header's stamp
    stage_ms: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # stage -> p50, p95 over the last images
    batch: tuple[int, int] | None = None  # p50 and largest over the last images: how many ran at once with each

    def silent_s(self, now_s: float) -> float | None:
        """Seconds without an image while the node is active; None while it is not."""
        if self.active_since_s is None:
            return None
        return now_s - max(self.last_received_s or 0.0, self.active_since_s)


class CameraStream:
    """The slot for the newest image of one camera, and its counters. A newer image replaces the one that waits."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._lock = threading.Lock()
        self._waiting: ReceivedImage | None = None
        self._counts: Counter[str] = Counter()
        self._active_since_s: float | None = None
        self._last_received_s: float | None = None
        self._input_age_s: float | None = None
        self._stages: dict[str, deque[float]] = {}
        self._batches: deque[int] = deque(maxlen=TIMING_WINDOW)
        self._warned_s: dict[str, float] = {}

    def activate(self, now_s: float) -> None:
        with self._lock:
            self._active_since_s = now_s

    def deactivate(self) -> None:
        """Drops the image that waits; the counts stay."""
        with self._lock:
            self._active_since_s = None
            self._drop_waiting("deactivated")

    def offer(self, image: ReceivedImage, input_age_s: float | None = None) -> None:
        """Puts an image into the slot; one that still waits there counts as dropped."""
        with self._lock:
            self._note_arrival(image.received_s)
            self._input_age_s = input_age_s
            self._drop_waiting("newer")
            self._waiting = image

    def waiting(self) -> ReceivedImage | None:
        """The image in the slot, which stays there and may be replaced by a newer one."""
        with self._lock:
            return self._waiting

    def take(self, accepts: Callable[[ReceivedImage], bool] = lambda image: True) -> ReceivedImage | None:
        """Empties the slot and returns its image; None if there is none, or none that `accepts` returns True for."""
        with self._lock:
            image = self._waiting
            if image is None or not accepts(image):
                return None
            self._waiting = None
            return image

    def count(self, what: str, received_s: float | None = None) -> None:
        """Adds one to a count of `StreamStatus`. received_s: of an image that was not offered; it arrived too."""
        with self._lock:
            if received_s is not None:
                self._note_arrival(received_s)
            self._counts[what] += 1

    def count_processed(self, stage_ms: Mapping[str, float], batch: int = 1) -> None:
        """Counts an image whose mask was published. batch: how many images ran at once with it."""
        with self._lock:
            self._counts["processed"] += 1
            self._batches.append(batch)
            for stage, milliseconds in stage_ms.items():
                self._stages.setdefault(stage, deque(maxlen=TIMING_WINDOW)).append(milliseconds)

    def may_warn(self, cause: str, now_s: float) -> bool:
        """Whether a warning of this cause is due: one in five seconds, as a broken camera must not flood /rosout."""
        with self._lock:
            last = self._warned_s.get(cause)
            if last is not None and now_s - last < _WARNING_PERIOD_S:
                return False
            self._warned_s[cause] = now_s
            return True

    def status(self) -> StreamStatus:
        with self._lock:
            stages = {stage: list(times) for stage, times in self._stages.items()}
            batches = list(self._batches)
            facts = self._counts.copy(), self._active_since_s, self._last_received_s, self._input_age_s
        # Sorting is done outside the lock: the worker must not wait for it.
        return StreamStatus(
            *facts,
            stage_ms={stage: _p50_p95(times) for stage, times in stages.items()},
            batch=(sorted(batches)[len(batches) // 2], max(batches)) if batches else None,
        )

    def _note_arrival(self, received_s: float) -> None:
        self._counts["received"] += 1
        self._last_received_s = received_s

    def _drop_waiting(self, cause: str) -> None:
        if self._waiting is not None:
            self._counts[f"dropped: {cause}"] += 1
        self._waiting = None


def _p50_p95(times: list[float]) -> tuple[float, float]:
    p50, p95 = np.percentile(times, (50, 95))
    return float(p50), float(p95)
