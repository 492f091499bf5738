"""Memory of this process and of its device, and settings of glibc's malloc."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from pathlib import Path

#: glibc's variables with our values, and below the same parameters of mallopt.
MALLOC_VARIABLES = {"MALLOC_TRIM_THRESHOLD_": 256 << 20, "MALLOC_MMAP_THRESHOLD_": 32 << 20, "MALLOC_ARENA_MAX": 1}
_MALLOPT_PARAMETERS = (-1, -3, -8)
_STATUS_FILE = Path("/proc/self/statm")


def configure_malloc() -> None:
    """Makes glibc reuse the freed memory of images and feature maps instead of returning it to the kernel.

    Receiving a 720p image then takes a quarter of the CPU time. All threads share one arena, since other malloc arenas
    return memory regardless of the thresholds. Call it before threads start. Does nothing with another C library, or if
    the user has set one of MALLOC_VARIABLES.
    """
    if MALLOC_VARIABLES.keys() & os.environ.keys():
        return
    libc = _glibc()
    if libc is not None:
        for parameter, value in zip(_MALLOPT_PARAMETERS, MALLOC_VARIABLES.values()):
            libc.mallopt(parameter, value)


def release_freed_memory() -> None:
    """Returns freed memory to the system and the GPU; takes about a second.

    PyTorch leaves reference cycles to built networks, so it calls `gc.collect()`.
    """
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def resident_mib() -> float | None:
    """Resident memory of this process, MiB; None if the kernel does not tell."""
    try:
        pages = int(_STATUS_FILE.read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def device_mib(device: str) -> float | None:
    """Memory of a CUDA device that PyTorch holds for this process, MiB; None for other devices."""
    if not device.startswith("cuda"):
        return None
    import torch

    return torch.cuda.memory_reserved(device) / 2**20


def _glibc() -> ctypes.CDLL | None:
    """The C library if it is glibc."""
    libc = ctypes.CDLL(None)
    return libc if sys.platform.startswith("linux") and hasattr(libc, "gnu_get_libc_version") else None
