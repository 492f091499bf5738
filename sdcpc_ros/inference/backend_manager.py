"""The backends of one network: eager serves every frame until the backend that was asked for is built."""

from __future__ import annotations

import atexit
import ctypes
import threading
import time
import weakref
from dataclasses import dataclass

from sdcpc_ros.inference.backend import BACKENDS, REGISTRY, Choice, check_backend, choose_backend, create_backend
from sdcpc_ros.inference.eager import Backend, BackendError, EagerBackend
from sdcpc_ros.inference.step import Step

#: How long the end of the process waits for builds that were told to stop: a C++ compiler finishes its file first.
_STOP_DEADLINE_S = 30.0


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


class BackendManager:
    """The backend of each network size and batch, built when that size and batch are first used. Thread-safe.

    Raises BackendError when `name` cannot run here, unless `fallback` allows eager instead. auto is always built
    in the background and always falls back to eager. On a CPU auto compiles with `background` only; else it loads a
    cached package.
    """

    def __init__(self, name: str, step: Step, *, background: bool, fallback: bool) -> None:
        """background: build in a thread of its own, and serve from eager meanwhile; else the first frame waits."""
        self.name = name
        self._step = step
        self._compiles = background
        self._background, self._fallback = background or name == "auto", fallback or name == "auto"
        self._eager = EagerBackend(step)
        self._choices: dict[_Size, Choice] = {}
        self._builds: dict[tuple[_Size, int], _Build] = {}  # by network size and number of frames
        self._lock = threading.Lock()
        self._missing: BackendError | None = None
        try:
            check_backend(name, step)
        except BackendError as error:
            if not fallback or name not in BACKENDS:  # a misspelt name, which no fallback is meant for
                raise
            self._missing = error

    def backend(self, size: _Size, batch: int = 1) -> Backend:
        """The backend to run `batch` frames, as many as `batch_size` said, of network size (height, width) now.

        Raises BackendError when building failed and there is no fallback to eager.
        """
        if self._choose(size) == "eager":
            return self._eager
        built = self._ready(size, 1) if batch == 1 else self._built(size, batch)
        if isinstance(built, BackendError) and batch == 1 and not self._fallback:
            raise built
        return built if isinstance(built, Backend) else self._eager

    def batch_size(self, size: _Size, waiting: int, most: int) -> int:
        """How many of `waiting` frames of network size (height, width) to run at once now, at most `most`.

        One of `batch_sizes(most)`. For a backend that is built for each number, the build of this number begins unless
        another build is running; until it ends the answer is a number that is built: one frame, or a smaller batch.
        """
        largest = max(batch for batch in batch_sizes(most) if batch <= max(1, waiting))
        name = self._choose(size)
        if largest == 1 or name == "eager":
            return largest
        single = self._ready(size, 1)
        if isinstance(single, BackendError) and self._fallback:
            return largest  # eager, for good
        if not REGISTRY[name].batches:
            return 1
        if single is None:
            return largest  # eager, meanwhile
        with self._lock:
            is_building = any(build.result is None for build in self._builds.values())
        for batch in reversed(batch_sizes(largest)):
            # One at a time: the robot is driving meanwhile.
            may_build = batch == largest and not is_building
            if isinstance(self._ready(size, batch) if may_build else self._built(size, batch), Backend):
                return batch
        return 1

    @property
    def batching_disabled_reason(self) -> str:
        """Why frames are not run at once, in words; empty when they are, or nothing is known yet."""
        with self._lock:
            choices, builds = dict(self._choices), dict(self._builds)
        for size, choice in choices.items():
            has_fallen_back = self._fallback and isinstance(self._built(size, 1), BackendError)
            if not REGISTRY[choice.backend].batches and not has_fallen_back:
                return f"backend '{choice.backend}' runs one frame at a time"
        of_batches = [(size, batch, build.result) for (size, batch), build in builds.items() if batch > 1]
        for size, batch, result in of_batches:
            if result is None:
                return f"{choices[size].backend} is being built for {batch} frames at a time"
        return next((str(result) for *_, result in of_batches if isinstance(result, BackendError)), "")

    @property
    def status(self) -> BackendStatus:
        """What runs the network now. Sizes that wait or failed come before those that are ready."""
        if self._missing is not None:
            return BackendStatus("fallback", f"eager: {self._missing}")
        with self._lock:
            # Of single frames: where a batch is not built, or cannot be, single frames are run.
            builds = {size: build for (size, batch), build in self._builds.items() if batch == 1}
            choices = dict(self._choices)
        results = {size: build.result for size, build in builds.items()}
        failed = [result for result in results.values() if isinstance(result, BackendError)]
        building = {size: builds[size] for size, result in results.items() if result is None}
        if failed and self._fallback:
            return BackendStatus("fallback", f"eager: {failed[0]}")
        if failed:
            return BackendStatus("failed", str(failed[0]))
        if building:
            choice = choices[next(iter(building))]
            reason = f"auto: {choice.reason}; " if choice.reason else ""
            sizes = ", ".join(f"{width}x{height}" for height, width in building)
            elapsed_s = time.monotonic() - min(build.begun_s for build in building.values())
            duration = f"({reason}{elapsed_s:.0f} s so far)"
            return BackendStatus("building", f"eager, while {choice.backend} is prepared for {sizes} {duration}")
        if self.name != "auto":
            return BackendStatus("ready", self.name)
        words = dict.fromkeys(f"{choice.backend} (auto: {choice.reason})" for choice in choices.values())
        return BackendStatus("ready", "; ".join(words) or "auto: chosen at the first frame")

    def _choose(self, size: _Size) -> str:
        """The name of the backend for this size."""
        with self._lock:
            if size not in self._choices:
                if self.name == "auto":
                    self._choices[size] = choose_backend(self._step, size, compiles=self._compiles)
                else:
                    self._choices[size] = Choice("eager" if self._missing else self.name, "")
            return self._choices[size].backend

    def _built(self, size: _Size, batch: int) -> Backend | BackendError | None:
        """What is built; None for what is not, or not yet."""
        build = self._builds.get((size, batch))
        return None if build is None else build.result

    def _ready(self, size: _Size, batch: int) -> Backend | BackendError | None:
        """What is built; begins to build what is not, and waits for it unless that is left to the background."""
        with self._lock:
            build = self._builds.get((size, batch))
            if build is None:
                build = self._builds[size, batch] = _Build(self._choices[size].backend, self._step, size, batch)
                build.start()
        if not self._background:
            build.join()
        return build.result


#: Network size (height, width).
_Size = tuple[int, int]


class _Build(threading.Thread):
    """Builds a backend. A daemon, because the process does not wait for a compiler at its end: see `_stop_builds`."""

    def __init__(self, backend: str, step: Step, size: _Size, batch: int) -> None:
        super().__init__(name=f"build {backend}", daemon=True)
        self._arguments = backend, step, size, batch
        self.begun_s = time.monotonic()
        self.result: Backend | BackendError | None = None  #: None until it ends
        _started.add(self)

    def run(self) -> None:
        try:
            self.result = create_backend(*self._arguments)
        except BackendError as error:
            self.result = error


_started: weakref.WeakSet[_Build] = weakref.WeakSet()


@atexit.register
def _stop_builds() -> None:
    """End running builds: C++ code of PyTorch that returns into an interpreter which has ended aborts the process."""
    deadline_s = time.monotonic() + _STOP_DEADLINE_S
    for thread in list(_started):
        while thread.is_alive() and time.monotonic() < deadline_s:
            # Raised at the thread's next Python instruction. Threads cannot be stopped in any other way.
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(SystemExit))
            thread.join(0.5)
