"""Serving while compiling: frames run eagerly until the backend that was asked for is ready, and none is dropped."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from sdcpc_ros.inference.backend import Backend, check_backend, create_backend
from sdcpc_ros.inference.eager import EagerBackend
from sdcpc_ros.inference.errors import BackendError, UnknownBackend
from sdcpc_ros.inference.step import Step


@dataclass(frozen=True)
class BackendStatus:
    """What runs the network now, and why it is not what was asked for."""

    state: str  #: "ready", "building" (eager meanwhile), "fallback" (eager for good) or "failed" (nothing)
    text: str  #: the same in words, with what is built and for how long, or what is missing

    def __str__(self) -> str:
        return self.text


class BackendSwitch:
    """The backend of each network size, built when that size is first seen.

    Raises BackendError when `name` cannot run here, unless `fallback` says that eager will do then. Thread-safe.
    """

    def __init__(self, name: str, step: Step, *, background: bool, fallback: bool) -> None:
        """background: build in a thread of its own, and serve from eager meanwhile; else the first frame waits."""
        self.name = name
        self._step = step
        self._background, self._fallback = background, fallback
        self._eager = EagerBackend(step)
        self._built: dict[tuple[int, int], Backend | BackendError] = {}
        self._building: dict[tuple[int, int], _Build] = {}
        self._lock = threading.Lock()
        self._missing: BackendError | None = None
        try:
            check_backend(name, step)
        except UnknownBackend:
            raise  # a slip of the pen, which no fallback is meant for
        except BackendError as error:
            if not fallback:
                raise
            self._missing = error

    def backend(self, size: tuple[int, int]) -> Backend:
        """What a frame of network size (height, width) is to be run by now.

        Raises BackendError when building failed and eager will not do.
        """
        if self.name == "eager" or self._missing is not None:
            return self._eager
        with self._lock:
            built, build = self._built.get(size), self._building.get(size)
            if built is None and build is None:
                build = self._building[size] = _Build(self._start(size), time.monotonic())
        if built is None and build is not None and not self._background:
            build.thread.join()
            built = self._built[size]
        if built is None:
            return self._eager
        if isinstance(built, BackendError):
            if self._fallback:
                return self._eager
            raise built
        return built

    @property
    def status(self) -> BackendStatus:
        """What runs the network now. Sizes that wait or failed come before those that are ready."""
        if self._missing is not None:
            return BackendStatus("fallback", f"eager: {self._missing}")
        with self._lock:
            failed = [built for built in self._built.values() if isinstance(built, BackendError)]
            building = dict(self._building)
        if failed and self._fallback:
            return BackendStatus("fallback", f"eager: {failed[0]}")
        if failed:
            return BackendStatus("failed", str(failed[0]))
        if building:
            sizes = ", ".join(f"{width}x{height}" for height, width in building)
            elapsed_s = time.monotonic() - min(build.begun_s for build in building.values())
            words = f"eager, while {self.name} is built for {sizes} ({elapsed_s:.0f} s so far)"
            return BackendStatus("building", words)
        return BackendStatus("ready", self.name)

    def _start(self, size: tuple[int, int]) -> threading.Thread:
        # A daemon: a compiler cannot be interrupted, and must not keep a process from ending.
        thread = threading.Thread(target=self._build, args=(size,), name=f"build {self.name}", daemon=True)
        thread.start()
        return thread

    def _build(self, size: tuple[int, int]) -> None:
        built: Backend | BackendError
        try:
            built = create_backend(self.name, self._step, size)
        except BackendError as error:
            built = error
        with self._lock:
            self._built[size] = built
            del self._building[size]


@dataclass(frozen=True)
class _Build:
    thread: threading.Thread
    begun_s: float  # steady clock
