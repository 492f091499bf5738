"""The statuses of /diagnostics: one for each camera, and the backend's part of the model's.

docs/node.md explains the levels. A camera's level covers the time since the last report.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from sdcpc_ros.images.decoding import BadImage
from sdcpc_ros.nodes.camera_stream import DROP_CAUSES, StreamStatus
from sdcpc_ros.runtime.wording import count_noun
from sdcpc_ros.streaming.continuity import RESET_CAUSES

if TYPE_CHECKING:
    from sdcpc_ros.streaming.segmenter import StreamingSegmenter

#: An active camera without an image for this long is stale.
STALE_AFTER_S = 2.0
#: If more than this share of the images is dropped, the network is too slow.
TOLERABLE_DROPS = 0.5
#: Stamps further than this from the node's clock, either way, cannot be matched by time.
TOLERABLE_AGE_S = 1.0
_BACKEND_LEVELS = {
    "ready": DiagnosticStatus.OK,
    "building": DiagnosticStatus.OK,
    "fallback": DiagnosticStatus.WARN,
    "failed": DiagnosticStatus.ERROR,
}


class CameraReporter:
    """Makes the statuses of one camera; keeps the last counters for rates and changes."""

    def __init__(self, node_name: str, camera_name: str) -> None:
        """`node_name` with its namespace."""
        self._node_name, self._camera_name = node_name, camera_name
        self._last = StreamStatus()
        self._last_s: float | None = None

    def report(
        self, status: StreamStatus, connections: Mapping[str, str], *, now_s: float, buffer_fill: float
    ) -> DiagnosticStatus:
        """connections: the camera's topics and transport; now_s: steady clock; buffer_fill: 0..1."""
        counts, new = status.counts, status.counts - self._last.counts
        elapsed_s = now_s - self._last_s if self._last_s is not None else 0.0
        level, message = _judge(status, new, now_s)
        values = {
            **connections,
            "received": counts["received"],
            "processed": counts["processed"],
            **_by_cause(counts, "dropped", DROP_CAUSES),
            **_by_cause(counts, "rejected", BadImage.CAUSES),
            "lost to faults": counts["lost to faults"],
            "camera_info refused": counts["camera_info refused"],
            "input rate (Hz)": _rate(new["received"], elapsed_s),
            "output rate (Hz)": _rate(new["processed"], elapsed_s),
            "input age (s)": "" if status.input_age_s is None else f"{status.input_age_s:.3f}",
            "buffer fill": f"{buffer_fill:.2f}",
            "batch p50/largest (frames)": "" if status.batch is None else f"{status.batch[0]} / {status.batch[1]}",
            **_by_cause(counts, "resets", RESET_CAUSES),
            **{f"{stage} p50/p95 (ms)": f"{p50:.1f} / {p95:.1f}" for stage, (p50, p95) in status.stage_ms.items()},
        }
        self._last, self._last_s = status, now_s
        camera = self._camera_name
        return make_status(self._node_name, camera, level, message, values, hardware_id=camera)


def _judge(status: StreamStatus, new: Counter[str], now_s: float) -> tuple[bytes, str]:
    """The level and the message for the counts that are new since the last report."""
    silent_s = status.silent_s(now_s)
    if silent_s is None:
        return DiagnosticStatus.OK, "not active"
    if silent_s > STALE_AFTER_S:
        return DiagnosticStatus.STALE, f"no image for {silent_s:.0f} s: is the image topic published?"
    received, lost, dropped = new["received"], new["lost to faults"], new["dropped: newer"]
    rejected, resets = _causes(new, "rejected"), _causes(new, "resets")
    resets.pop("requested", None)
    if lost:
        return DiagnosticStatus.ERROR, f"{count_noun(lost, 'frame')} lost to an exception in the network: see the log"
    if rejected and sum(rejected.values()) >= received:
        return DiagnosticStatus.ERROR, f"every image is rejected: {_listed(rejected)}"
    if rejected:
        return DiagnosticStatus.WARN, f"images rejected: {_listed(rejected)}"
    if resets:
        return DiagnosticStatus.WARN, f"frame buffer emptied: {_listed(resets)}"
    if new["camera_info refused"]:
        return DiagnosticStatus.WARN, "CameraInfo refused: it holds values that are not finite, or no size"
    if dropped > received * TOLERABLE_DROPS:
        return DiagnosticStatus.WARN, f"the network can't keep up: {dropped} of {received} images dropped"
    if status.input_age_s is not None and abs(status.input_age_s) > TOLERABLE_AGE_S:
        offset = f"{abs(status.input_age_s):.1f} s {'behind' if status.input_age_s > 0 else 'ahead of'}"
        return DiagnosticStatus.WARN, f"the stamps are {offset} the node's clock: is use_sim_time right?"
    return DiagnosticStatus.OK, "segmenting"


class BackendReporter:
    """Reports the backend of a segmenter, and logs its changes: a build takes seconds to minutes."""

    def __init__(self, segmenter: StreamingSegmenter, logger: Any) -> None:
        self._segmenter = segmenter
        self._logger = logger
        self._state = "ready"
        self._failed_batches = 0
        self._building_since_s = 0.0  # steady clock

    def report(self) -> tuple[bytes, str]:
        """A level of DiagnosticStatus, and the reason if another backend than the chosen one runs, or ''."""
        status = self._segmenter.backend_status
        if status.state != self._state:
            self._log(status.state, str(status))
        before, self._failed_batches = self._failed_batches, self._segmenter.failed_batches
        if self._failed_batches > before:
            reason = self._segmenter.batching_disabled_reason
            self._logger.warning(f"backend: frames are run {reason}")
            if status.state == "ready":
                return DiagnosticStatus.WARN, reason
        return _BACKEND_LEVELS[status.state], "" if status.state == "ready" else str(status)

    def _log(self, state: str, text: str) -> None:
        before, self._state = self._state, state
        if state == "building":
            self._building_since_s = time.monotonic()
            self._logger.info(f"backend: {text}")
        elif state == "fallback":
            self._logger.warning(f"backend: {text}")
        elif state == "failed":
            self._logger.error(f"backend: {text}")
        elif before == "building":
            elapsed_s = time.monotonic() - self._building_since_s
            self._logger.info(f"backend: {text} runs from now on, {elapsed_s:.0f} s later")


def make_status(
    node_name: str, part: str, level: bytes, message: str, values: Mapping[str, Any], *, hardware_id: str
) -> DiagnosticStatus:
    """The status of a part of a node, under the node's full name. The values become text."""
    pairs = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
    name = f"{node_name.strip('/')}: {part}"
    return DiagnosticStatus(level=level, name=name, message=message, hardware_id=hardware_id, values=pairs)


def _causes(counts: Counter[str], kind: str) -> dict[str, int]:
    """The counts `kind: CAUSE` by their cause."""
    return {key.removeprefix(f"{kind}: "): count for key, count in counts.items() if key.startswith(f"{kind}: ")}


def _by_cause(counts: Counter[str], kind: str, causes: Sequence[str]) -> dict[str, int]:
    """The sum of all counts `kind: CAUSE`, then each of them."""
    values = {f"{kind}: {cause}": counts[f"{kind}: {cause}"] for cause in causes}
    return {kind: sum(values.values()), **values}


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{key} ({count})" for key, count in sorted(counts.items()))


def _rate(count: int, elapsed_s: float) -> str:
    return f"{count / elapsed_s:.1f}" if elapsed_s > 0 else ""
