"""Compares a live run with the offline evaluation, frame by frame: drops, latency, different labels and their causes.

A frame's labels depend on the frame, on its references (earlier frames) and on their ages; in a recurrent network also
on the references' own labels. Ages follow from the stamps, so the same references have the same ages live and offline.
If the same network labels a frame differently, then the frame or one before it had other references. The node's
references follow from the frames that it answered and from the rules for resets, which are applied again here.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from typing import Any

import numpy as np

from sdcpc_ros.bags.errors import BagError
from sdcpc_ros.bags.messages import RawMessage, decode_labels
from sdcpc_ros.bags.reader import BagReader
from sdcpc_ros.replay.live_run import LiveRun
from sdcpc_ros.replay.segmented_frames import SegmentedFrame, SourceFrame, Unusable
from sdcpc_ros.streaming.continuity import break_between

_LISTED_DIFFERENCES = 100  # all are counted
# Why the labels of a frame differ.
DROPPED_REFERENCES = "dropped references"  # earlier frames got no mask, so the node used other references
ECHO = "an earlier difference"  # same references, but the network is recurrent and one of them had other labels
RESET = "reset"  # the node had emptied its memory, for example because dropped frames left a gap
UNEXPLAINED = "unexplained"  # same references: another model, backend, device, input size or threshold


class LiveComparison:
    """Gets the offline frames in order and compares them with the masks in the recording of a live run.

    `offsets`: the references' distances in frames (SDCPCConfig.reference_offsets). `recurrent`: as in SDCPCConfig.
    """

    def __init__(
        self, run: LiveRun, recording: BagReader, *, offsets: Sequence[int], max_gap_s: float, recurrent: bool
    ) -> None:
        self._run, self._recording = run, recording
        self._masks = recording.messages(run.topics.label)  # in the order of their stamps, as the frames were played
        self._mask: RawMessage | None = next(self._masks, None)
        self._offline, self._live = _References(offsets), _References(offsets)
        self._max_gap_s, self._recurrent = max_gap_s, recurrent
        self._different: deque[int] = deque(maxlen=max(offsets))  # stamps of frames whose memory may differ
        self._newest_live: SourceFrame | None = None
        self._stamps_ns: list[int] = []
        self._agreement: list[float | None] = []  # the share of equal labels of each frame
        self._differences: list[dict[str, Any]] = []
        self._causes: Counter[str] = Counter()

    def add(self, frame: SegmentedFrame | Unusable) -> None:
        """Compares the next offline frame. Raises BagError if the node's mask has another size than the image."""
        if isinstance(frame, Unusable):
            return
        source, result = frame.source, frame.segmentation
        if result.reset is not None:
            self._offline.clear(result.reset)
        while self._mask is not None and self._mask.stamp_ns < source.stamp_ns:
            self._mask = next(self._masks, None)
        agreement = None
        if self._mask is not None and self._mask.stamp_ns == source.stamp_ns:
            agreement = self._compare(source, result.labels, self._recording.decode(self._mask, decode_labels))
        self._offline.push(source.stamp_ns)
        self._stamps_ns.append(source.stamp_ns)
        self._agreement.append(None if agreement is None else round(agreement, 6))

    def summary(self) -> dict[str, Any]:
        """For the report: `LiveRun.summary`, then the comparison; None where there is no mask to compare."""
        shares = [share for share in self._agreement if share is not None]
        latencies_ms = {stamp_ns: round(each, 2) for stamp_ns, each in self._run.latencies_ms().items()}
        return {
            **self._run.summary(),
            "compared": len(shares),
            "equal": shares.count(1),
            "agreement": round(sum(shares) / len(shares), 6) if shares else None,
            "causes": dict(sorted(self._causes.items())),
            "differences": self._differences,
            "frames": {
                "stamp_ns": self._stamps_ns,
                "latency_ms": [latencies_ms.get(stamp_ns) for stamp_ns in self._stamps_ns],
                "agreement": self._agreement,
            },
            "node": self._run.node_diagnostics,
        }

    def _compare(self, source: SourceFrame, labels: np.ndarray, live_labels: np.ndarray) -> float:
        """The share of equal labels."""
        if live_labels.shape != labels.shape:
            raise BagError(
                f"the node's masks are {live_labels.shape} pixels (height, width), the images {labels.shape}; "
                "its parameter output_size must be 'image'"
            )
        reset = None if self._newest_live is None else break_between(self._newest_live, source, self._max_gap_s)
        if reset is not None:
            self._live.clear(reset)
        agreement = int(np.count_nonzero(live_labels == labels)) / labels.size
        if agreement < 1:
            self._note_difference(source, agreement)
        if self._memory_may_differ():
            self._different.append(source.stamp_ns)
        self._live.push(source.stamp_ns)
        self._newest_live = source
        return agreement

    def _note_difference(self, source: SourceFrame, agreement: float) -> None:
        if self._live.stamps() == self._offline.stamps():
            cause = detail = ECHO if self._memory_may_differ() else UNEXPLAINED
        elif self._live.reset not in (None, self._offline.reset) and len(self._live) < len(self._offline):
            cause, detail = RESET, f"{RESET}: {self._live.reset}"
        else:
            missing = len(set(self._offline.stamps()) - set(self._live.stamps()))
            cause, detail = DROPPED_REFERENCES, f"{DROPPED_REFERENCES}: {missing} of {len(self._offline.stamps())}"
        self._causes[cause] += 1
        if len(self._differences) < _LISTED_DIFFERENCES:
            found = {"number": source.number, "stamp_ns": source.stamp_ns}
            self._differences.append({**found, "agreement": round(agreement, 6), "why": detail})

    def _memory_may_differ(self) -> bool:
        """Whether the frame's memory can differ although the frame and the network are the same."""
        references = self._live.stamps()
        return self._recurrent and (
            references != self._offline.stamps() or not set(references).isdisjoint(self._different)
        )


class _References:
    """The stamps of the next frame's references, as FrameBuffer chooses them."""

    def __init__(self, offsets: Sequence[int]) -> None:
        self._offsets = tuple(offsets)
        self._frames: deque[int] = deque(maxlen=max(self._offsets))
        self.reset: str | None = None  #: why earlier frames are missing; None if none is missing

    def __len__(self) -> int:
        return len(self._frames)

    def push(self, stamp_ns: int) -> None:
        self._frames.append(stamp_ns)
        if len(self._frames) == self._frames.maxlen:
            self.reset = None

    def clear(self, cause: str) -> None:
        self._frames.clear()
        self.reset = cause

    def stamps(self) -> tuple[int, ...]:
        return tuple(self._frames[-offset] for offset in self._offsets if offset <= len(self._frames))
