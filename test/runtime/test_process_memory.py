"""The memory that glibc keeps, measured in a process of its own."""

from __future__ import annotations

import mmap
import platform
import subprocess
import sys

import pytest

from sdcpc_ros.runtime.process_memory import device_mib, release_freed_memory, resident_mib

# Takes and frees the memory of a few images over and over, and says how many pages had to be faulted in for them.
_PROGRAM = """
import resource, threading
from sdcpc_ros.runtime.process_memory import configure_malloc
if {keep}:
    configure_malloc()
def take():
    [bytearray(3 << 20) for _ in range(40)]  # more than one of the heaps that a thread's arena is made of
def run():
    for _ in range(3):
        take()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        take()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
if {in_thread}:
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
else:
    run()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a matter of glibc")
@pytest.mark.parametrize("in_thread", [False, True])
def test_freed_image_buffers_are_used_again(monkeypatch, in_thread):
    monkeypatch.delenv("MALLOC_TRIM_THRESHOLD_", raising=False)
    monkeypatch.delenv("MALLOC_MMAP_THRESHOLD_", raising=False)
    monkeypatch.delenv("MALLOC_ARENA_MAX", raising=False)

    def faults(keep: bool) -> int:
        command = [sys.executable, "-c", _PROGRAM.format(keep=keep, in_thread=in_thread)]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert faults(keep=True) < 100
    assert faults(keep=False) > 1000


def test_resident_memory_is_about_what_is_there():
    before = resident_mib()
    if before is None:
        pytest.skip("this kernel does not say")
    block = mmap.mmap(-1, 64 << 20)  # malloc might hand out what an earlier test gave back
    for page in range(0, len(block), mmap.PAGESIZE):
        block[page] = 1
    assert 32 < resident_mib() - before < 200
    block.close()


def test_device_memory_is_that_of_the_named_gpu(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "memory_reserved", {"cuda:1": 3 << 20}.__getitem__)
    assert device_mib("cuda:1") == 3
    assert device_mib("cpu") is None


def test_freed_memory_is_given_back():
    release_freed_memory()  # what other tests have left, which would be taken again without the process growing
    before = resident_mib()
    if before is None:
        pytest.skip("this kernel does not say")
    blocks = [bytearray(b"x") * 100_000 for _ in range(1000)]  # from the heap: too small to be mapped by itself
    assert resident_mib() > before + 50
    circle = [blocks]
    circle.append(circle)
    del blocks, circle
    release_freed_memory()
    assert resident_mib() < before + 30
