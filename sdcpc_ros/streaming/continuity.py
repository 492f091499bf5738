"""The time rules: whether a frame continues the stream of the frame before it, or the frame buffer must be emptied."""

from __future__ import annotations

from typing import Protocol

#: Seconds between two frames beyond which the earlier frames are forgotten.
DEFAULT_MAX_GAP_S = 1.0
#: Why a frame buffer was emptied: a rule of `break_between`, a call of `StreamingSegmenter.reset`, or the failure of an
#: earlier frame.
RESET_CAUSES = ("backward", "gap", "size", "encoding", "frame_id", "requested", "fault")
#: float64 resolves seconds since 1970 to 0.24 us: a gap of exactly `max_gap_s` must not become longer by rounding.
_ROUNDING_S = 1e-6


class FrameFacts(Protocol):
    """The properties of a frame that the rules compare."""

    @property
    def stamp_s(self) -> float: ...

    @property
    def frame_id(self) -> str: ...

    @property
    def size(self) -> tuple[int, ...]: ...

    @property
    def encoding(self) -> str: ...


def break_between(previous: FrameFacts, frame: FrameFacts, max_gap_s: float) -> str | None:
    """The cause for which the frame buffer must be emptied between two frames of a stream; None if there is none.

    The first rule that is broken gives the cause: "frame_id", "size", "encoding", "backward" (an earlier stamp), "gap"
    (more than `max_gap_s` later).
    """
    if frame.frame_id != previous.frame_id:
        return "frame_id"
    if frame.size != previous.size:
        return "size"
    if frame.encoding != previous.encoding:
        return "encoding"
    if frame.stamp_s < previous.stamp_s:
        return "backward"
    if frame.stamp_s - previous.stamp_s > max_gap_s + _ROUNDING_S:
        return "gap"
    return None
