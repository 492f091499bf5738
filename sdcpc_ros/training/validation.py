"""Scoring a network while it is trained: as a stream, on a split with labels, as `sdcpc evaluate` does it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from sdcpc_ros.checkpoint import Checkpoint
from sdcpc_ros.dataset_kinds import open_dataset
from sdcpc_ros.datasets.video_dataset import VideoDataset
from sdcpc_ros.evaluation.evaluate import Evaluation, evaluate
from sdcpc_ros.evaluation.labelled_video import LabelledFrame, LabelledVideo
from sdcpc_ros.evaluation.report import progress_bar
from sdcpc_ros.label_set import IGNORE, LabelSet
from sdcpc_ros.streaming.segmenter import StreamingSegmenter
from sdcpc_ros.training.recipe import Recipe, RecipeError

#: What is logged of a validation: shares in percent, streaming, then the same weights frame by frame.
COLUMNS = ("miou", "weighted_iou", "mvc8", "mvc16", "single_miou", "single_mvc8", "single_mvc16")


def validation_video(recipe: Recipe, root: str | os.PathLike[str]) -> LabelledVideo | None:
    """What a recipe is validated on; None if it is not. Raises DatasetError or RecipeError."""
    settings = recipe.validation
    if settings is None:
        return None
    dataset = open_dataset(recipe.dataset, Path(root), settings.split)
    runs = [run for run in dataset.runs if any(dataset.frames[index].labelled for index in run)]
    if settings.clips:
        runs = list(islice(runs, settings.clips))
    if not runs:
        raise RecipeError(f"recipe: validation: {dataset.name} has no labelled frame; choose another split")
    return LabelledVideo(
        dataset.name, dataset.label_set, [_Run(dataset, run) for run in runs], sum(len(run) for run in runs)
    )


class _Run:
    """The frames of a run, each read when it is its turn; one without labels is all void."""

    def __init__(self, dataset: VideoDataset, run: range) -> None:
        self._dataset, self._run = dataset, run

    def __iter__(self) -> Iterator[LabelledFrame]:
        for index in self._run:
            if self._dataset.frames[index].labelled:
                image, labels = self._dataset[index]
            else:
                image = self._dataset.image(index)
                labels = np.full(image.shape[:2], IGNORE, np.uint8)
            yield LabelledFrame(image, labels, self._dataset.stamp_s(index))


def validate(checkpoint: Checkpoint, video: LabelledVideo, device: str) -> Evaluation:
    """Scores of a checkpoint, with a progress bar where there is a terminal."""
    segmenter = StreamingSegmenter(checkpoint, device=device)
    try:
        return evaluate(segmenter, video, progress=progress_bar)
    finally:
        segmenter.close()


def row(evaluation: Evaluation) -> list[str]:
    """The values of COLUMNS."""
    streaming, single = evaluation.streaming, evaluation.single_frame
    shares = (streaming.miou, streaming.weighted_iou, streaming.mvc8, streaming.mvc16)
    return [f"{100 * share:.3f}" for share in (*shares, single.miou, single.mvc8, single.mvc16)]


def check_label_sets(theirs: LabelSet, ours: LabelSet, video: str) -> None:
    """Raises RecipeError when a video to validate on has other classes than those that are learnt."""
    if theirs.class_names != ours.class_names:
        raise RecipeError(
            f"recipe: validation: {video} has the classes of {theirs.name}, the training those of {ours.name}"
        )
