"""Serving while compiling: frames run eagerly until the backend that was asked for is ready, and none is dropped."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from sdcpc_ros.inference.backend import Backend, check_backend, create_backend, takes_batches
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


def batch_sizes(most: int) -> tuple[int, ...]:
    """How many frames may be run at once where `most` are allowed: the powers of two up to it, and itself, ascending.

    Few, because each costs a compiled backend its build, and a GPU a graph with its memory.
    """
    return tuple(sorted({most, *(1 << exponent for exponent in range(most.bit_length()))}))


class BackendSwitch:
    """The backend of each network size and batch, built when that is first asked for.

    Raises BackendError when `name` cannot run here, unless `fallback` says that eager will do then. Thread-safe.
    """

    def __init__(self, name: str, step: Step, *, background: bool, fallback: bool) -> None:
        """background: build in a thread of its own, and serve from eager meanwhile; else the first frame waits."""
        self.name = name
        self._step = step
        self._background, self._fallback = background, fallback
        self._eager = EagerBackend(step)
        self._built: dict[_Shape, Backend | BackendError] = {}
        self._building: dict[_Shape, _Build] = {}
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

    def backend(self, size: tuple[int, int], batch: int = 1) -> Backend:
        """What `batch` frames, as many as `batch_size` said, of network size (height, width) are to be run by now.

        Raises BackendError when building failed and eager will not do.
        """
        if self._is_eager:
            return self._eager
        built = self._ready(size, 1) if batch == 1 else self._built.get((size, batch))
        if built is None:
            return self._eager
        if isinstance(built, BackendError):
            if self._fallback or batch > 1:
                return self._eager
            raise built
        return built

    def batch_size(self, size: tuple[int, int], waiting: int, most: int) -> int:
        """How many of `waiting` frames of network size (height, width) are to be run at once now, of at most `most`.

        One of `batch_sizes(most)`. A backend that has to be built for each number begins with this one, unless it is
        building already, and until then takes what it is built for: one frame, or a smaller batch.
        """
        wanted = max(batch for batch in batch_sizes(most) if batch <= max(1, waiting))
        if wanted == 1 or self._is_eager:
            return wanted
        single = self._ready(size, 1)
        if isinstance(single, BackendError) and self._fallback:
            return wanted  # eager, for good
        if not takes_batches(self.name):
            return 1
        if single is None:
            return wanted  # eager, meanwhile
        for batch in reversed(batch_sizes(wanted)):
            may_build = batch == wanted and not self._building  # one at a time: the robot is driving meanwhile
            built = self._ready(size, batch) if may_build else self._built.get((size, batch))
            if built is not None and not isinstance(built, BackendError):
                return batch
        return 1

    @property
    def batch_obstacle(self) -> str:
        """What keeps frames from being run at once as far as it is known, in words; empty when nothing does."""
        if self._is_eager:
            return ""
        with self._lock:
            built, building = dict(self._built), [batch for _, batch in self._building if batch > 1]
        failed = [error for (_, batch), error in built.items() if batch > 1 and isinstance(error, BackendError)]
        has_fallen_back = self._fallback and any(
            isinstance(result, BackendError) for (_, batch), result in built.items() if batch == 1
        )
        if not takes_batches(self.name) and not has_fallen_back:
            return f"backend '{self.name}' runs one frame at a time"
        if building:
            return f"{self.name} is being built for {building[0]} frames at a time"
        return str(failed[0]) if failed else ""

    @property
    def status(self) -> BackendStatus:
        """What runs the network now. Sizes that wait or failed come before those that are ready."""
        if self._missing is not None:
            return BackendStatus("fallback", f"eager: {self._missing}")
        with self._lock:
            # Of single frames: where a batch is not built, or cannot be, they are what is run.
            failed = [it for (_, batch), it in self._built.items() if batch == 1 and isinstance(it, BackendError)]
            building = {size: build for (size, batch), build in self._building.items() if batch == 1}
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

    @property
    def _is_eager(self) -> bool:
        """Whether eager is what was asked for, or all that can be had."""
        return self.name == "eager" or self._missing is not None

    def _ready(self, size: tuple[int, int], batch: int) -> Backend | BackendError | None:
        """What is built; begins to build what is not, and waits for it unless that is left to the background."""
        shape = (size, batch)
        with self._lock:
            built, build = self._built.get(shape), self._building.get(shape)
            if built is None and build is None:
                build = self._building[shape] = _Build(self._start(shape), time.monotonic())
        if built is None and build is not None and not self._background:
            build.thread.join()
            built = self._built[shape]
        return built

    def _start(self, shape: _Shape) -> threading.Thread:
        # A daemon: a compiler cannot be interrupted, and must not keep a process from ending.
        thread = threading.Thread(target=self._build, args=(shape,), name=f"build {self.name}", daemon=True)
        thread.start()
        return thread

    def _build(self, shape: _Shape) -> None:
        built: Backend | BackendError
        try:
            built = create_backend(self.name, self._step, *shape)
        except BackendError as error:
            built = error
        with self._lock:
            self._built[shape] = built
            del self._building[shape]


#: Network size (height, width), and how many frames.
_Shape = tuple[tuple[int, int], int]


@dataclass(frozen=True)
class _Build:
    thread: threading.Thread
    begun_s: float  # steady clock
