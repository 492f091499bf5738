"""One camera: the newest frame that waits, the rules of time, and what happened so far. No ROS in here.

The executor's thread offers frames, the worker's thread takes them and reports what became of them; a lock guards both.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from sdcpc_ros.streaming.continuity import break_between

#: Why a camera's frame buffer was emptied.
RESET_CAUSES = ("backward", "gap", "size", "encoding", "frame_id", "requested", "fault")
#: Why a good frame was not segmented: a newer one came while it waited, or the node stopped listening.
DROP_CAUSES = ("newer", "deactivated")
#: Frames over which stage times are summarised: half a minute at 10 Hz.
TIMING_WINDOW = 300
_WARNING_PERIOD_S = 5.0


@dataclass(frozen=True)
class Frame:
    """An image message that waits or is being worked on, and all that the rules below ask of it."""

    message: Any
    stamp_ns: int  # of the header, in the camera's time
    frame_id: str
    size: tuple[int, int]  # height, width
    encoding: str
    received_s: float  # steady clock

    @property
    def stamp_s(self) -> float:
        return self.stamp_ns / 1e9  # not * 1e-9: offline evaluation divides too, and ages must be equal to the last bit


@dataclass(frozen=True)
class StreamStatus:
    """What happened to one camera since it was configured; a copy, safe to read at leisure."""

    received: int = 0
    processed: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)  # by cause, DROP_CAUSES
    rejected: Mapping[str, int] = field(default_factory=dict)  # by BadImage cause
    resets: Mapping[str, int] = field(default_factory=dict)  # by cause, RESET_CAUSES
    faults: int = 0  # frames lost to an exception in the network
    bad_camera_info: int = 0
    last_received_s: float | None = None  # steady clock
    input_age_s: float | None = None  # of the last frame on arrival: the node's clock minus the header's stamp
    stage_ms: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # stage -> p50, p95 over the last frames
    batch: tuple[int, int] | None = None  # p50 and largest over the last frames: how many were run at once with each


class CameraStream:
    """The newest-frame slot, counters and time rules of one camera.

    One frame waits at most: a newer one replaces it and the older counts as dropped. Frames are judged against the last
    frame that the network saw, when they are taken, for that is the frame whose features they would be compared with.
    """

    def __init__(self, name: str, *, max_gap_s: float) -> None:
        self.name = name
        self.max_gap_s = max_gap_s
        self._lock = threading.Lock()
        self._waiting: Frame | None = None
        self._previous: Frame | None = None
        self._pending_reset: str | None = None
        self._received = 0
        self._processed = 0
        self._dropped: Counter[str] = Counter()
        self._faults = 0
        self._bad_camera_info = 0
        self._rejected: Counter[str] = Counter()
        self._resets: Counter[str] = Counter()
        self._last_received_s: float | None = None
        self._input_age_s: float | None = None
        self._stages: dict[str, deque[float]] = {}
        self._batches: deque[int] = deque(maxlen=TIMING_WINDOW)
        self._warned_s: dict[str, float] = {}

    def offer(self, frame: Frame, input_age_s: float | None = None) -> None:
        """Puts a frame that arrived where the worker finds it, in place of one that still waits there."""
        with self._lock:
            self._note_arrival(frame.received_s)
            self._input_age_s = input_age_s
            if self._waiting is not None:
                self._dropped["newer"] += 1
            self._waiting = frame

    def waiting(self) -> Frame | None:
        """The frame that waits, left where it is: by the time it is taken it may be a newer one."""
        with self._lock:
            return self._waiting

    def take(self, accepts: Callable[[Frame], bool] = lambda frame: True) -> Frame | None:
        """The frame that waits, which then waits no longer; None when there is none, or none that is accepted."""
        with self._lock:
            frame = self._waiting
            if frame is None or not accepts(frame):
                return None
            self._waiting = None
            return frame

    def follow(self, frame: Frame) -> str | None:
        """Makes `frame` the one that the next is judged by; the cause if the frame buffer must be emptied before it."""
        with self._lock:
            previous, self._previous = self._previous, replace(frame, message=None)
            cause, self._pending_reset = self._pending_reset, None
            if cause is None and previous is not None:
                cause = break_between(previous, frame, self.max_gap_s)
            if cause is not None:
                self._resets[cause] += 1
            return cause

    def request_reset(self) -> None:
        """Has the buffer emptied before the next frame."""
        with self._lock:
            self._pending_reset = "requested"

    def forget(self) -> None:
        """Drops what waits and what was last seen; the counters stay. For a node that stops listening."""
        with self._lock:
            if self._waiting is not None:
                self._dropped["deactivated"] += 1
            self._waiting = self._previous = self._pending_reset = None

    def count_rejected(self, cause: str, received_s: float | None = None) -> None:
        """Counts a bad image; with `received_s` as an arrival too, if it was found to be bad before it was offered."""
        with self._lock:
            if received_s is not None:
                self._note_arrival(received_s)
            self._rejected[cause] += 1

    def count_bad_camera_info(self) -> None:
        with self._lock:
            self._bad_camera_info += 1

    def count_fault(self) -> None:
        """Counts a frame that was lost to an exception; what the network remembers is not to be trusted after it."""
        with self._lock:
            self._faults += 1
            self._pending_reset = "fault"

    def count_processed(self, stage_ms: Mapping[str, float], batch: int = 1) -> None:
        """Counts a frame whose mask was published, with the milliseconds that each stage took, and how many frames were
        run at once with it."""
        with self._lock:
            self._processed += 1
            self._batches.append(batch)
            for stage, milliseconds in stage_ms.items():
                self._stages.setdefault(stage, deque(maxlen=TIMING_WINDOW)).append(milliseconds)

    def may_warn(self, cause: str, now_s: float) -> bool:
        """Whether a warning of this cause is due: one in five seconds, so that a broken camera can't flood /rosout."""
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
            status = StreamStatus(
                received=self._received,
                processed=self._processed,
                dropped=dict(self._dropped),
                rejected=dict(self._rejected),
                resets=dict(self._resets),
                faults=self._faults,
                bad_camera_info=self._bad_camera_info,
                last_received_s=self._last_received_s,
                input_age_s=self._input_age_s,
            )
        # Sorting is done outside the lock: the worker must not wait for it.
        return replace(
            status,
            stage_ms={stage: _p50_p95(times) for stage, times in stages.items()},
            batch=(sorted(batches)[len(batches) // 2], max(batches)) if batches else None,
        )

    def _note_arrival(self, received_s: float) -> None:
        self._received += 1
        self._last_received_s = received_s


def _p50_p95(times: list[float]) -> tuple[float, float]:
    p50, p95 = np.percentile(times, (50, 95))
    return float(p50), float(p95)
