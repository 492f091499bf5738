"""A bag with its labels in it: the camera's topics, and beside each image the masks that were made of it."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from sdcpc_ros.bags.reader import BagReader, RawMessage
from sdcpc_ros.bags.writer import BagWriter


def write_labelled_bag(
    path: str | Path,
    inputs: Iterable[RawMessage],
    outputs: BagReader,
    output_topics: Iterable[str],
    frame_times_ns: Mapping[int, int],
    *,
    source: BagReader,
) -> None:
    """Write `inputs`, messages of the bag `source` in order of time, together with the outputs recorded for them.

    An output is stored under the bag time of the image it was made of (`frame_times_ns`: stamp -> time), not under the
    time it arrived at: played or looked at, image and mask come together. Outputs of other stamps are left out.
    """
    outputs_in_bag_time = [
        _in_bag_time(outputs.messages(topic), frame_times_ns) for topic in output_topics if topic in outputs.topics
    ]
    with BagWriter(path) as bag:
        for message in heapq.merge(inputs, *outputs_in_bag_time, key=lambda message: message.time_ns):
            bag.write(message, source.typestore if message.topic in source.topics else outputs.typestore)


def _in_bag_time(messages: Iterable[RawMessage], frame_times_ns: Mapping[int, int]) -> Iterator[RawMessage]:
    for message in messages:
        time_ns = frame_times_ns.get(message.stamp_ns)
        if time_ns is not None:
            yield replace(message, time_ns=time_ns)
