"""One camera: the newest image that waits, and counters of what happened. No ROS in here.

The executor's thread offers images, the worker's thread takes them and reports the outcome; a lock guards both.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
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
    """The counters of one camera since it was configured; a copy."""

    received: int = 0
    processed: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)  # by cause, DROP_CAUSES
    rejected: Mapping[str, int] = field(default_factory=dict)  # by BadImage cause
    resets: Mapping[str, int] = field(default_factory=dict)  # by cause, RESET_CAUSES
    faults: int = 0  # images lost to an exception
    bad_camera_info: int = 0
    last_received_s: float | None = None  # steady clock
    input_age_s: float | None = None  # of the last image on arrival: the node's clock minus the header's stamp
    stage_ms: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # stage -> p50, p95 over the last images
    batch: tuple[int, int] | None = None  # p50 and largest over the last images: how many ran at once with each


class CameraStream:
    """The slot for the newest image of one camera, and its counters. A newer image replaces the one that waits."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._lock = threading.Lock()
        self._waiting: ReceivedImage | None = None
        self._status = StreamStatus()  # without what `status` summarises
        self._stages: dict[str, deque[float]] = {}
        self._batches: deque[int] = deque(maxlen=TIMING_WINDOW)
        self._warned_s: dict[str, float] = {}

    def offer(self, image: ReceivedImage, input_age_s: float | None = None) -> None:
        """Puts an image into the slot; one that still waits there counts as dropped."""
        with self._lock:
            self._note_arrival(image.received_s)
            self._status = replace(self._status, input_age_s=input_age_s)
            if self._waiting is not None:
                self._status = replace(self._status, dropped=_plus_one(self._status.dropped, "newer"))
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

    def discard_waiting(self) -> None:
        """Drops the image that waits. For a node that is deactivated; the counters stay."""
        with self._lock:
            if self._waiting is not None:
                self._status = replace(self._status, dropped=_plus_one(self._status.dropped, "deactivated"))
            self._waiting = None

    def count_rejected(self, cause: str, received_s: float | None = None) -> None:
        """Counts a bad image. received_s: of an image that was not offered, which counts as an arrival too."""
        with self._lock:
            if received_s is not None:
                self._note_arrival(received_s)
            self._status = replace(self._status, rejected=_plus_one(self._status.rejected, cause))

    def count_reset(self, cause: str) -> None:
        """Counts that the frame buffer was emptied, by one of RESET_CAUSES."""
        with self._lock:
            self._status = replace(self._status, resets=_plus_one(self._status.resets, cause))

    def count_bad_camera_info(self) -> None:
        with self._lock:
            self._status = replace(self._status, bad_camera_info=self._status.bad_camera_info + 1)

    def count_fault(self) -> None:
        """Counts an image that was lost to an exception."""
        with self._lock:
            self._status = replace(self._status, faults=self._status.faults + 1)

    def count_processed(self, stage_ms: Mapping[str, float], batch: int = 1) -> None:
        """Counts an image whose mask was published. batch: how many images ran at once with it."""
        with self._lock:
            self._status = replace(self._status, processed=self._status.processed + 1)
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
            status = self._status
        # Sorting is done outside the lock: the worker must not wait for it.
        return replace(
            status,
            stage_ms={stage: _p50_p95(times) for stage, times in stages.items()},
            batch=(sorted(batches)[len(batches) // 2], max(batches)) if batches else None,
        )

    def _note_arrival(self, received_s: float) -> None:
        self._status = replace(self._status, received=self._status.received + 1, last_received_s=received_s)


def _plus_one(counts: Mapping[str, int], cause: str) -> dict[str, int]:
    return {**counts, cause: counts.get(cause, 0) + 1}


def _p50_p95(times: list[float]) -> tuple[float, float]:
    p50, p95 = np.percentile(times, (50, 95))
    return float(p50), float(p95)
