"""Waits for the signals that end a process."""

from __future__ import annotations

import os
import signal

_NUMBERS = (signal.SIGINT, signal.SIGTERM)


def exit_on_stop_signals() -> None:
    """SIGINT and SIGTERM end the process with status 0 at once, until `StopSignals` is created or they interrupt.

    Call it before the imports of a node's main module: they take a second, and Python would end with a traceback.
    """
    for number in _NUMBERS:
        signal.signal(number, lambda *_: os._exit(0))


def interrupt_on_stop_signals() -> None:
    """SIGINT and SIGTERM raise KeyboardInterrupt in the main thread."""
    for number in _NUMBERS:
        signal.signal(number, signal.default_int_handler)


class StopSignals:
    """Receives SIGINT and SIGTERM from now on. Create it in the main thread.

    Linux may deliver a signal to any thread, for example to one that is just starting another. Python runs its handler
    in the main thread when that wakes up, and a main thread that waits for a lock or an event does not. Therefore
    Python's C handler, which runs in any thread, writes to a pipe, and the main thread reads from it.
    """

    def __init__(self) -> None:
        self._reader, writer = os.pipe()
        os.set_blocking(writer, False)  # required by set_wakeup_fd
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in _NUMBERS:
            signal.signal(number, lambda *_: None)  # Python writes only for signals with a handler

    def wait(self) -> None:
        """Returns when a signal has arrived, also if it arrived before the call."""
        while os.read(self._reader, 1)[0] not in _NUMBERS:
            pass  # another signal

    def ignore(self) -> None:
        """Ignores further signals: launch may send several, and a late one would kill the interpreter as it ends."""
        for number in _NUMBERS:
            signal.signal(number, signal.SIG_IGN)
