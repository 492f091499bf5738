"""From which frame on the network has to see a stream again, for its memory to be what it is now."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

from sdcpc_ros.bags.frame_join import Place
from sdcpc_ros.bags.segmented_frames import SegmentedFrame


@dataclass(frozen=True)
class Beginning:
    """Where the images of a bag are taken up, and which of them are only for the network to see."""

    number: int = 0  #: of the first image
    place: Place | None = None  #: where it is, None: where the bag begins
    scored: int = -1  #: up to this image everything is scored already


@dataclass(frozen=True)
class _Turn:
    frame: int  # of its stream, from 0
    number: int  # of the image
    place: Place


class Rewind:
    """Where to begin again after a stop.

    The network's memory is not stored but made again, from the frames that it was made of: what a frame leaves behind
    depends on that frame alone (`SDCPC.encode`), so that it comes out the same to the last bit, on every device, from
    some seconds of work and without megabytes in every state. Which slot of the ring a frame lies in, and so the order
    in which references are summed, repeats every `capacity` frames (FrameBuffer): hence a rerun begins at a frame whose
    number in its stream is a multiple of that. It reruns fewer than twice as many frames as the ring holds.
    """

    def __init__(self, capacity: int) -> None:
        """capacity: how many frames the network remembers."""
        self._capacity = capacity
        self._pushed = 0  # frames of the current stream
        self._turns: deque[_Turn] = deque(maxlen=2)  # its newest frames that are multiples of the capacity
        self._last = -1  # image

    def take(self, frame: SegmentedFrame) -> None:
        """The next frame that was segmented."""
        source = frame.source
        if frame.reset is not None:
            self._pushed = 0
            self._turns.clear()
        if self._pushed % self._capacity == 0:
            assert source.bag_frame is not None and source.bag_frame.place is not None
            self._turns.append(_Turn(self._pushed, source.number, source.bag_frame.place))
        self._pushed += 1
        self._last = source.number

    def beginning(self) -> Beginning:
        """Where to begin, for the next image to be segmented as if there had been no stop. To be asked after a frame.

        From the newest turn with a full ring behind it, or from where the stream began.
        """
        turn = next(t for t in reversed(self._turns) if t.frame == 0 or self._pushed - t.frame >= self._capacity)
        return Beginning(turn.number, turn.place, self._last)

    def state(self) -> dict[str, Any]:
        """Plain values, for `restore`."""
        turns = [{"frame": t.frame, "number": t.number, "place": t.place.to_dict()} for t in self._turns]
        return {"pushed": self._pushed, "last": self._last, "turns": turns}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on counting from where another of the same capacity stood."""
        self._pushed, self._last = state["pushed"], state["last"]
        self._turns.clear()
        for turn in state["turns"]:
            self._turns.append(_Turn(turn["frame"], turn["number"], Place.from_dict(turn["place"])))
