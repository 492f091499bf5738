"""The received images of one camera, and counters of their outcomes. No ROS in here."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Mapping
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
    """The counts and times of one camera since it was configured; a copy. Times are of the steady clock.

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
    """The name of one camera, and the counts and times of its images since it was configured. Thread-safe."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.active_since_s: float | None = None  # as in StreamStatus
        self.input_age_s: float | None = None
        self._last_received_s: float | None = None
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._stages: dict[str, deque[float]] = {}
        self._batches: deque[int] = deque(maxlen=TIMING_WINDOW)
        self._due_s: dict[str, float] = {}  # when a warning of each cause may come again

    def count_received(self, now_s: float) -> None:
        self._last_received_s = now_s
        self.count("received")

    def count(self, what: str) -> None:
        """Adds one to a count of `StreamStatus`."""
        with self._lock:
            self._counts[what] += 1

    def count_processed(self, stage_ms: Mapping[str, float], batch: int = 1) -> None:
        """Counts an image whose mask was published. batch: how many images ran at once with it."""
        with self._lock:
            self._counts["processed"] += 1
            self._batches.append(batch)
            for stage, milliseconds in stage_ms.items():
                self._stages.setdefault(stage, deque(maxlen=TIMING_WINDOW)).append(milliseconds)

    def may_warn(self, cause: str, now_s: float) -> bool:
        """Whether a warning of this cause is due: one in five seconds, so a broken camera does not flood /rosout."""
        with self._lock:
            if now_s < self._due_s.get(cause, now_s):
                return False
            self._due_s[cause] = now_s + _WARNING_PERIOD_S
            return True

    def status(self) -> StreamStatus:
        with self._lock:
            stages = {stage: list(times) for stage, times in self._stages.items()}
            batches, counts = list(self._batches), self._counts.copy()
        # Sorted outside the lock, so that the worker does not wait.
        return StreamStatus(
            counts,
            self.active_since_s,
            self._last_received_s,
            self.input_age_s,
            stage_ms={stage: tuple(np.percentile(times, (50, 95)).tolist()) for stage, times in stages.items()},
            batch=(sorted(batches)[len(batches) // 2], max(batches)) if batches else None,
        )
