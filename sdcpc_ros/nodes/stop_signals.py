"""Waits for the signals that end a process."""

from __future__ import annotations

import os
import signal

_NUMBERS = (signal.SIGINT, signal.SIGTERM)


def exit_on_stop_signals() -> None:
    """SIGINT and SIGTERM end the process with status 0 at once, until `StopSignals` are made or they interrupt.

    To be called before the imports of a node's main module: they take a second, and Python would end with a traceback.
    """
    for number in _NUMBERS:
        signal.signal(number, lambda *_: os._exit(0))


def interrupt_on_stop_signals() -> None:
    """SIGINT and SIGTERM raise KeyboardInterrupt in the main thread."""
    for number in _NUMBERS:
        signal.signal(number, signal.default_int_handler)


class StopSignals:
    """SIGINT and SIGTERM, from now on; to be made in the main thread.

    Linux may deliver a signal to any thread, for example to one that is just starting another. Python runs its handler
    in the main thread, once that wakes. A main thread that waits for a lock or an event would sleep on. Therefore
    Python's C handler writes to a pipe, in whatever thread it runs, and the main thread reads from it.
    """

    def __init__(self) -> None:
        self._reader, writer = os.pipe()
        os.set_blocking(writer, False)  # as Python demands
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in _NUMBERS:
            signal.signal(number, lambda *_: None)  # without a handler of Python's nothing is written

    def wait(self) -> None:
        """Returns once one of them has come, even before the call."""
        while os.read(self._reader, 1)[0] not in _NUMBERS:
            pass  # a signal that somebody else handles

    def ignore(self) -> None:
        """Further ones do nothing: launch may send several, and Python would die of one at its very end."""
        for number in _NUMBERS:
            signal.signal(number, signal.SIG_IGN)
