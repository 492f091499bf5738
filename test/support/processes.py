"""A program in a process of its own, for system tests."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

DEADLINE_S = 90.0  # generous: the machine may be busy with other tests
#: As on a robot without a C++ compiler. With one, every node would compile its network in the background.
NO_COMPILER = {"CXX": "no-compiler"}


class NodeProcess:
    """A program in a process of its own, with all that it writes in `log()`; without a C++ compiler."""

    def __init__(self, command: list[str], log_file: Path, environment: dict[str, str] | None = None) -> None:
        self._log_file = log_file
        environment = {
            **os.environ,
            **NO_COMPILER,
            "PYTHONUNBUFFERED": "1",
            "OMP_NUM_THREADS": "1",
            **(environment or {}),
        }
        with log_file.open("wb") as output:
            self.process = subprocess.Popen(
                command, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )

    def log(self) -> str:
        return self._log_file.read_text(errors="replace")

    def is_alive(self) -> bool:
        return self.process.poll() is None

    def wait_for_log(self, text: str) -> None:
        give_up_s = time.monotonic() + DEADLINE_S
        while text not in self.log():
            assert self.is_alive(), f"the process ended with {self.process.returncode}:\n{self.log()}"
            assert time.monotonic() < give_up_s, f"{text!r} is not in the log:\n{self.log()}"
            time.sleep(0.05)

    def stop(self, number: int = signal.SIGINT) -> int:
        """Sends the signal and returns the exit status."""
        if self.is_alive():
            self.process.send_signal(number)
        try:
            return self.process.wait(30)
        finally:
            self.kill()

    def kill(self) -> None:
        """Ends the process and its children at once, if they are still there."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def processes_with(path: Path) -> list[int]:
    """The processes whose command line names a path, by their numbers."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(FileNotFoundError, ProcessLookupError):  # one that has ended meanwhile
            if bytes(path) in file.read_bytes():
                found.append(int(file.parent.name))
    return found
