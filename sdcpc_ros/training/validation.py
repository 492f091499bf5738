"""Scoring a network while it is trained: as a stream, on a split with labels, as `sdcpc evaluate` does it."""

from __future__ import annotations

import os
from pathlib import Path

from sdcpc_ros.datasets.dataset_kinds import open_dataset
from sdcpc_ros.evaluation.evaluate import Evaluation, evaluate
from sdcpc_ros.evaluation.labelled_video import LabelledVideo, labelled_video
from sdcpc_ros.labels.label_set import LabelSet
from sdcpc_ros.model_files.checkpoint import Checkpoint
from sdcpc_ros.runtime.progress import ProgressBar
from sdcpc_ros.streaming.segmenter import StreamingSegmenter
from sdcpc_ros.training.recipe import Recipe, RecipeError

#: What is logged of a validation: shares in percent, streaming, then the same weights frame by frame.
COLUMNS = ("miou", "weighted_iou", "mvc8", "mvc16", "single_miou", "single_mvc8", "single_mvc16")


def validation_video(recipe: Recipe, root: str | os.PathLike[str]) -> LabelledVideo | None:
    """What a recipe is validated on; None if it is not. Raises DatasetError or RecipeError."""
    settings = recipe.validation
    if settings is None:
        return None
    return labelled_video(open_dataset(recipe.dataset, Path(root), settings.split), clips=settings.clips)


def validate(checkpoint: Checkpoint, video: LabelledVideo, device: str) -> Evaluation:
    """Scores of a checkpoint, with a progress bar where there is a terminal."""
    segmenter = StreamingSegmenter(checkpoint, device=device, backend="eager")
    try:
        return evaluate(segmenter, video, progress=ProgressBar)
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
