"""The temporal frame buffer: what earlier frames of one stream contribute to the next."""

from __future__ import annotations

import torch
from torch import Tensor

from sdcpc_ros.network import FrameMemory


class FrameBuffer:
    """A preallocated ring of per-frame memories with their stamps, of fixed shapes at fixed addresses.

    A reference is chosen by its age in frames (`offsets`); one that is not there yet is marked invalid, not left out, so
    that what consumes them always sees the same shapes.
    """

    def __init__(self, offsets: tuple[int, ...], blank: FrameMemory) -> None:
        """blank: the memory of an empty frame, (1, ...) each: the ring's shapes, types and device.

        Raises ValueError on offsets below 1, or none.
        """
        if not offsets or min(offsets) < 1:
            raise ValueError(f"FrameBuffer: offsets are {offsets}; one or more integers of 1 or more are needed")
        self.offsets = offsets
        self.capacity = max(offsets)
        self._ring = FrameMemory(*(part.new_zeros((self.capacity, *part.shape[1:])) for part in blank))
        self._stamps_s: list[float | None] = [None] * self.capacity
        self._pushed = 0

    def __len__(self) -> int:
        """How many frames are remembered, 0..capacity."""
        return min(self._pushed, self.capacity)

    @property
    def fill(self) -> float:
        """The share of the ring that is filled, 0..1."""
        return len(self) / self.capacity

    @property
    def stamps_s(self) -> list[float]:
        """Stamps of the remembered frames in seconds, oldest first."""
        slots = (slot % self.capacity for slot in range(self._pushed - len(self), self._pushed))
        return [stamp for slot in slots if (stamp := self._stamps_s[slot]) is not None]

    def push(self, memory: FrameMemory, stamp_s: float) -> None:
        """Remember a frame, (1, ...) each; the oldest gives way. Raises ValueError when shapes are not the ring's."""
        for name, stored, part in zip(FrameMemory._fields, self._ring, memory):
            if part.shape != (1, *stored.shape[1:]):
                raise ValueError(
                    f"FrameBuffer: {name} is {tuple(part.shape)}, but the ring holds {(1, *stored.shape[1:])}; "
                    "a stream that changes size needs a new buffer"
                )
        slot = self._pushed % self.capacity
        for stored, part in zip(self._ring, memory):
            stored[slot].copy_(part[0])
        self._stamps_s[slot] = stamp_s
        self._pushed += 1

    def references(self) -> tuple[FrameMemory, Tensor]:
        """The memories at `offsets` before the frame that comes next, (1, K, ...) each, and which are valid, (1, K) bool."""
        device = self._ring.key.device
        slots = torch.tensor([(self._pushed - offset) % self.capacity for offset in self.offsets], device=device)
        valid = torch.tensor([[offset <= len(self) for offset in self.offsets]], device=device)
        return FrameMemory(*(stored.index_select(0, slots)[None] for stored in self._ring)), valid
