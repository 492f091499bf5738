"""Joins a camera's images with the messages of other topics that carry the same stamp."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from sdcpc_ros.bags.errors import BagError
from sdcpc_ros.bags.messages import RawMessage

#: Two messages of one stamp are joined if they were recorded no further apart than this.
_JOIN_WINDOW_NS = 2_000_000_000


def join_by_stamp(
    messages: Iterable[RawMessage], camera: str, companions: Collection[str]
) -> Iterator[tuple[RawMessage, dict[str, RawMessage]]]:
    """Yields each message of the topic `camera` in order, with the messages of `companions` by topic.

    An image waits until all companions have come, or for two seconds of the bag's time. Companions may come first.
    """
    # Both are ordered dicts by stamp: images that wait, and companions whose image has not come.
    waiting: dict[int, tuple[RawMessage, dict[str, RawMessage]]] = {}
    early: dict[int, dict[str, RawMessage]] = {}
    for message in messages:
        if message.topic == camera:
            stamp_ns = message.stamp_or_time_ns
            if stamp_ns in waiting:
                yield waiting.pop(stamp_ns)
            waiting[stamp_ns] = message, early.pop(stamp_ns, {})
        else:
            try:
                stamp_ns = message.stamp_ns
            except BagError:
                continue
            if stamp_ns in waiting:
                waiting[stamp_ns][1].setdefault(message.topic, message)
            else:  # moved to the end: the newest goes out of reach last
                early[stamp_ns] = {**early.pop(stamp_ns, {}), message.topic: message}
        horizon_ns = message.time_ns - _JOIN_WINDOW_NS
        while early and max(each.time_ns for each in next(iter(early.values())).values()) < horizon_ns:
            del early[next(iter(early))]
        while waiting:
            first_ns, (image, found) = next(iter(waiting.items()))
            if len(found) < len(companions) and image.time_ns >= horizon_ns:
                break
            yield waiting.pop(first_ns)
    yield from waiting.values()
