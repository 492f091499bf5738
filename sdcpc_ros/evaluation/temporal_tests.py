"""Tests of the temporal path: lower frame rates, cuts and turns, each scored as a stream and on single frames."""

from __future__ import annotations

import hashlib
import math
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from sdcpc_ros.datasets.dataset_views import Pan, every_nth_frame, single_videos, spliced
from sdcpc_ros.datasets.video_dataset import VideoDataset
from sdcpc_ros.evaluation.evaluate import Evaluation, evaluate, labelled_clips
from sdcpc_ros.labels.label_set import thin_classes
from sdcpc_ros.streaming.segmenter import StreamingSegmenter


@dataclass(frozen=True)
class TemporalTest:
    """A view of a data set for a stream."""

    kind: str  #: "every", "cuts", "turns" or "video"
    value: int | float | str  #: every n-th frame, a cut every n frames, share of the width a frame, the video's name
    title: str  #: for a row of a table
    dataset: VideoDataset  #: the view


@dataclass(frozen=True)
class TestResult:
    """The scores of a test."""

    __test__ = False  # for pytest

    test: TemporalTest
    evaluation: Evaluation

    def to_dict(self) -> dict[str, Any]:
        """For JSON. Times are left out: single frames that tests share are run once (see cached_labels)."""
        values = self.evaluation.to_dict()
        for way in ("streaming", "single_frame"):
            del values[way]["ms_per_frame"]
        return {"test": self.test.kind, "value": self.test.value, "rate_hz": self.test.dataset.rate_hz, **values}


def temporal_tests(
    dataset: VideoDataset,
    *,
    every: Sequence[int] = (),
    cuts: Sequence[int] = (),
    turns: Sequence[float] = (),
    each_video: bool = False,
) -> list[TemporalTest]:
    """The tests in this order. No image is read.

    every: of each run only every n-th frame. cuts: two clips alternate every n frames, and the first frame after each
    cut is scored. turns: a window moves sideways by this share of its width a frame. each_video: every video of the
    data set by itself. Raises DatasetError for a value that does not suit the data set, or one without labels.
    """
    tests = [
        *(
            TemporalTest("every", n, "every frame" if n == 1 else f"1 frame in {n}", every_nth_frame(dataset, n))
            for n in every
        ),
        *(TemporalTest("cuts", n, f"cut every {n}", spliced(dataset, n)) for n in cuts),
        *(TemporalTest("turns", share, f"turn {100 * share:g} %", Pan(dataset, share)) for share in turns),
    ]
    for view in single_videos(dataset) if each_video else ():
        if view.labelled:
            name = dataset.frames[view.indices[0]].video
            tests.append(TemporalTest("video", name, name, view))
    for test in tests:
        labelled_clips(test.dataset)  # raises where nothing is labelled
    return tests


def run_temporal_tests(segmenter: StreamingSegmenter, tests: Iterable[TemporalTest]) -> list[TestResult]:
    """Scores `segmenter` in each test, whose title the progress bar shows. Raises as `evaluate`."""
    labels_of = cached_labels(segmenter.segment_single)
    return [
        TestResult(test, evaluate(segmenter, test.dataset, labels_of=labels_of, doing=test.title)) for test in tests
    ]


def cached_labels(segment_single: Callable[[np.ndarray], Any]) -> Callable[[np.ndarray], np.ndarray]:
    """The labels of an image by `segment_single`, which are kept, compressed, since all tests share them."""
    compressed: dict[tuple[tuple[int, ...], bytes], bytes] = {}

    def labels_of(image: np.ndarray) -> np.ndarray:
        key = (image.shape, hashlib.sha256(image.tobytes()).digest())
        if key not in compressed:
            labels = segment_single(image).labels
            compressed[key] = zlib.compress(np.ascontiguousarray(labels, np.uint8).tobytes(), 1)
        return np.frombuffer(zlib.decompress(compressed[key]), np.uint8).reshape(image.shape[:2])

    return labels_of


def temporal_test_table(results: Sequence[TestResult]) -> Table:
    """One row a test, each score as "streaming/single frame" in percent; of the classes those that are thin."""
    title = "streaming/single frame, %; of cuts the first frame after each"
    table = Table(title=title, box=SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    thin = thin_classes(list(results[0].evaluation.streaming.class_iou))
    table.add_column("test", no_wrap=True)
    for name in ("judged", "mIoU", "mVC8", "mVC16", *thin):
        table.add_column(escape(name), justify="right", no_wrap=True)
    for result in results:
        both = (result.evaluation.streaming, result.evaluation.single_frame)
        values = [[getattr(scores, name) for scores in both] for name in ("miou", "mvc8", "mvc16")]
        values += [[scores.class_iou[name] for scores in both] for name in thin]
        table.add_row(result.test.title, str(result.evaluation.labelled_frames), *map(_side_by_side, values))
    return table


def _side_by_side(shares: Iterable[float]) -> str:
    texts = ["-" if math.isnan(share) else f"{100 * share:.1f}" for share in shares]
    return "-" if set(texts) == {"-"} else "/".join(texts)
