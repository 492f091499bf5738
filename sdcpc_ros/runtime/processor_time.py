"""How the threads that share the network's work wait for each other."""

from __future__ import annotations

import os

#: What a user may have said about it.
SETTINGS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
#: Turns of a waiting loop, a tenth of a millisecond or so.
_SPINS = "10000"


def let_waiting_threads_sleep() -> None:
    """Has PyTorch's OpenMP threads spin briefly while they wait for each other, then sleep.

    On a robot other processes want the processor too: a thread that spins for milliseconds, as GNU OpenMP's do, keeps
    it from the one it waits for; one that sleeps at once is late when it is wanted. The shipped model's frame on two
    cores, quiet and with two busy neighbours: 64 and 405 ms by default, 94 and 261 ms asleep at once, 64 and 225 ms so
    (`python -m benchmarks.waiting`). To be called before PyTorch is imported; does nothing where the user has said how
    to wait.

    GNU OpenMP stops spinning altogether where its threads are more than the processors, and each thread that calls it
    has a team of its own until it ends: a second one in a process (two cores) takes a frame from 64 to 94 ms. So the
    thread that loads a model ends before another runs it.
    """
    if not os.environ.keys() & set(SETTINGS):
        os.environ["GOMP_SPINCOUNT"] = _SPINS
        os.environ["KMP_BLOCKTIME"] = "0"  # Intel's and LLVM's, which know no shorter time
