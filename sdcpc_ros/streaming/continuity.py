"""When does a camera's next frame no longer continue the last one? The rules of the node, and of whoever replays."""

from __future__ import annotations

from typing import Protocol

#: Seconds between two frames beyond which the earlier ones are forgotten, unless told otherwise.
DEFAULT_MAX_GAP_S = 1.0


class FrameFacts(Protocol):
    """What a frame is judged by."""

    @property
    def stamp_ns(self) -> int: ...

    @property
    def frame_id(self) -> str: ...

    @property
    def size(self) -> tuple[int, int]: ...

    @property
    def encoding(self) -> str: ...


def break_between(previous: FrameFacts, frame: FrameFacts, max_gap_s: float) -> str | None:
    """Why the frame buffer must be emptied between two frames of one camera; None when the second continues the first.

    The causes: "frame_id", "size", "encoding", "backward" (an earlier stamp), "gap" (more than `max_gap_s` later).
    """
    if frame.frame_id != previous.frame_id:
        return "frame_id"
    if frame.size != previous.size:
        return "size"
    if frame.encoding != previous.encoding:
        return "encoding"
    if frame.stamp_ns < previous.stamp_ns:
        return "backward"
    if frame.stamp_ns - previous.stamp_ns > max_gap_s * 1e9:
        return "gap"
    return None
