"""Slots for the memories of frames of one network size on a GPU, shared by all streams of that size."""

from __future__ import annotations

from collections.abc import Sequence

from sdcpc_ros.network import FrameMemory

#: The slot that missing references share: its memory is always zero.
BLANK_SLOT = 0


class MemoryPool:
    """Slots at fixed addresses, so that one CUDA graph serves any stream by slot number.

    It grows by allocation of a new, larger `memory`, and graphs must then be captured again.
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
