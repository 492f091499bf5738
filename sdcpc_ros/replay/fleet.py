"""Evaluates many bags: in this process, in worker processes of this machine, or on a Ray cluster; and their report.

All three ways yield the outcome of each job as it finishes. Finished jobs are skipped, unless `force` is given. A bag
that fails, or kills its worker process, does not affect the others.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import re
import socket
import threading
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from sdcpc_ros.bags.errors import FleetError
from sdcpc_ros.evaluation.gates import Gate, missed_gates
from sdcpc_ros.evaluation.metrics import ConfusionMatrix
from sdcpc_ros.evaluation.report_file import label_set_of
from sdcpc_ros.evaluation.scorer import mean, rounded
from sdcpc_ros.replay.evaluation_job import Job, run_job
from sdcpc_ros.runtime.process_memory import configure_malloc
from sdcpc_ros.runtime.progress import ProgressBar
from sdcpc_ros.runtime.wording import error_sentence

FLEET_FORMAT = "sdcpc fleet evaluation 1"
_CONNECT_TIMEOUT_S = 10.0
_MEANS = ("mvc8", "mvc16", "steady", "confidence")


@dataclass(frozen=True)
class Outcome:
    """The result of a job."""

    job: Job
    status: Literal["done", "reused", "failed"]
    problem: str = ""  #: of a failed job, as a sentence
    report: dict[str, Any] | None = None  #: None if it failed


def run_here(jobs: Sequence[Job], *, force: bool, bar: ProgressBar | None = None) -> Generator[Outcome, None, None]:
    """Runs the jobs in this process, one after the other; `bar` shows the frames of each."""
    for job in jobs:
        yield _run_one(job, force, bar)


def run_in_processes(jobs: Sequence[Job], workers: int, *, force: bool) -> Generator[Outcome, None, None]:
    """Runs the jobs in processes of this machine, with one core each."""
    # A pool of one process for each thread: a process that dies breaks its own pool only.
    pools: dict[int, ProcessPoolExecutor] = {}

    def run(job: Job) -> Outcome:
        thread = threading.get_ident()
        if thread not in pools:
            pools[thread] = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
        try:
            return pools[thread].submit(_run_on_one_core, job, force).result()
        except BrokenProcessPool:
            pools.pop(thread).shutdown()
            return _lost(job)

    threads = ThreadPoolExecutor(workers, thread_name_prefix="fleet")
    try:
        for finished in as_completed([threads.submit(run, job) for job in jobs]):
            yield finished.result()
    finally:
        threads.shutdown(cancel_futures=True)
        for pool in pools.values():
            pool.shutdown()


def run_on_ray(jobs: Sequence[Job], address: str, workers: int, *, force: bool) -> Generator[Outcome, None, None]:
    """Runs the jobs on a Ray cluster, `workers` at a time, with one CPU each.

    `address` as `ray.init` takes it; "local" starts a cluster of `workers` CPUs on this machine. Bags, model and output
    must have the same path on every machine. Raises FleetError if no cluster answers.
    """
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # by default Ray reports its use to its makers
    local: dict[str, Any] = {"num_cpus": workers, "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    _require_listener(address)
    try:
        options = local if address == "local" else {}
        ray.init(address=address, log_to_driver=False, configure_logging=False, **options)
    except (ConnectionError, ray.exceptions.RayError) as error:
        raise FleetError(f"no Ray cluster answers at '{address}': {error}") from error
    try:
        remote = ray.remote(num_cpus=1, max_retries=0)(_run_on_one_core)
        waiting, running = deque(jobs), dict[Any, Job]()
        while waiting or running:
            while waiting and len(running) < workers:
                job = waiting.popleft()
                running[remote.remote(job, force)] = job
            (finished,), _ = ray.wait(list(running), num_returns=1)
            job = running.pop(finished)
            try:
                yield ray.get(finished)
            except ray.exceptions.RayTaskError:  # the job's own exception
                raise
            except ray.exceptions.RayError as error:  # its worker crashed, or its machine is gone
                yield _lost(job, f": {str(error).strip().partition(chr(10))[0]}")
    finally:
        ray.shutdown()


def fleet_report(outcomes: Sequence[Outcome], gates: Sequence[Gate], output: Path) -> dict[str, Any]:
    """For JSON: each bag in the given order, and the pooled scores of those that did not fail.

    IoU is pooled by pixels; mVC is the mean over all windows, steadiness and confidence over all frames. Shares in
    0..1, None where nothing could be judged.
    """
    entries: list[dict[str, Any]] = []
    for outcome in outcomes:
        job, report = outcome.job, outcome.report
        entry: dict[str, Any] = {
            "name": job.output.name,
            "path": str(job.bag),
            "status": outcome.status,
            "problem": outcome.problem,
        }
        if report is not None:
            entry |= {
                "report": job.report_path.relative_to(output).as_posix(),
                "page": job.page_path.relative_to(output).as_posix(),
                "scores": report["scores"],
                "unusable": report["bag"]["unusable"],
                "labels_sha256": report["labels_sha256"],
                "missed": missed_gates(gates, report),
            }
        entries.append(entry)
    return {
        "format": FLEET_FORMAT,
        "bags": entries,
        "failed": sum(entry["status"] == "failed" for entry in entries),
        "missed": sum(bool(entry.get("missed")) for entry in entries),
        **_pool([outcome.report for outcome in outcomes if outcome.report is not None]),
    }


def _pool(reports: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The scores of several reports as if they were one."""
    if not reports:
        return {"scores": None, "classes": []}
    label_set = label_set_of(reports[0])
    confusion = ConfusionMatrix(len(label_set))
    for report in reports:
        confusion.matrix += np.array(report["confusion"], np.int64)
        confusion.unlabelled += np.array(report["unlabelled"], np.int64)
    scores = {
        **{name: sum(report["scores"][name] for report in reports) for name in ("frames", "judged_frames")},
        "miou": rounded(confusion.miou()),
        "weighted_iou": rounded(confusion.weighted_iou()),
        **{name: mean([each for report in reports for each in report["frames"][name]]) for name in _MEANS},
    }
    classes = [
        {"name": name, "colour": list(colour), "iou": rounded(iou)}
        for name, colour, iou in zip(label_set.class_names, label_set.colours, confusion.iou())
    ]
    matrix, unlabelled = confusion.matrix.tolist(), confusion.unlabelled.tolist()
    return {"scores": scores, "classes": classes, "confusion": matrix, "unlabelled": unlabelled}


def output_folders(bags: Sequence[Path], output: Path) -> list[Path]:
    """A folder in `output` for each bag, with the bag's name; bags of one name get a digest of their path as well.

    Raises FleetError if such a folder is the bag itself or contains it.
    """
    names = [bag.resolve().name.removesuffix(".mcap").removesuffix(".db3") for bag in bags]
    digests = [hashlib.sha256(str(bag.resolve()).encode()).hexdigest()[:8] for bag in bags]
    folders = [output / (name if names.count(name) == 1 else f"{name}-{each}") for name, each in zip(names, digests)]
    for bag, folder in zip(bags, folders):
        if bag.resolve().is_relative_to(folder.resolve()):
            raise FleetError(f"the results of '{bag}' would be written into the bag itself; name another --output")
    return folders


def _run_one(job: Job, force: bool, bar: ProgressBar | None = None) -> Outcome:
    """Runs a job, or finds that it is done. Exceptions other than of the bag, the model or the disk are bugs."""
    try:
        report = None if force else job.earlier_report()
        if report is not None:
            return Outcome(job, "reused", report=report)
        return Outcome(job, "done", report=run_job(job, bar))
    except (OSError, ValueError) as error:
        return Outcome(job, "failed", error_sentence(error) or type(error).__name__)


def _lost(job: Job, reason: str = "") -> Outcome:
    return Outcome(job, "failed", f"the process that evaluated '{job.bag}' ended abruptly{reason}")


def _require_listener(address: str) -> None:
    """Raises FleetError if nothing listens at HOST:PORT; Ray would try for minutes."""
    match = re.fullmatch(r"(?:ray://)?(?P<host>[^/]+):(?P<port>\d{1,5})", address)
    if match is None:
        return  # "auto" and "local", which Ray answers at once
    try:
        socket.create_connection((match["host"].strip("[]"), int(match["port"])), timeout=_CONNECT_TIMEOUT_S).close()
    except (OSError, OverflowError) as error:
        raise FleetError(f"no Ray cluster answers at '{address}': {error}") from error


def _run_on_one_core(job: Job, force: bool) -> Outcome:
    import cv2
    import torch

    configure_malloc()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    return _run_one(job, force)
