"""Evaluates many bags: in this process, in worker processes of this machine, or on a Ray cluster.

All three are `Workers`: they take a job and return a `concurrent.futures.Future`. Finished jobs are skipped. A bag that
fails, or kills its worker process, does not affect the others.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import re
import socket
import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from sdcpc_ros.bags.errors import FleetError, PlaybackError
from sdcpc_ros.replay.evaluation_job import Job, run_job

#: Errors of a job that come from its bag, its model or the disk. Any other exception is a bug.
JOB_ERRORS = (ValueError, OSError, PlaybackError)
LOCAL_RAY = "local"
_CONNECT_TIMEOUT_S = 10.0
_POLL_S = 0.2


@dataclass(frozen=True)
class Outcome:
    """The result of a job."""

    job: Job
    status: Literal["done", "reused", "failed"]
    problem: str = ""  #: of a failed job, as a sentence


class WorkerLostError(RuntimeError):
    """The process that ran a job ended before the job did."""


class Workers(Protocol):
    """Runs jobs; at most `limit` of them are submitted at a time."""

    limit: int

    def submit(self, job: Job, force: bool) -> Future[Outcome]:
        """The future raises WorkerLostError if the worker process ends, and whatever a bug raises."""
        ...

    def frames_done(self) -> int | None:
        """Frames evaluated so far by all workers; None if not known."""
        ...

    def close(self) -> None: ...


def run_jobs(
    jobs: Sequence[Job], workers: Workers, *, force: bool, on_poll: Callable[[int | None], None] = lambda frames: None
) -> Generator[Outcome, None, None]:
    """Yields the outcomes as the jobs finish. `on_poll` gets the frames done, several times a second.

    Jobs that are done already are reused, unless `force` is given. Closes the workers at the end.
    """
    waiting, running = deque(jobs), dict[Future[Outcome], Job]()
    with closing(workers):
        while waiting or running:
            while waiting and len(running) < workers.limit:
                job = waiting.popleft()
                running[workers.submit(job, force)] = job
            finished, _ = wait(running, timeout=_POLL_S, return_when=FIRST_COMPLETED)
            on_poll(workers.frames_done())
            for future in finished:
                job = running.pop(future)
                try:
                    yield future.result()
                except WorkerLostError as error:
                    yield Outcome(job, "failed", f"the process that evaluated '{job.bag}' ended abruptly{error}")


def run_one(job: Job, force: bool, run: Callable[[Job], Any] = run_job) -> Outcome:
    """Runs a job, or finds that it is done."""
    try:
        if not force and job.earlier_report() is not None:
            return Outcome(job, "reused")
        run(job)
    except JOB_ERRORS as error:
        return Outcome(job, "failed", _sentence(error))
    return Outcome(job, "done")


class InProcess:
    """This process, one job after the other. `run` runs one; see `run_job`."""

    limit = 1

    def __init__(self, run: Callable[[Job], Any] = run_job) -> None:
        self._run = run

    def submit(self, job: Job, force: bool) -> Future[Outcome]:
        future: Future[Outcome] = Future()
        try:
            future.set_result(run_one(job, force, self._run))
        except Exception as error:
            future.set_exception(error)
        return future

    def frames_done(self) -> None:
        return None

    def close(self) -> None:
        pass


class LocalProcesses:
    """`limit` processes of this machine, with one core each."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._context = multiprocessing.get_context("spawn")
        self._frames = self._context.Value("q", 0)
        # A pool of one process for each thread: a process that dies breaks its own pool only.
        self._threads = ThreadPoolExecutor(limit, thread_name_prefix="fleet")
        self._own = threading.local()
        self._pools: list[ProcessPoolExecutor] = []

    def submit(self, job: Job, force: bool) -> Future[Outcome]:
        return self._threads.submit(self._run, job, force)

    def _run(self, job: Job, force: bool) -> Outcome:
        if getattr(self._own, "pool", None) is None:
            self._own.pool = ProcessPoolExecutor(
                1, mp_context=self._context, initializer=_start_worker, initargs=(self._frames,)
            )
            self._pools.append(self._own.pool)
        try:
            return self._own.pool.submit(_run_in_worker, job, force).result()
        except BrokenProcessPool:
            self._own.pool = None
            raise WorkerLostError from None

    def frames_done(self) -> int:
        return int(self._frames.value)

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)
        for pool in self._pools:
            pool.shutdown()


class RayCluster:
    """A Ray cluster, with one CPU for each job.

    `address` as `ray.init` takes it; "local" starts a cluster of `limit` CPUs on this machine until `close`. Bags,
    model and output must have the same path on every machine. Raises FleetError if no cluster answers.
    """

    def __init__(self, address: str, limit: int) -> None:
        import ray

        self.limit, self._ray = limit, ray
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # by default Ray reports its use to its makers
        local = {"num_cpus": limit, "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
        _require_listener(address)
        try:
            options = local if address == LOCAL_RAY else {}
            ray.init(address=address, log_to_driver=False, configure_logging=False, **options)
        except (ConnectionError, ray.exceptions.RayError) as error:
            raise FleetError(f"no Ray cluster answers at '{address}': {error}") from error
        self._run = ray.remote(num_cpus=1, max_retries=0)(_run_on_ray)

    def submit(self, job: Job, force: bool) -> Future[Outcome]:
        done: Future[Outcome] = Future()

        def finish(result: Future[Outcome]) -> None:
            error = result.exception()
            if error is None:
                done.set_result(result.result())
            elif isinstance(error, self._ray.exceptions.RayError) and not isinstance(
                error, self._ray.exceptions.RayTaskError
            ):  # its worker crashed, or its machine is gone; a RayTaskError is the job's own exception
                done.set_exception(WorkerLostError(f": {str(error).strip().partition(chr(10))[0]}"))
            else:
                done.set_exception(error)

        self._run.remote(job, force).future().add_done_callback(finish)
        return done

    def frames_done(self) -> None:
        return None

    def close(self) -> None:
        self._ray.shutdown()


def output_folders(bags: Sequence[Path], output: Path) -> list[Path]:
    """A folder in `output` for each bag, with the bag's name; bags of one name get a digest of their path as well."""
    names = [bag.resolve().name.removesuffix(".mcap").removesuffix(".db3") for bag in bags]
    digests = [hashlib.sha256(str(bag.resolve()).encode()).hexdigest()[:8] for bag in bags]
    return [output / (name if names.count(name) == 1 else f"{name}-{each}") for name, each in zip(names, digests)]


def _require_listener(address: str) -> None:
    """Raises FleetError if nothing listens at HOST:PORT; Ray would try for minutes."""
    match = re.fullmatch(r"(?:ray://)?(?P<host>[^/]+):(?P<port>\d{1,5})", address)
    if match is None:
        return  # "auto" and "local", which Ray answers at once
    try:
        socket.create_connection((match["host"].strip("[]"), int(match["port"])), timeout=_CONNECT_TIMEOUT_S).close()
    except (OSError, OverflowError) as error:
        raise FleetError(f"no Ray cluster answers at '{address}': {error}") from error


def _sentence(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: '{error.filename}'" if error.filename else error.strerror
    return str(error) or type(error).__name__


_frames_done: Any = None  # in a worker process: the counter that all of them share


def _start_worker(frames_done: Any) -> None:
    global _frames_done
    _frames_done = frames_done
    _use_one_core()


def _run_in_worker(job: Job, force: bool) -> Outcome:
    return run_one(job, force, lambda job: run_job(job, on_frame=_count_frame))


def _run_on_ray(job: Job, force: bool) -> Outcome:
    _use_one_core()
    return run_one(job, force)


def _use_one_core() -> None:
    import cv2
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def _count_frame() -> None:
    with _frames_done.get_lock():
        _frames_done.value += 1
