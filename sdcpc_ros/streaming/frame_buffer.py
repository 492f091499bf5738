"""The frame buffer of one stream: the memories of its earlier frames, which the next frame uses as references."""

from __future__ import annotations

import torch
from torch import Tensor

from sdcpc_ros.network import DEFAULT_RATE_HZ, FrameMemory

#: The age of a missing reference.
MISSING = -1.0


class FrameBuffer:
    """A preallocated ring of per-frame memories with their stamps, of fixed shapes at fixed addresses.

    References are chosen by their age in frames (`offsets`). A missing reference has a negative age and zero memory, so
    that shapes are always the same.

    If the offsets are the multiples of one number, as 3, 6, 9, the references of a frame are adjacent in the ring and
    are returned as a view. For other offsets they are gathered for every frame.
    """

    def __init__(self, offsets: tuple[int, ...], blank: FrameMemory) -> None:
        """blank: the memory of an empty frame, (1, ...) each: the ring's shapes, types and device.

        Raises ValueError on offsets below 1, or none.
        """
        if not offsets or min(offsets) < 1:
            raise ValueError(f"FrameBuffer: offsets are {offsets}; one or more integers of 1 or more are needed")
        self.offsets = offsets
        self.capacity = max(offsets)
        self._stride = min(offsets)
        self._is_even = sorted(offsets) == [self._stride * (i + 1) for i in range(len(offsets))]
        self._ring = FrameMemory(*(part.new_zeros((self.capacity, *part.shape[1:])) for part in blank))
        self._stamps_s: list[float | None] = [None] * self.capacity
        self._pushed = 0
        if not self._is_even:
            count = len(offsets)
            self._gathered = FrameMemory(*(part.new_zeros((count, *part.shape[1:])) for part in blank))
            # On the device already: row n % capacity holds the slots of the references of frame n.
            slots = [[self._slot(frame - offset) for offset in offsets] for frame in range(self.capacity)]
            self._slots = torch.tensor(slots, device=blank.fine.device)

    @property
    def fill(self) -> float:
        """The share of the ring that is filled, 0..1."""
        return min(self._pushed, self.capacity) / self.capacity

    @property
    def next_stamp_s(self) -> float:
        """The stamp of a frame without one: 1/15 s after the last, or 0."""
        last = self._stamps_s[self._slot(self._pushed - 1)] if self._pushed else None
        return 0.0 if last is None else last + 1 / DEFAULT_RATE_HZ

    @property
    def reference_count(self) -> int:
        """How many references the next frame has."""
        return sum(offset <= self._pushed for offset in self.offsets)

    def push(self, memory: FrameMemory, stamp_s: float) -> None:
        """Stores a frame, (1, ...) each, in place of the oldest. Raises ValueError if shapes are not the ring's."""
        for name, stored, part in zip(FrameMemory._fields, self._ring, memory):
            if part.shape != (1, *stored.shape[1:]):
                raise ValueError(
                    f"FrameBuffer: {name} is {tuple(part.shape)}, but the ring holds {(1, *stored.shape[1:])}; "
                    "a stream that changes size needs a new buffer"
                )
        slot = self._slot(self._pushed)
        for stored, part in zip(self._ring, memory):
            stored[slot].copy_(part[0])
        self._stamps_s[slot] = stamp_s
        self._pushed += 1

    def references(self, stamp_s: float) -> tuple[FrameMemory, Tensor]:
        """The memories at `offsets` before the next frame, (1, K, ...) each, and their ages, (1, K) float32.

        stamp_s: of the next frame. Ages are in seconds, on the CPU, negative for a missing reference. The order is
        unspecified. The memories are contiguous and valid until the next call or push.
        """
        if self._is_even:
            first = self._pushed % self._stride * len(self.offsets)
            slots = list(range(first, first + len(self.offsets)))
            memory = FrameMemory(*(stored[first : first + len(slots)][None] for stored in self._ring))
        else:
            slots = [self._slot(self._pushed - offset) for offset in self.offsets]
            index = self._slots[self._pushed % self.capacity]
            for stored, gathered in zip(self._ring, self._gathered):
                torch.index_select(stored, 0, index, out=gathered)
            memory = FrameMemory(*(gathered[None] for gathered in self._gathered))
        stamps = (self._stamps_s[slot] for slot in slots)
        ages = [MISSING if stamp is None else max(0.0, stamp_s - stamp) for stamp in stamps]
        return memory, torch.tensor([ages])

    def _slot(self, frame: int) -> int:
        """The slot of a frame, numbered from the first pushed."""
        if not self._is_even:
            return frame % self.capacity
        phase, turn = frame % self._stride, frame // self._stride
        return phase * len(self.offsets) + turn % len(self.offsets)
