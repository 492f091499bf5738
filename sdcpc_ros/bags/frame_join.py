"""Join a camera's images with what was recorded under the same stamp; a join can go on where an earlier one stood.

A bag can be read from any moment on, but what a join holds at that moment (images that wait for their companions,
companions that wait for their image) came before it. A `Place` names it, message by message, so that a join that
returns there gives the very frames that the first one gave from there on, whatever the stamps are like.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sdcpc_ros.bags.errors import BagError, StateError
from sdcpc_ros.bags.messages import decode_image, decode_labels, header_stamp_ns
from sdcpc_ros.images.label_pictures import LabelReader

if TYPE_CHECKING:
    from sdcpc_ros.bags.reader import BagReader

#: How far apart in the bag's time two messages of one stamp may have been recorded and still be joined.
_JOIN_WINDOW_NS = 2_000_000_000


@dataclass(frozen=True)
class RawMessage:
    """A message as recorded: CDR bytes, and the time it was recorded at (not its header's stamp)."""

    topic: str
    type: str
    time_ns: int
    data: bytes

    @property
    def stamp_ns(self) -> int:
        """The stamp in its header. Only for messages that start with one; BagError for those too short to."""
        return header_stamp_ns(self.data)


class Reading(NamedTuple):
    """A message, and where it came in the order of reading."""

    message: RawMessage
    ordinal: int  #: from 0, of those that were read in this pass
    cut_ns: int  #: whoever reads the same topics from here on reads the same messages in the same order
    cut_ordinal: int  #: of the first message from `cut_ns` on


@dataclass(frozen=True)
class Place:
    """What a join held when a frame came out of it. Messages are counted, from 0, in a pass that begins at `from_ns`.

    Plain numbers: it goes into JSON (`to_dict`) and comes back.
    """

    from_ns: int
    done: int  #: messages that the join had taken
    waiting: tuple[tuple[int, ...], ...]  #: images, each followed by its companions so far, in order
    early: tuple[tuple[int, ...], ...]  #: companions whose image had not come, by stamp, in order
    time_ns: int  #: of the frame, in the bag's time
    stamp_ns: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Place:
        groups = {name: tuple(tuple(group) for group in values[name]) for name in ("waiting", "early")}
        return cls(**{**values, **groups})


@dataclass(frozen=True)
class BagFrame:
    """A camera image and what else the bag holds under the very same stamp. Nothing is decoded until asked for."""

    bag: BagReader
    camera: RawMessage
    companions: dict[str, RawMessage] = field(default_factory=dict)  # by topic
    place: Place | None = field(default=None, compare=False)  #: where the join can go on from, with this frame

    @property
    def stamp_ns(self) -> int:
        return self.camera.stamp_ns

    def image(self) -> np.ndarray:
        """(H, W, 3) uint8 RGB."""
        return self.bag.decode(self.camera, decode_image)

    def labels(self, topic: str, reader: LabelReader | None = None) -> np.ndarray | None:
        """(H, W) uint8 class ids of a companion topic, 255 for no label; None when this frame has no such message.

        `reader` knows the classes' colours, for label images that hold colours.
        """
        companion = self.companions.get(topic)
        return None if companion is None else self.bag.decode(companion, partial(decode_labels, reader=reader))


class FrameJoin:
    """The frames of one pass over the messages of a camera and its companions."""

    def __init__(self, bag: BagReader, camera: str, companions: Collection[str]) -> None:
        self._bag, self._camera, self._wanted = bag, camera, frozenset(companions)
        # Both by stamp: images until they are complete or out of reach, companions that came before their image.
        self._waiting: OrderedDict[int, tuple[Reading, dict[str, Reading]]] = OrderedDict()
        self._early: OrderedDict[int, dict[str, Reading]] = OrderedDict()
        self._newest: Reading | None = None

    def frames(self, readings: Iterator[Reading], place: Place | None = None) -> Iterator[BagFrame]:
        """The camera's images in order. With a place, `readings` begin at its `from_ns`, and frames with its frame.

        Raises StateError when that frame is not found there.
        """
        joined = self._joined(readings, place)
        first = next(joined, None)
        if place is not None and (first is None or (first.camera.time_ns, _stamp_ns(first.camera)) != _of(place)):
            raise StateError(f"the frame at {place.time_ns / 1e9:.9f} s is not where it was in the bag")
        if first is not None:
            yield first
        yield from joined

    def _joined(self, readings: Iterator[Reading], place: Place | None) -> Iterator[BagFrame]:
        if place is not None:
            self._return_to(place, islice(readings, place.done))
            yield from self._finished()  # by the message that was taken last
        for reading in readings:
            yield from self._taken(reading)
        while self._waiting:
            yield self._released(next(iter(self._waiting)))

    def _taken(self, reading: Reading) -> Iterator[BagFrame]:
        """Take a message; the frames that are finished with it."""
        message = reading.message
        try:
            stamp_ns = message.stamp_ns if message.topic != self._camera else _stamp_ns(message)
        except BagError:
            return
        if message.topic == self._camera:
            if stamp_ns in self._waiting:
                yield self._released(stamp_ns)
            self._waiting[stamp_ns] = reading, self._early.pop(stamp_ns, {})
        elif stamp_ns in self._waiting:
            self._waiting[stamp_ns][1].setdefault(message.topic, reading)
        else:  # to the end: those that came last are out of reach last
            self._early[stamp_ns] = {**self._early.pop(stamp_ns, {}), message.topic: reading}
        self._newest = reading
        horizon_ns = message.time_ns - _JOIN_WINDOW_NS
        while self._early and max(_times(next(iter(self._early.values())))) < horizon_ns:
            self._early.popitem(last=False)
        yield from self._finished()

    def _finished(self) -> Iterator[BagFrame]:
        assert self._newest is not None
        horizon_ns = self._newest.message.time_ns - _JOIN_WINDOW_NS
        while self._waiting:
            stamp_ns, (image, companions) = next(iter(self._waiting.items()))
            if len(companions) < len(self._wanted) and image.message.time_ns >= horizon_ns:
                break
            yield self._released(stamp_ns)

    def _released(self, stamp_ns: int) -> BagFrame:
        place = self._place(stamp_ns)
        image, companions = self._waiting.pop(stamp_ns)
        messages = {topic: companion.message for topic, companion in companions.items()}
        return BagFrame(self._bag, image.message, messages, place)

    def _place(self, stamp_ns: int) -> Place:
        waiting = [(image, *companions.values()) for image, companions in self._waiting.values()]
        early = [tuple(companions.values()) for companions in self._early.values()]
        assert self._newest is not None
        oldest = min((self._newest, *(reading for group in (*waiting, *early) for reading in group)), key=_cut_ordinal)
        first = oldest.cut_ordinal
        return Place(
            from_ns=oldest.cut_ns,
            done=self._newest.ordinal + 1 - first,
            waiting=tuple(tuple(reading.ordinal - first for reading in group) for group in waiting),
            early=tuple(tuple(reading.ordinal - first for reading in group) for group in early),
            time_ns=self._waiting[stamp_ns][0].message.time_ns,
            stamp_ns=stamp_ns,
        )

    def _return_to(self, place: Place, readings: Iterator[Reading]) -> None:
        wanted = {place.done - 1, *(ordinal for group in (*place.waiting, *place.early) for ordinal in group)}
        held = {reading.ordinal: reading for reading in readings if reading.ordinal in wanted}
        if held.keys() != wanted:
            raise StateError("the bag ends before the place where its evaluation stood")
        for image, *companions in place.waiting:
            self._waiting[_stamp_ns(held[image].message)] = held[image], _by_topic(held, companions)
        for group in place.early:
            stamp_ns = _stamp_ns(held[group[0]].message)
            self._early[stamp_ns] = _by_topic(held, group)
        self._newest = held[place.done - 1]


def _by_topic(readings: dict[int, Reading], ordinals: Iterable[int]) -> dict[str, Reading]:
    return {readings[ordinal].message.topic: readings[ordinal] for ordinal in ordinals}


def _times(companions: dict[str, Reading]) -> Iterator[int]:
    return (reading.message.time_ns for reading in companions.values())


def _cut_ordinal(reading: Reading) -> int:
    return reading.cut_ordinal


def _stamp_ns(message: RawMessage) -> int:
    """The stamp in its header; an image message too short to hold one has its time: it fails when it is decoded."""
    try:
        return message.stamp_ns
    except BagError:
        return message.time_ns


def _of(place: Place) -> tuple[int, int]:
    return place.time_ns, place.stamp_ns
