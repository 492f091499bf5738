"""The tables of an evaluation on the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table

from sdcpc_ros.evaluation.evaluate import Evaluation
from sdcpc_ros.evaluation.temporal_tests import TestResult
from sdcpc_ros.labels.label_set import thin_classes


def evaluation_table(evaluation: Evaluation) -> Table:
    """Both ways of using the weights side by side: the scores that sum up, then IoU by class; shares in percent."""
    judged = evaluation.labelled_frames
    labelled = "" if judged == evaluation.frames else f", {judged} of them labelled"
    clips = _plural(evaluation.clips, "clip")
    table = Table(title=f"{evaluation.video}: {_plural(evaluation.frames, 'frame')} in {clips}{labelled}")
    table.add_column("")
    table.add_column("streaming", justify="right")
    table.add_column("single frame", justify="right")

    both = (evaluation.streaming, evaluation.single_frame)

    def add(name: str, values: Iterable[float]) -> None:
        table.add_row(name, *("-" if math.isnan(value) else f"{value:.2f}" for value in values))

    add("mIoU %", (100 * scores.miou for scores in both))
    add("weighted IoU %", (100 * scores.weighted_iou for scores in both))
    add("mVC8 % (clean)", (100 * scores.mvc8 for scores in both))
    add("mVC16 % (clean)", (100 * scores.mvc16 for scores in both))
    add("mVC8 % (reference)", (100 * scores.mvc8_reference for scores in both))
    add("mVC16 % (reference)", (100 * scores.mvc16_reference for scores in both))
    if not math.isnan(evaluation.streaming.tc):
        add("TC % (exact flow, nearest, occlusions masked)", (100 * scores.tc for scores in both))
    add("ms a frame (median)", (scores.ms_per_frame for scores in both))
    table.add_section()
    for name in evaluation.streaming.class_iou:
        add(f"IoU % {name}", (100 * scores.class_iou[name] for scores in both))
    return table


def temporal_test_table(results: Sequence[TestResult]) -> Table:
    """One row a test, each score as "streaming/single frame" in percent; of the classes those that are thin."""
    title = "streaming/single frame, %; of cuts the first frame after each"
    table = Table(title=title, box=SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    thin = thin_classes(list(results[0].evaluation.streaming.class_iou))
    table.add_column("test", no_wrap=True)
    for name in ("judged", "mIoU", "mVC8", "mVC16", *thin):
        table.add_column(name, justify="right", no_wrap=True)
    for result in results:
        both = (result.evaluation.streaming, result.evaluation.single_frame)
        values = [[getattr(scores, name) for scores in both] for name in ("miou", "mvc8", "mvc16")]
        values += [[scores.class_iou[name] for scores in both] for name in thin]
        table.add_row(result.test.title, str(result.evaluation.labelled_frames), *map(_side_by_side, values))
    return table


def _side_by_side(shares: Iterable[float]) -> str:
    texts = ["-" if math.isnan(share) else f"{100 * share:.1f}" for share in shares]
    return "-" if set(texts) == {"-"} else "/".join(texts)


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
