"""An evaluation on the terminal: the progress bar while it runs, the table when it is done."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.table import Table

from sdcpc_ros.evaluation.evaluate import Evaluation


@contextmanager
def progress_bar(frames: int, doing: str = "evaluating") -> Iterator[Callable[[], None]]:
    """A bar on stderr of so many frames; call what it yields after each. Silent where stderr is no terminal."""
    console = Console(stderr=True)
    columns = (*Progress.get_default_columns()[:-1], MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(doing, total=frames)
        yield lambda: progress.advance(task)


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


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
