"""What becomes of the backend that was asked for: once in the log when it changes, and in /diagnostics always."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from diagnostic_msgs.msg import DiagnosticStatus

if TYPE_CHECKING:
    from sdcpc_ros.streaming.segmenter import StreamingSegmenter

_LEVELS = {
    "ready": DiagnosticStatus.OK,
    "building": DiagnosticStatus.OK,
    "fallback": DiagnosticStatus.WARN,
    "failed": DiagnosticStatus.ERROR,
}


class BackendReporter:
    """Watches the backend of one segmenter: a build takes seconds to minutes, while frames go on eagerly."""

    def __init__(self, segmenter: StreamingSegmenter, logger: Any) -> None:
        self._segmenter = segmenter
        self._logger = logger
        self._state = "ready"
        self._failed_batches = 0
        self._building_since_s = 0.0  # steady clock

    def report(self) -> tuple[bytes, str]:
        """A level of DiagnosticStatus, and why the backend is not the one asked for: empty when it is."""
        status = self._segmenter.backend_status
        if status.state != self._state:
            self._log(status.state, str(status))
        before, self._failed_batches = self._failed_batches, self._segmenter.failed_batches
        if self._failed_batches > before:
            words = self._segmenter.batching_disabled_reason
            self._logger.warning(f"backend: frames are run {words}")
            if status.state == "ready":
                return DiagnosticStatus.WARN, words
        return _LEVELS[status.state], "" if status.state == "ready" else str(status)

    def _log(self, state: str, text: str) -> None:
        before, self._state = self._state, state
        if state == "building":
            self._building_since_s = time.monotonic()
            self._logger.info(f"backend '{self._segmenter.backend}' is being built; labels come from eager meanwhile")
        elif state == "fallback":
            self._logger.warning(f"backend: {text}")
        elif state == "failed":
            self._logger.error(f"backend: {text}")
        elif before == "building":
            elapsed_s = time.monotonic() - self._building_since_s
            self._logger.info(f"backend '{text}' is built after {elapsed_s:.0f} s and runs from now on")
