"""Settings of OpenMP, whose threads share the network's work."""

from __future__ import annotations

import os

#: Variables of a user's own settings, which stay as they are.
SETTINGS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
#: Turns of a waiting loop, a tenth of a millisecond or so.
_SPINS = "10000"


def limit_omp_spin() -> None:
    """Limits how long waiting OpenMP threads of PyTorch spin before they sleep. Call it before PyTorch is imported.

    A thread that spins for milliseconds, GNU OpenMP's default, takes CPU time from other processes; a thread that
    sleeps at once wakes up late. The shipped model takes on two cores, alone and beside two busy processes: 64 and
    405 ms a frame by default, 94 and 261 ms without spinning, 64 and 225 ms with this setting
    (docs/design_notes.md). Does nothing if the user has set one of SETTINGS.

    GNU OpenMP does not spin if it has more threads than there are processors, and each calling thread has a team of
    its own until it ends: a second calling thread on two cores takes a frame from 64 to 94 ms. So the thread that
    loads a model ends before another thread runs it.
    """
    if not os.environ.keys() & set(SETTINGS):
        os.environ["GOMP_SPINCOUNT"] = _SPINS
        os.environ["KMP_BLOCKTIME"] = "0"  # Intel's and LLVM's, which know no shorter time
