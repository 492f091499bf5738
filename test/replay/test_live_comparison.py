from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from sdcpc_ros.bags.errors import BagError
from sdcpc_ros.bags.messages import IMAGE, RawMessage, serialise_image
from sdcpc_ros.bags.reader import BagReader
from sdcpc_ros.replay.live_comparison import LiveComparison
from sdcpc_ros.replay.live_run import LiveRun
from sdcpc_ros.replay.node_process import LABEL_TOPIC, NodeTopics
from sdcpc_ros.replay.segmented_frames import SegmentedFrame, SourceFrame, Unusable
from sdcpc_ros.streaming.continuity import break_between
from sdcpc_ros.streaming.segmenter import Segmentation

PERIOD_NS = 100_000_000
SIZE = (6, 8)
OFFSETS = (1, 3)


@dataclass
class Stream:
    """What StreamingSegmenter does, as a model of it: a label that tells which frames were looked at."""

    max_gap_s: float
    stamps: list[int]
    recurrent: bool = False
    remembered: dict[int, int] = field(default_factory=dict)  # by stamp: what a recurrent network keeps of a frame
    previous: SourceFrame | None = None

    def segment(self, frame: SourceFrame) -> tuple[np.ndarray, str | None]:
        reset = None if self.previous is None else break_between(self.previous, frame, self.max_gap_s)
        if reset is not None:
            self.stamps.clear()
        seen = [self.stamps[-offset] // PERIOD_NS for offset in OFFSETS if offset <= len(self.stamps)]
        before = [self.remembered[self.stamps[-offset]] for offset in OFFSETS if offset <= len(self.stamps)]
        self.remembered[frame.stamp_ns] = hash((frame.number, *before)) % 251 if self.recurrent else 0
        self.stamps.append(frame.stamp_ns)
        self.previous = frame
        labels = np.zeros(SIZE, np.uint8)
        labels[0, : len(seen)] = seen
        labels[1, 0], labels[2, 0] = frame.number, self.remembered[frame.stamp_ns]
        return labels, reset


@pytest.fixture
def compare(write_bag):
    """Live against offline for frames of 10 Hz of which the node answered some; the summary."""

    def run(
        frames: int,
        dropped: set[int],
        max_gap_s: float = 1.0,
        spoil=lambda number, labels: labels,
        recurrent: bool = False,
    ):
        offline, live = Stream(max_gap_s, [], recurrent), Stream(max_gap_s, [], recurrent)
        sources = [SourceFrame(n, (n + 1) * PERIOD_NS, np.zeros((*SIZE, 3), np.uint8)) for n in range(frames)]
        live_run, masks = LiveRun(NodeTopics(), node_diagnostics={"received": "9"}), []
        for source in sources:
            sent_ns = 10**18 + source.stamp_ns
            live_run.published_ns[source.stamp_ns] = sent_ns
            if source.number not in dropped:
                labels = spoil(source.number, live.segment(source)[0])
                arrived_ns = live_run.arrived_ns[source.stamp_ns] = sent_ns + 20_000_000 * (1 + source.number % 2)
                data = serialise_image(labels, "mono8", source.stamp_ns, "")
                masks.append(RawMessage(LABEL_TOPIC, IMAGE, arrived_ns, data))
        with BagReader(write_bag(masks)) as recording:
            comparison = LiveComparison(live_run, recording, offsets=OFFSETS, max_gap_s=max_gap_s, recurrent=recurrent)
            for source in sources:
                labels, reset = offline.segment(source)
                comparison.add(SegmentedFrame(source, Segmentation(labels, None, 0, reset)))
            comparison.add(Unusable(frames, "broken"))
            return comparison.summary()

    return run


def test_a_node_that_answers_everything_agrees(compare):
    summary = compare(6, dropped=set())
    assert (summary["frames_published"], summary["frames_dropped"]) == (6, 0)
    assert (summary["compared"], summary["equal"], summary["agreement"]) == (6, 6, 1.0)
    assert summary["causes"] == {} and summary["differences"] == []
    assert summary["frames"]["latency_ms"] == [20, 40] * 3
    assert summary["latency_ms"] == {"p50": 30, "p95": 40, "max": 40}
    assert summary["jitter_ms"] == {"p50": 20, "p95": 20, "max": 20}
    assert summary["node"] == {"received": "9"}


def test_a_dropped_frame_changes_those_that_would_have_looked_at_it(compare):
    summary = compare(10, dropped={4})
    assert summary["frames_dropped"] == 1
    assert summary["frames"]["agreement"][4] is None and summary["frames"]["latency_ms"][4] is None
    assert [(entry["number"], entry["why"]) for entry in summary["differences"]] == [
        *((5, "dropped references: 2 of 2"), (6, "dropped references: 1 of 2"), (7, "dropped references: 1 of 2"))
    ]
    assert summary["causes"] == {"dropped references": 3}
    assert (summary["compared"], summary["equal"]) == (9, 6)


def test_in_a_recurrent_network_a_dropped_frame_echoes(compare):
    summary = compare(14, dropped={4}, recurrent=True)
    told = [(entry["number"], entry["why"]) for entry in summary["differences"]]
    assert told[:3] == [
        *((5, "dropped references: 2 of 2"), (6, "dropped references: 1 of 2"), (7, "dropped references: 1 of 2"))
    ]
    assert told[3:] == [(number, "an earlier difference") for number in range(8, 14)]


def test_drops_that_leave_a_gap_make_the_node_forget(compare):
    summary = compare(12, dropped={3, 4, 5}, max_gap_s=0.35)
    assert [(entry["number"], entry["why"]) for entry in summary["differences"]] == [
        *((6, "reset: gap"), (7, "reset: gap"), (8, "reset: gap"))
    ]


def test_a_difference_without_a_cause_is_said_to_be_one(compare):
    def spoil(number: int, labels: np.ndarray) -> np.ndarray:
        if number == 2:
            labels[5, 7] = 9
        return labels

    summary = compare(5, dropped=set(), spoil=spoil)
    assert summary["causes"] == {"unexplained": 1}
    (difference,) = summary["differences"]
    assert difference["number"] == 2 and difference["agreement"] == pytest.approx(47 / 48, abs=1e-6)


def test_masks_of_another_size_are_refused(compare):
    with pytest.raises(BagError, match="its parameter output_size must be 'image'"):
        compare(2, dropped=set(), spoil=lambda number, labels: labels[:3, :4])
