"""What a reader of videos gives, whichever library reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sdcpc_ros.bags.segmented_frames import SourceFrame, Unusable

#: Frames a second that a player is told.
RATES_HZ = (0.02, 240.0)
_USUAL_RATE_HZ = 30.0  # of a video that does not tell its own


@dataclass(frozen=True)
class VideoFrames:
    """The pictures of one video, to be taken once."""

    frames: Iterator[SourceFrame | Unusable]
    expected: int | None  #: how many will come, as far as one can tell
    rate_hz: float


def sane_rate_hz(rate_hz: float) -> float:
    """What was recorded within a moment, or a container makes up, is no rate to play at."""
    return rate_hz if RATES_HZ[0] <= rate_hz <= RATES_HZ[1] else _USUAL_RATE_HZ
