"""The frame buffer of one stream: the memories of its earlier frames, which the next frame uses as references."""

from __future__ import annotations

import weakref
from collections import deque

import torch
from torch import Tensor

from sdcpc_ros.network import DEFAULT_RATE_HZ, FrameMemory
from sdcpc_ros.streaming.memory_pool import BLANK_SLOT, MemoryPool

#: The age of a missing reference.
MISSING = -1.0


class StampHistory:
    """The stamps of a stream's last frames, from which the next frame chooses references by their age in frames."""

    def __init__(self, offsets: tuple[int, ...]) -> None:
        """Raises ValueError on offsets below 1, or none."""
        if not offsets or min(offsets) < 1:
            raise ValueError(f"FrameBuffer: offsets are {offsets}; one or more integers of 1 or more are needed")
        self.offsets = offsets
        self.capacity = max(offsets)
        self._stamps_s: deque[float] = deque(maxlen=self.capacity)
        self._pushed = 0

    @property
    def fill(self) -> float:
        """The share of the buffer that is filled, 0..1."""
        return len(self._stamps_s) / self.capacity

    @property
    def next_stamp_s(self) -> float:
        """The stamp of a frame without one: 1/15 s after the last, or 0."""
        return self._stamps_s[-1] + 1 / DEFAULT_RATE_HZ if self._stamps_s else 0.0

    @property
    def reference_count(self) -> int:
        """How many references the next frame has."""
        return sum(offset <= self._pushed for offset in self.offsets)

    def push(self, stamp_s: float) -> None:
        """Adds the next frame, in place of the oldest."""
        self._stamps_s.append(stamp_s)
        self._pushed += 1

    def _age_s(self, offset: int, stamp_s: float) -> float:
        """The age of the reference at `offset` for a frame of this stamp, 0 if it seems to come later."""
        return max(0.0, stamp_s - self._stamps_s[-offset]) if offset <= self._pushed else MISSING


class FrameBuffer(StampHistory):
    """A preallocated ring of per-frame memories with their stamps, of fixed shapes at fixed addresses.

    A missing reference has a negative age and zero memory, so that shapes are always the same.

    If the offsets are the multiples of one number, as 3, 6, 9, the references of a frame are adjacent in the ring and
    are returned as a view. For other offsets they are gathered for every frame.
    """

    def __init__(self, offsets: tuple[int, ...], blank: FrameMemory) -> None:
        """blank: the memory of an empty frame, (1, ...) each: the ring's shapes, types and device."""
        super().__init__(offsets)
        self._stride = min(offsets)
        self._is_even = sorted(offsets) == [self._stride * (i + 1) for i in range(len(offsets))]
        self._ring = FrameMemory(*(part.new_zeros((self.capacity, *part.shape[1:])) for part in blank))
        self._staged: FrameMemory | None = None
        if not self._is_even:
            self._gathered = FrameMemory(*(part.new_zeros((len(offsets), *part.shape[1:])) for part in blank))

    def stage(self, memory: FrameMemory) -> None:
        """Sets the memory of the next frame, (1, ...) each. `push` stores it; until then the buffer is unchanged.

        Raises ValueError if shapes are not the ring's.
        """
        for name, stored, part in zip(FrameMemory._fields, self._ring, memory):
            if part.shape != (1, *stored.shape[1:]):
                raise ValueError(
                    f"FrameBuffer: {name} is {tuple(part.shape)}, but the ring holds {(1, *stored.shape[1:])}; "
                    "a stream that changes size needs a new buffer"
                )
        self._staged = memory

    def push(self, stamp_s: float) -> None:
        """Adds the staged frame, in place of the oldest. Raises RuntimeError if none is staged."""
        if self._staged is None:
            raise RuntimeError("FrameBuffer: push needs a frame that was staged before")
        slot = self._slot(self._pushed)
        for stored, part in zip(self._ring, self._staged):
            stored[slot].copy_(part[0])
        self._staged = None
        super().push(stamp_s)

    def references(self, stamp_s: float) -> tuple[FrameMemory, Tensor]:
        """The memories at `offsets` before the next frame, (1, K, ...) each, and their ages, (1, K) float32.

        stamp_s: of the next frame. Ages are in seconds, on the CPU, negative for a missing reference. The order is
        unspecified. The memories are contiguous and valid until the next call or push.
        """
        slot_of = {self._slot(self._pushed - offset): offset for offset in self.offsets}
        slots = sorted(slot_of)
        ages = torch.tensor([[self._age_s(slot_of[slot], stamp_s) for slot in slots]])
        if self._is_even:
            return FrameMemory(*(stored[slots[0] : slots[-1] + 1][None] for stored in self._ring)), ages
        index = torch.tensor(slots, device=self._ring.fine.device)
        for stored, gathered in zip(self._ring, self._gathered):
            torch.index_select(stored, 0, index, out=gathered)
        return FrameMemory(*(gathered[None] for gathered in self._gathered)), ages

    def _slot(self, frame: int) -> int:
        """The slot of a frame, numbered from the first pushed."""
        if not self._is_even:
            return frame % self.capacity
        phase, turn = frame % self._stride, frame // self._stride
        return phase * len(self.offsets) + turn % len(self.offsets)


class PooledFrameBuffer(StampHistory):
    """A ring of slots of a `MemoryPool`: a CUDA graph reads references and writes the next memory by slot number.

    The ring has one slot more than references reach back. The next frame's memory goes there, so a frame that fails
    after its run overwrites no reference. The slots return to the pool when the buffer is deleted.
    """

    def __init__(self, offsets: tuple[int, ...], pool: MemoryPool) -> None:
        super().__init__(offsets)
        self._slots = pool.take(self.capacity + 1)
        weakref.finalize(self, pool.release, self._slots)

    @property
    def next_slot(self) -> int:
        """Where the memory of the next frame is to be written, before `push`."""
        return self._slots[self._pushed % len(self._slots)]

    def references(self, stamp_s: float) -> tuple[list[int], list[float]]:
        """The slots of the references at `offsets` before the next frame, and their ages in seconds, K each.

        stamp_s: of the next frame. A missing reference has a negative age and the pool's blank slot.
        """
        slots = [
            self._slots[(self._pushed - offset) % len(self._slots)] if offset <= self._pushed else BLANK_SLOT
            for offset in self.offsets
        ]
        return slots, [self._age_s(offset, stamp_s) for offset in self.offsets]
