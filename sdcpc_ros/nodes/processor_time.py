"""How the threads that share the network's work wait for each other."""

from __future__ import annotations

import os

#: What a user may have said about it.
_SETTINGS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def let_waiting_threads_sleep() -> None:
    """Has PyTorch's OpenMP threads sleep while they wait for each other, instead of spinning for milliseconds.

    On a robot other processes want the processor too: a thread that spins keeps it from the one it waits for. With a
    busy neighbour on two cores a frame of the shipped model takes 0.14 s so, and 3.7 s with GNU OpenMP's default. To be
    called before PyTorch is imported; does nothing where the user has said how to wait.
    """
    if not os.environ.keys() & set(_SETTINGS):
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
