"""Many bags: one after the other here, by worker processes of this machine, or over a Ray cluster.

What was done before is not done again; a bag that fails, or takes its worker down with it, fails alone.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import queue
import re
import socket
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sdcpc_ros.bags.errors import FleetError, PlaybackError
from sdcpc_ros.bags.evaluation_job import Job, run_job

#: What a job may raise for reasons that lie in its bag, its model or this machine's disk. Anything else is a bug.
JOB_ERRORS = (ValueError, OSError, PlaybackError)
LOCAL_RAY = "local"
_CONNECT_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Outcome:
    """What became of a job."""

    job: Job
    status: Literal["done", "reused", "failed"]
    problem: str = ""  #: of a failed one, in a sentence
    notes: tuple[str, ...] = ()  #: of one that was done elsewhere: what its job had to say meanwhile


Outcomes = Generator[Outcome, None, None]


def output_folders(bags: Sequence[Path], output: Path) -> list[Path]:
    """A folder in `output` for each bag, named for it; those of one name, by their place too. The same in every run."""
    names = [_name(bag) for bag in bags]
    return [output / (name if names.count(name) == 1 else f"{name}-{_digest(bag)}") for bag, name in zip(bags, names)]


def run_here(jobs: Sequence[Job], *, force: bool, run: Callable[[Job], Any] = run_job) -> Outcomes:
    """One after the other, in this process. `run` does one; see `run_job`."""
    for job in jobs:
        yield _outcome(job, force, run)


def run_workers(
    jobs: Sequence[Job], workers: int, *, force: bool, on_frame: Callable[[int], None] = lambda frames: None
) -> Outcomes:
    """By so many processes at a time, of one core each, as they finish. `on_frame` gets the frames done so far."""
    context = multiprocessing.get_context("spawn")
    frames = context.Value("q", 0)
    waiting: queue.SimpleQueue[Job] = queue.SimpleQueue()
    finished: queue.SimpleQueue[Outcome | BaseException] = queue.SimpleQueue()
    stopped = threading.Event()
    for job in jobs:
        waiting.put(job)

    def new_process() -> ProcessPoolExecutor:
        return ProcessPoolExecutor(1, mp_context=context, initializer=_start_worker, initargs=(frames,))

    def work() -> None:
        process = new_process()
        try:
            while not stopped.is_set():
                try:
                    job = waiting.get_nowait()
                except queue.Empty:
                    return
                try:
                    outcome = process.submit(_work, job, force).result()
                except BrokenProcessPool:  # killed for its memory, or crashed in a decoder: the others go on
                    outcome = Outcome(job, "failed", f"the process that evaluated '{job.bag}' ended abruptly")
                    process = new_process()
                finished.put(outcome)
        except BaseException as error:  # a bug: told where the outcomes are waited for
            finished.put(error)
        finally:
            process.shutdown()

    threads = [threading.Thread(target=work, name="fleet", daemon=True) for _ in range(min(workers, len(jobs)))]
    for thread in threads:
        thread.start()
    try:
        left = len(jobs)
        while left:
            try:
                outcome = finished.get(timeout=0.2)
            except queue.Empty:
                on_frame(frames.value)
                continue
            if isinstance(outcome, BaseException):
                raise outcome
            left -= 1
            yield outcome
        on_frame(frames.value)
    finally:
        stopped.set()
        for thread in threads:
            thread.join()


def run_ray(jobs: Sequence[Job], address: str, workers: int | None, *, force: bool) -> Outcomes:
    """By a Ray cluster, a CPU for each bag, as they finish.

    `address` as `ray.init` takes it; "local" starts one of `workers` CPUs on this machine, for this run alone. Bags,
    model and output must lie where every machine of the cluster finds them under the same path.
    """
    import ray

    local = address == LOCAL_RAY
    with _ray_session(ray, address, workers if local else None):
        evaluate = ray.remote(num_cpus=1, max_retries=0)(_work_for_ray)
        limit = workers or len(jobs)
        waiting = list(reversed(jobs))
        running: dict[Any, Job] = {}
        while waiting or running:
            while waiting and len(running) < limit:
                job = waiting.pop()
                running[evaluate.remote(job, force)] = job
            (ready,), _ = ray.wait(list(running), num_returns=1)
            job = running.pop(ready)
            try:
                yield ray.get(ready)
            except ray.exceptions.RayTaskError:  # the job's own exception, so a bug
                raise
            except ray.exceptions.RayError as error:  # its worker crashed, its machine went away
                reason = str(error).strip().partition("\n")[0]
                yield Outcome(job, "failed", f"Ray lost the process that evaluated '{job.bag}': {reason}")


@contextmanager
def _ray_session(ray: Any, address: str, workers: int | None) -> Iterator[None]:
    # Ray reports who uses it to its makers unless told not to.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    local = {"num_cpus": workers, "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    quiet = {"log_to_driver": False, "configure_logging": False}
    _require_listener(address)
    try:
        ray.init(address=address, **quiet, **(local if address == LOCAL_RAY else {}))
    except (ConnectionError, ray.exceptions.RayError) as error:
        raise FleetError(f"no Ray cluster answers at '{address}': {error}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _require_listener(address: str) -> None:
    """Raises FleetError when nobody listens at HOST:PORT; Ray itself would try for minutes before it says so."""
    match = re.fullmatch(r"(?:ray://)?(?P<host>[^/]+):(?P<port>\d{1,5})", address)
    if match is None:
        return  # "auto" and "local": Ray knows at once
    try:
        socket.create_connection((match["host"].strip("[]"), int(match["port"])), timeout=_CONNECT_TIMEOUT_S).close()
    except (OSError, OverflowError) as error:
        raise FleetError(f"no Ray cluster answers at '{address}': {error}") from error


def _outcome(job: Job, force: bool, run: Callable[[Job], Any], notes: Sequence[str] = ()) -> Outcome:
    """`notes` fills while the job runs."""
    try:
        if force:
            job.files.forget_state()
        elif job.earlier_report() is not None:
            job.files.forget_state()  # stopped when all was done but that
            return Outcome(job, "reused")
        run(job)
    except JOB_ERRORS as error:
        return Outcome(job, "failed", sentence(error), tuple(notes))
    return Outcome(job, "done", notes=tuple(notes))


def sentence(error: BaseException) -> str:
    """What an error says, for a person."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: '{error.filename}'" if error.filename else error.strerror
    return str(error) or type(error).__name__


_frames_done: Any = None  # in a worker: counts the frames of all of them


def _start_worker(frames_done: Any) -> None:
    global _frames_done
    _frames_done = frames_done
    _use_one_core()


def _work(job: Job, force: bool) -> Outcome:
    notes: list[str] = []
    return _outcome(job, force, lambda job: run_job(job, on_frame=_count_frame, on_note=notes.append), notes)


def _work_for_ray(job: Job, force: bool) -> Outcome:
    _use_one_core()
    notes: list[str] = []
    return _outcome(job, force, lambda job: run_job(job, on_note=notes.append), notes)


def _use_one_core() -> None:
    import cv2
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def _count_frame() -> None:
    with _frames_done.get_lock():
        _frames_done.value += 1


def _name(bag: Path) -> str:
    return bag.resolve().name.removesuffix(".mcap").removesuffix(".db3")


def _digest(bag: Path) -> str:
    return hashlib.sha256(str(bag.resolve()).encode()).hexdigest()[:8]
