"""The frame buffers of streams: slots of a shared pool, which hold the memories of earlier frames as references."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Sequence

from torch import Tensor

from sdcpc_ros.network import DEFAULT_RATE_HZ, FrameMemory

#: The slot that missing references share: its memory is always zero.
BLANK_SLOT = 0
#: The age of a missing reference.
MISSING = -1.0


class MemoryPool:
    """Slots for the memories of frames of one network size, shared by all streams of that size.

    Their addresses stay, so that one CUDA graph serves any stream by slot number. The pool grows by allocation of a
    new, larger `memory`, and graphs must then be captured again.
    """

    def __init__(self, blank: FrameMemory) -> None:
        """blank: the memory of an empty frame, zeros, (1, ...) each, on the device."""
        self.memory = blank  #: (slots, h, w, C) each
        self._free: list[int] = []

    @property
    def free_count(self) -> int:
        return len(self._free)

    def take(self, count: int) -> list[int]:
        """The numbers of `count` slots, whose contents are undefined, until `release`."""
        if count > len(self._free):
            self._grow(count)
        return [self._free.pop() for _ in range(count)]

    def release(self, slots: Sequence[int]) -> None:
        self._free.extend(slots)

    def gather(self, slots: Tensor) -> FrameMemory:
        """The memories in slots (B, K) int64: (B, K, h, w, C) each."""
        return FrameMemory(*(part.index_select(0, slots.flatten()).unflatten(0, slots.shape) for part in self.memory))

    def store(self, slots: Tensor, memory: FrameMemory) -> None:
        """Writes the memories of frames, (B, h, w, C) each, into slots (B,) int64."""
        for stored, part in zip(self.memory, memory):
            stored.index_copy_(0, slots, part)

    def _grow(self, count: int) -> None:
        old = len(self.memory.fine)
        # Doubled, so that many streams cause few captures. At first for two streams, because a reset takes new slots
        # before it returns the old.
        new = old + max(2 * count, old - 1)
        grown = FrameMemory(*(part.new_zeros((new, *part.shape[1:])) for part in self.memory))
        for part, before in zip(grown, self.memory):
            part[:old].copy_(before)
        self.memory = grown
        self._free.extend(reversed(range(old, new)))


class FrameBuffer:
    """The last frames of one stream: their stamps, and the slots of a `MemoryPool` that hold their memories.

    There is one slot more than references reach back. The next frame's memory goes there, so a frame that fails after
    its run overwrites no reference. The slots return to the pool when the buffer is deleted.
    """

    def __init__(self, offsets: tuple[int, ...], pool: MemoryPool) -> None:
        """offsets: of the references, in frames before the next, 1 or more each."""
        self._offsets, self._capacity = offsets, max(offsets)
        slots = pool.take(self._capacity + 1)
        self._slots = deque(slots)  # of the next frame, the last, the one before it, ...
        self._stamps_s: deque[float] = deque(maxlen=self._capacity)  # of the last frame, the one before it, ...
        weakref.finalize(self, pool.release, slots)

    @property
    def fill(self) -> float:
        """The share of the buffer that is filled, 0..1."""
        return len(self._stamps_s) / self._capacity

    @property
    def next_stamp_s(self) -> float:
        """The stamp of a frame without one: 1/15 s after the last, or 0."""
        return self._stamps_s[0] + 1 / DEFAULT_RATE_HZ if self._stamps_s else 0.0

    @property
    def next_slot(self) -> int:
        """Where the memory of the next frame is to be written, before `push`."""
        return self._slots[0]

    @property
    def reference_count(self) -> int:
        """How many references the next frame has."""
        return sum(offset <= len(self._stamps_s) for offset in self._offsets)

    def references(self, stamp_s: float) -> tuple[list[int], list[float]]:
        """The slots of the references of the next frame, and their ages in seconds, K each, in the order of `offsets`.

        stamp_s: of the next frame. A missing reference has a negative age and the pool's blank slot. A reference with a
        later stamp has the age 0.
        """
        known = [offset <= len(self._stamps_s) for offset in self._offsets]
        slots = [self._slots[offset] if is_known else BLANK_SLOT for offset, is_known in zip(self._offsets, known)]
        ages_s = [
            max(0.0, stamp_s - self._stamps_s[offset - 1]) if is_known else MISSING
            for offset, is_known in zip(self._offsets, known)
        ]
        return slots, ages_s

    def push(self, stamp_s: float) -> None:
        """Adds the next frame, whose memory is in `next_slot`, in place of the oldest."""
        self._stamps_s.appendleft(stamp_s)
        self._slots.rotate(1)
