"""Scores a segmenter on labelled video: as a stream, and on single frames with the same weights; and their table."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from rich.markup import escape
from rich.table import Table

from sdcpc_ros.datasets.video_dataset import DatasetError, VideoDataset
from sdcpc_ros.evaluation.metrics import MVC_MODES
from sdcpc_ros.evaluation.scorer import Scorer
from sdcpc_ros.labels.label_set import LabelSetError
from sdcpc_ros.runtime.progress import ProgressBar
from sdcpc_ros.runtime.wording import count_noun
from sdcpc_ros.streaming.segmenter import StreamingSegmenter

_STREAM = "evaluation"
_ROWS = {
    "mIoU %": "miou",
    "weighted IoU %": "weighted_iou",
    "mVC8 % (clean)": "mvc8",
    "mVC16 % (clean)": "mvc16",
    "mVC8 % (reference)": "mvc8_reference",
    "mVC16 % (reference)": "mvc16_reference",
    "TC % (exact flow, nearest, occlusions masked)": "tc",
    "ms a frame (median)": "ms_per_frame",
}


def labelled_clips(dataset: VideoDataset) -> list[range]:
    """The frames to score: the data set's runs that have labels, each up to its last labelled frame.

    Raises DatasetError if there are no labels.
    """
    labelled = ([index for index in run if dataset.frames[index].labelled] for run in dataset.runs)
    clips = [range(run.start, indices[-1] + 1) for run, indices in zip(dataset.runs, labelled) if indices]
    if not clips:
        raise DatasetError(f"{dataset.name} has no labels to judge by")
    return clips


@dataclass(frozen=True)
class Scores:
    """The scores of one way to label a video. Shares are in 0..1, nan where nothing could be judged."""

    miou: float
    weighted_iou: float
    class_iou: dict[str, float]
    mvc8: float  #: the "clean" definition, see VideoConsistency
    mvc16: float
    mvc8_reference: float  #: as VSPW's script counts
    mvc16_reference: float
    tc: float  #: nan without flow
    ms_per_frame: float  #: median, from image to labels


@dataclass(frozen=True)
class Evaluation:
    """The same weights on the same video, as a stream and frame by frame."""

    video: str
    clips: int
    frames: int
    labelled_frames: int  #: with ground truth
    streaming: Scores
    single_frame: Scores

    def to_dict(self) -> dict[str, Any]:
        """For JSON: nan becomes None."""
        return _without_nan(asdict(self))


def evaluate(
    segmenter: StreamingSegmenter,
    dataset: VideoDataset,
    *,
    labels_of: Callable[[np.ndarray], np.ndarray] | None = None,
    doing: str = "evaluating",
) -> Evaluation:
    """Scores `segmenter` on every labelled frame of every clip, in order; the stream gets the other frames too.

    `labels_of`: gives the labels of a single frame; None: `segmenter.segment_single`. `doing`: for the progress bar.
    Raises LabelSetError if the segmenter's classes are not those of the data set, DatasetError if it has no labels.
    """
    clips = labelled_clips(dataset)
    frames = sum(map(len, clips))
    if segmenter.label_set.class_names != dataset.label_set.class_names:
        ours, theirs = (
            f"'{each.name}' ({', '.join(each.class_names)})" for each in (segmenter.label_set, dataset.label_set)
        )
        raise LabelSetError(f"the model's classes are {ours}; {dataset.name} has {theirs}")
    labels_of = labels_of or (lambda image: segmenter.segment_single(image).labels)
    streaming, single_frame = (Scorer(dataset.label_set, MVC_MODES) for _ in range(2))
    streaming_ms, single_frame_ms = list[float](), list[float]()
    with ProgressBar(frames, doing) as advance:
        for clip in clips:
            segmenter.reset(_STREAM)
            size: tuple[int, ...] = ()
            for index in clip:
                facts, flow = dataset.frames[index], dataset.flow(index) or (None, None)
                image, truth = dataset[index] if facts.labelled else (dataset.image(index), None)
                if size and image.shape != size:  # a new stream, as for the segmenter
                    streaming.interrupt()
                    single_frame.interrupt()
                size = image.shape
                with _timed(streaming_ms):
                    labels = segmenter.segment(image, facts.stamp_s, stream=_STREAM).labels
                streaming.update(labels, truth, flow=flow[0], flow_valid=flow[1])
                if truth is None:
                    single_frame.interrupt()
                else:
                    with _timed(single_frame_ms):
                        labels = labels_of(image)
                    single_frame.update(labels, truth, flow=flow[0], flow_valid=flow[1])
                advance()
            streaming.interrupt()
            single_frame.interrupt()
    segmenter.reset(_STREAM)
    both = _scores(streaming, streaming_ms), _scores(single_frame, single_frame_ms)
    return Evaluation(dataset.name, len(clips), frames, single_frame.judged, *both)


@contextmanager
def _timed(elapsed_ms: list[float]) -> Iterator[None]:
    """Appends how long the block takes."""
    started = time.perf_counter()
    yield
    elapsed_ms.append((time.perf_counter() - started) * 1e3)


def _scores(scorer: Scorer, elapsed_ms: list[float]) -> Scores:
    return Scores(
        miou=scorer.confusion.miou(),
        weighted_iou=scorer.confusion.weighted_iou(),
        class_iou=dict(zip(scorer.label_set.class_names, scorer.confusion.iou().tolist())),
        mvc8=scorer.mvc[8, "clean"].value(),
        mvc16=scorer.mvc[16, "clean"].value(),
        mvc8_reference=scorer.mvc[8, "reference"].value(),
        mvc16_reference=scorer.mvc[16, "reference"].value(),
        tc=scorer.tc.value(),
        ms_per_frame=statistics.median(elapsed_ms) if elapsed_ms else math.nan,
    )


def evaluation_table(evaluation: Evaluation) -> Table:
    """Both ways of using the weights side by side: the scores that sum up, then IoU by class; shares in percent."""
    judged, frames = evaluation.labelled_frames, count_noun(evaluation.frames, "frame")
    labelled = "" if judged == evaluation.frames else f", {judged} of them labelled"
    table = Table(title=f"{escape(evaluation.video)}: {frames} in {count_noun(evaluation.clips, 'clip')}{labelled}")
    table.add_column("")
    table.add_column("streaming", justify="right")
    table.add_column("single frame", justify="right")
    both = (evaluation.streaming, evaluation.single_frame)
    for name, key in _ROWS.items():
        values = [getattr(scores, key) * (1 if key == "ms_per_frame" else 100) for scores in both]
        if key != "tc" or not math.isnan(values[0]):
            table.add_row(name, *map(_number, values))
    table.add_section()
    for name in evaluation.streaming.class_iou:
        table.add_row(f"IoU % {escape(name)}", *(_number(100 * scores.class_iou[name]) for scores in both))
    return table


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}"


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nan(each) for name, each in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value
