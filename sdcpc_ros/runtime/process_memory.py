"""The memory of this process and of its device: how much there is, and how glibc keeps what is freed."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from pathlib import Path

#: glibc's variables for it, with their values; the numbers are mallopt's names for the same.
MALLOC_VARIABLES = {"MALLOC_TRIM_THRESHOLD_": 256 << 20, "MALLOC_MMAP_THRESHOLD_": 32 << 20, "MALLOC_ARENA_MAX": 1}
_MALLOPT_PARAMETERS = (-1, -3, -8)
_STATUS_FILE = Path("/proc/self/statm")


def keep_freed_memory() -> None:
    """Has glibc reuse freed memory, of images and feature maps, instead of giving it back to the kernel and faulting it
    in again.

    Receiving a 720p image then takes a quarter of the CPU time. All threads share one arena: those of further ones go
    back whatever the thresholds say, and the network runs in a thread. To be called before threads start. Does nothing
    on another C library, or where the user has set one of glibc's own variables for this.
    """
    if MALLOC_VARIABLES.keys() & os.environ.keys():
        return
    libc = _glibc()
    if libc is not None:
        for parameter, value in zip(_MALLOPT_PARAMETERS, MALLOC_VARIABLES.values()):
            libc.mallopt(parameter, value)


def give_back_freed_memory() -> None:
    """Gives memory that nothing uses any more to the system and the GPU, which takes a second; for after a cleanup.

    A network that was built is held by frames of PyTorch's own that hold each other, until they are collected.
    """
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def resident_mib() -> float | None:
    """Resident memory of this process, MiB; None where the kernel doesn't say."""
    try:
        pages = int(_STATUS_FILE.read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def device_mib(device: str) -> float | None:
    """Memory of a CUDA device that PyTorch holds for this process, MiB; None where `device` is not one."""
    if not device.startswith("cuda"):
        return None
    import torch

    return torch.cuda.memory_reserved(device) / 2**20


def _glibc() -> ctypes.CDLL | None:
    """The C library, where it is glibc."""
    libc = ctypes.CDLL(None)
    return libc if sys.platform.startswith("linux") and hasattr(libc, "gnu_get_libc_version") else None
