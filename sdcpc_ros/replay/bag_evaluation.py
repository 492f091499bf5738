"""Evaluates one bag offline: runs every frame through the node's segmenter and reports the scores."""

from __future__ import annotations

import math
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sdcpc_ros import __version__
from sdcpc_ros.bags.errors import BagError
from sdcpc_ros.bags.reader import BagReader
from sdcpc_ros.evaluation.pages.frame_pictures import ReportPictures
from sdcpc_ros.evaluation.report_file import REPORT_FORMAT
from sdcpc_ros.evaluation.scorer import Scorer
from sdcpc_ros.replay.bag_source import BagSettings, BagSource
from sdcpc_ros.replay.segmented_frames import Run, SegmentedFrame, Sink, Unusable, feed, segment_frames
from sdcpc_ros.streaming.segmenter import StreamingSegmenter


@dataclass(frozen=True)
class Model:
    """A segmenter, and its name in the report."""

    segmenter: StreamingSegmenter
    name: str
    sha256: str  #: of the checkpoint's file


@dataclass(frozen=True)
class BagEvaluation:
    """The report for JSON, and the images that only the page shows."""

    report: dict[str, Any]
    pictures: ReportPictures


def evaluate_bag(
    path: str | Path,
    model: Model,
    settings: BagSettings | None = None,
    *,
    on_start: Callable[[int], None] = lambda frames: None,
    sinks: Sequence[Sink] = (),
) -> BagEvaluation:
    """Evaluates a bag. The same bag, model and settings give the same report, except for its "timing".

    `on_start` gets the expected number of images; each of `sinks` gets every frame in turn. Images that cannot be
    used are skipped and listed. Raises BagError if the bag cannot be read or judged, or holds no usable image.
    """
    label_set = model.segmenter.label_set
    scorer, pictures = Scorer(label_set), ReportPictures()

    def score(frame: SegmentedFrame | Unusable) -> None:
        if isinstance(frame, Unusable):
            return
        image, result = frame.source, frame.segmentation
        try:
            scorer.update(
                result.labels,
                image.truth,
                result.confidence,
                number=image.number,
                stamp_ns=image.stamp_ns,
                references=result.references,
                reset=result.reset,
            )
        except ValueError as error:
            raise BagError(f"bag '{path}': the {source.truth.description} cannot judge the labels: {error}") from error
        # Frames without a truth are chosen by confidence if no frame has one.
        value = scorer.log.miou[-1] if scorer.judged else scorer.log.confidence[-1]
        pictures.add(value, image.number, image.image, result.labels, image.truth)

    with BagReader(path) as bag:
        source = BagSource(bag, settings, label_set.colours)
        on_start(source.expected)
        frames = segment_frames(model.segmenter, source.frames(), max_gap_s=source.settings.max_gap_s)
        started = time.perf_counter()
        run = feed(frames, [score, *sinks], f"bag '{path}' has no usable image on {source.camera}")
        wall_s = time.perf_counter() - started
        if source.truth.description != "none" and not scorer.judged:
            run.problems.insert(0, f"no image has a ground truth: {source.truth.description}")
        pictures.flicker = scorer.flicker.rate()
        report = {
            "format": REPORT_FORMAT,
            "bag": _bag_facts(source, run),
            **_model_facts(model, source.settings),
            "problems": run.problems,
            **scorer.report(),
            "worst": [extreme.number for extreme in pictures.worst.frames],
            "best": [extreme.number for extreme in pictures.best.frames],
            "timing": _timing(run, wall_s),
        }
        return BagEvaluation(report, pictures)


def _bag_facts(source: BagSource, run: Run) -> dict[str, Any]:
    bag, camera = source.bag, source.bag.topics[source.camera]
    return {
        "name": bag.path.stem if bag.path.is_file() else bag.path.name,
        "path": str(bag.path),
        "camera": camera.name,
        "camera_type": camera.type,
        "truth": source.truth.description,
        "start_ns": bag.start_ns,
        "duration_s": round(bag.duration_s, 9),
        "images": camera.message_count,
        "unusable": run.unusable,
        "topics": {name: [topic.type, topic.message_count] for name, topic in sorted(bag.topics.items())},
    }


def _model_facts(model: Model, settings: BagSettings) -> dict[str, Any]:
    segmenter = model.segmenter
    size = segmenter.input_size
    return {
        "model": {
            "name": model.name,
            "sha256": model.sha256,
            "label_set": segmenter.label_set.to_dict(),
            "model_size": list(segmenter.model_size),
        },
        "settings": {
            **asdict(settings),
            "void": list(settings.void),
            "device": str(segmenter.device),
            "backend": segmenter.backend,
            "precision": segmenter.precision,
            "input_size": None if size is None else list(size),
            "threads": torch.get_num_threads(),  # the order of sums, and so the last digits, depend on it
        },
        "versions": _versions(),
    }


def _timing(run: Run, wall_s: float) -> dict[str, Any]:
    network_s = run.network_ms / 1e3
    p50, p95, longest = np.percentile(run.elapsed_ms, (50, 95, 100)).tolist()
    return {
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "wall_s": round(wall_s, 3),
        "segmenter_s": round(math.fsum(run.elapsed_ms) / 1e3, 3),
        "network_s": round(network_s, 3),
        "wall_over_network": round(wall_s / network_s, 3),
        "ms_per_frame": {"p50": round(p50, 2), "p95": round(p95, 2), "max": round(longest, 2)},
        "frames_ms": [round(elapsed, 2) for elapsed in run.elapsed_ms],
        "cpus": os.cpu_count(),
    }


def _versions() -> dict[str, str]:
    """Versions of this package and of the packages that the numbers depend on."""
    found = {"sdcpc_ros": __version__, "python": platform.python_version()}
    for package in ("torch", "numpy", "opencv-python-headless", "rosbags"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not known to pip"
    return found
