"""Serving while compiling: frames run eagerly until the backend that was asked for is ready, and none is dropped."""

from __future__ import annotations

import threading


from sdcpc_ros.inference.backend import Backend, check_backend, create_backend
from sdcpc_ros.inference.eager import EagerBackend
from sdcpc_ros.inference.errors import BackendError
from sdcpc_ros.inference.step import Step


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
        self._building: dict[tuple[int, int], threading.Thread] = {}
        self._lock = threading.Lock()
        self._missing: BackendError | None = None
        try:
            check_backend(name, step)
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
            built = self._built.get(size)
            if built is None and size not in self._building:
                # A daemon: a compiler cannot be interrupted, and must not keep a process from ending.
                thread = threading.Thread(target=self._build, args=(size,), name=f"build {self.name}", daemon=True)
                self._building[size] = thread
                thread.start()
            building = self._building.get(size)
        if built is None and building is not None and not self._background:
            building.join()
            built = self._built[size]
        if built is None:
            return self._eager
        if isinstance(built, BackendError):
            if self._fallback:
                return self._eager
            raise built
        return built

    @property
    def status(self) -> str:
        """What runs the network now, in words."""
        if self._missing is not None:
            return f"eager: {self._missing}"
        with self._lock:
            failed = [built for built in self._built.values() if isinstance(built, BackendError)]
            waiting = [f"{width}x{height}" for height, width in self._building if (height, width) not in self._built]
        if failed:
            return f"eager: {failed[0]}" if self._fallback else str(failed[0])
        return f"eager, while {self.name} is built for {', '.join(waiting)}" if waiting else self.name

    def _build(self, size: tuple[int, int]) -> None:
        built: Backend | BackendError
        try:
            built = create_backend(self.name, self._step, size)
        except BackendError as error:
            built = error
        with self._lock:
            self._built[size] = built
