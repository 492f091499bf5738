"""From which frame on the network has to see a stream again, for its memory to be what it is now."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from sdcpc_ros.bags.frame_join import Place
from sdcpc_ros.bags.segmented_frames import SegmentedFrame

#: How often, in frames, the network's memory is copied, and how many are run again at most.
MEMORY_EVERY = 16


@dataclass(frozen=True)
class Beginning:
    """Where the images of a bag are taken up, and which of them are only for the network to see."""

    number: int = 0  #: of the first image
    place: Place | None = None  #: where it is, None: where the bag begins
    memory: dict[str, Any] | None = None  #: of the network before it (`StreamingSegmenter.memory`), None: nothing
    scored: int = -1  #: up to this image everything is scored already


class Rewind:
    """Where to begin again after a stop.

    The network runs ahead of what is scored, so that its memory, when a state is saved, is that of a later frame. It is
    therefore copied before every `MEMORY_EVERY`-th frame, and made again from the last copy by the few frames since:
    the same to the last bit, of a recurrent network too, whose memory goes back to where the stream began.
    """

    def __init__(self) -> None:
        self._beginning = Beginning()

    def take(self, frame: SegmentedFrame) -> None:
        """The next frame that was segmented and scored; the first of all comes with the memory before it."""
        number = frame.number
        if frame.before is None:
            self._beginning = replace(self._beginning, scored=number)
        else:
            assert frame.source.bag_frame is not None
            self._beginning = Beginning(number, frame.source.bag_frame.place, frame.before["memory"], number)

    @property
    def beginning(self) -> Beginning:
        """Where to begin, for the next image to be segmented as if there had been no stop."""
        return self._beginning

    def state(self) -> dict[str, Any]:
        """Arrays and plain values, for `restore`."""
        values = {**vars(self._beginning)}
        return {**values, "place": None if values["place"] is None else values["place"].to_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from where another stood."""
        place = None if state["place"] is None else Place.from_dict(state["place"])
        self._beginning = Beginning(**{**state, "place": place})
