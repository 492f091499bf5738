"""Live against offline, frame by frame: what was dropped, how late the masks were, where labels differ, and why.

A frame's labels depend on the frame, on the earlier frames it is compared with (its references) and on their ages, and
on nothing else; in a recurrent network, through those on the references' own. Ages follow from the stamps, so the same
references have the same ages live and offline. Where the same network labels a frame differently, it or a frame before
it had other references; which ones the node had follows from the frames that it answered and from the rules of time,
and is worked out here again.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from typing import Any

import numpy as np

from sdcpc_ros.bags.errors import BagError
from sdcpc_ros.bags.live_timing import LiveTiming, timing_summary
from sdcpc_ros.bags.messages import RawMessage, decode_labels
from sdcpc_ros.bags.reader import BagReader
from sdcpc_ros.bags.segmented_frames import SegmentedFrame, SourceFrame, Unusable
from sdcpc_ros.streaming.continuity import break_between

_TOLD = 100  # differences that are listed one by one; all are counted
#: Why the labels of a frame differ.
DROPPED_REFERENCES = "dropped references"  # earlier frames got no mask, so the node compared with others
ECHO = "an earlier difference"  # the same references, but recurrent, and one of them was itself labelled differently
RESET = "reset"  # the node had forgotten the earlier frames: dropped ones left a gap, say
UNEXPLAINED = "unexplained"  # the same references: another model, backend, device, input size or threshold


class LiveComparison:
    """Compares, as the offline frames pass, with the masks that a live run left in a recording.

    `offsets`: how many frames back the references lie (SDCPCConfig.reference_offsets). `recurrent`: as in SDCPCConfig.
    """

    def __init__(
        self,
        recording: BagReader,
        label_topic: str,
        timing: LiveTiming,
        node_diagnostics: dict[str, str],
        offsets: Sequence[int],
        max_gap_s: float,
        recurrent: bool,
    ) -> None:
        self._recording, self._timing, self._diagnostics = recording, timing, node_diagnostics
        self._masks = recording.messages(label_topic)  # in the order of their stamps, as the frames were played
        self._mask: RawMessage | None = next(self._masks, None)
        self._offline, self._live = _References(offsets), _References(offsets)
        self._max_gap_s, self._recurrent = max_gap_s, recurrent
        self._other: deque[int] = deque(maxlen=max(offsets))  # frames that may be remembered differently, by stamp
        self._newest_live: SourceFrame | None = None
        self._columns: dict[str, list[Any]] = {"stamp_ns": [], "latency_ms": [], "agreement": []}
        self._differences: list[dict[str, Any]] = []
        self._causes: Counter[str] = Counter()

    def add(self, frame: SegmentedFrame | Unusable) -> None:
        """The next offline frame. Raises BagError when the node's mask is of another size than the image."""
        if isinstance(frame, Unusable):
            return
        source, labels = frame.source, frame.segmentation.labels
        if frame.reset is not None:
            self._offline.forget(frame.reset)
        live_labels = self._live_labels(source.stamp_ns)
        agreement = None
        if live_labels is not None:
            cause = None
            if self._newest_live is not None:
                cause = break_between(self._newest_live, source, self._max_gap_s)
            if cause is not None:
                self._live.forget(cause)
            if live_labels.shape != labels.shape:
                raise BagError(
                    f"the node's masks are {live_labels.shape} pixels (height, width), the images {labels.shape}; "
                    "its parameter output_size must be 'image'"
                )
            agreement = int(np.count_nonzero(live_labels == labels)) / labels.size
            if agreement < 1:
                self._note_difference(source, agreement)
            if self._remembered_differently():
                self._other.append(source.stamp_ns)
            self._live.push(source.stamp_ns)
            self._newest_live = source
        self._offline.push(source.stamp_ns)
        latency_ns = self._timing.latency_ns(source.stamp_ns)
        self._columns["stamp_ns"].append(source.stamp_ns)
        self._columns["latency_ms"].append(None if latency_ns is None else round(latency_ns / 1e6, 2))
        self._columns["agreement"].append(None if agreement is None else round(agreement, 6))

    def summary(self) -> dict[str, Any]:
        """For the report: timing as `timing_summary`, then the comparison; None where there was nothing to compare."""
        shares = [share for share in self._columns["agreement"] if share is not None]
        return {
            **timing_summary(self._timing),
            "compared": len(shares),
            "equal": sum(share == 1 for share in shares),
            "agreement": round(sum(shares) / len(shares), 6) if shares else None,
            "causes": dict(sorted(self._causes.items())),
            "differences": self._differences,
            "frames": self._columns,
            "node": self._diagnostics,
        }

    def _live_labels(self, stamp_ns: int) -> np.ndarray | None:
        while self._mask is not None and self._mask.stamp_ns < stamp_ns:
            self._mask = next(self._masks, None)
        if self._mask is None or self._mask.stamp_ns != stamp_ns:
            return None
        return self._recording.decode(self._mask, decode_labels)

    def _note_difference(self, source: SourceFrame, agreement: float) -> None:
        if self._live.stamps() == self._offline.stamps():
            why = detail = ECHO if self._remembered_differently() else UNEXPLAINED
        elif self._live.reset not in (None, self._offline.reset) and len(self._live) < len(self._offline):
            why, detail = RESET, f"{RESET}: {self._live.reset}"
        else:
            missing = len(set(self._offline.stamps()) - set(self._live.stamps()))
            why, detail = DROPPED_REFERENCES, f"{DROPPED_REFERENCES}: {missing} of {len(self._offline.stamps())}"
        self._causes[why] += 1
        if len(self._differences) < _TOLD:
            self._differences.append(
                {
                    "number": source.number,
                    "stamp_ns": source.stamp_ns,
                    "agreement": round(agreement, 6),
                    "why": detail,
                }
            )

    def _remembered_differently(self) -> bool:
        """Whether what this frame leaves for later ones can differ, though the frame and the network are the same."""
        if not self._recurrent:
            return False
        references = self._live.stamps()
        return references != self._offline.stamps() or not set(references).isdisjoint(self._other)


class _References:
    """Which frames the next one is compared with, as FrameBuffer has it."""

    def __init__(self, offsets: Sequence[int]) -> None:
        self._offsets = tuple(offsets)
        self._frames: deque[int] = deque(maxlen=max(self._offsets))
        self.reset: str | None = None  #: why the frames before were forgotten, as long as that shows

    def __len__(self) -> int:
        return len(self._frames)

    def push(self, stamp_ns: int) -> None:
        self._frames.append(stamp_ns)
        if len(self._frames) == self._frames.maxlen:
            self.reset = None

    def forget(self, cause: str) -> None:
        self._frames.clear()
        self.reset = cause

    def stamps(self) -> tuple[int, ...]:
        return tuple(self._frames[-offset] for offset in self._offsets if offset <= len(self._frames))
