"""`python -m benchmarks`: measure, show a table per question, and write the rows as JSON."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from datetime import date
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from benchmarks import backends, batches, gpu, ros_node, segformer, streaming, window_attention
from benchmarks.measure import Effort, busy_share, device_name
from benchmarks.record import FOLDER, BadRecord, record_name, write_record, write_rows
from benchmarks.rows import Row, to_table
from sdcpc_ros.runtime.process_memory import configure_malloc

QUESTIONS: dict[str, ModuleType] = {
    "a": window_attention,
    "b": streaming,
    "c": segformer,
    "d": backends,
    "e": ros_node,
    "f": batches,
    "g": gpu,
}
_BUSY = 0.3  # of the cores
_FILE_WIDTH = 180  # columns of a table that goes to a file


def main(arguments: list[str] | None = None) -> int:
    """Run the questions asked for; the exit status is 0 when all of them could be answered."""
    options = _parse(sys.argv[1:] if arguments is None else arguments)
    console = Console()
    if not console.is_terminal:
        console = Console(width=_FILE_WIDTH)
    try:
        device = _device(options.device)
    except ValueError as error:
        console.print(f"benchmarks: {error}", style="red", highlight=False)
        return 2
    if options.json is not None and not options.json.parent.is_dir():
        console.print(f"benchmarks: there is no folder {options.json.parent} to write to", style="red", highlight=False)
        return 2
    record = FOLDER / record_name(device, date.today()) if options.record else None
    rounds = options.rounds or (3 if options.quick else 25)
    effort = Effort(device, rounds, options.quick)
    command = _command(options)
    where = device_name(device)
    console.print(
        f"{where}; {rounds} rounds a row, medians, 10th to 90th percentile; ratios are ours / peer", style="dim"
    )
    if (load := busy_share()) > _BUSY:
        console.print(
            f"The machine is busy ({load:.0%} of its cores): trust the ratios, not the times.", style="yellow"
        )

    written: list[dict[str, Any]] = []
    failed = []
    for question in options.only:
        rows: list[Row] = []
        try:
            with _progress(console) as progress:
                task = progress.add_task(QUESTIONS[question].TITLE)
                for row in QUESTIONS[question].rows(effort):
                    # Tiny sizes are mostly overhead: no target is meant for them.
                    rows.append(replace(row, target=None) if options.quick else row)
                    progress.update(task, description=f"{question}: {row.name}")
        except KeyboardInterrupt:
            console.print("interrupted", style="yellow")
            options.only = []
        except Exception as error:  # the other questions can still be answered
            failed.append(question)
            console.print(f"{question}: {type(error).__name__}: {error}", style="red", highlight=False)
        if rows:
            console.print(to_table(QUESTIONS[question].TITLE, rows))
        written += [{**row.to_json(question, where, command), "load": round(load, 2)} for row in rows]
        try:  # after every question, so that what was measured is not lost
            if options.json is not None:
                write_rows(options.json, written)
            if record is not None and written:
                write_record(record, written, {name: module.TITLE for name, module in QUESTIONS.items()})
        except (OSError, BadRecord) as error:
            console.print(f"benchmarks: {error}", style="red", highlight=False)
            return 2
        if not options.only:
            return 130
    if record is not None:
        console.print(f"kept in {FOLDER.name}/{record.name}.md and .json", style="dim", highlight=False)
    return 1 if failed else 0


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.split(": ", 1)[1])
    parser.add_argument(
        "--only",
        type=_questions,
        default=list(QUESTIONS),
        metavar="a,b,...",
        help="; ".join(f"{name}: {module.TITLE[3:]}" for name, module in QUESTIONS.items()),
    )
    parser.add_argument(
        "--gpu",
        action="store_true",
        help="question g, kept as with --record; without a GPU tiny sizes, as with --quick",
    )
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it works; says nothing of speed")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there, one object each")
    parser.add_argument(
        "--record",
        action="store_true",
        help="keep the rows in benchmarks/results/<date>-<device>.json and a page of them beside it, to be committed; "
        "questions that are not run keep what that day's file says of them",
    )
    parser.add_argument("--device", default="auto", help="cpu, cuda or cuda:N; by default a GPU where there is one")
    parser.add_argument("--rounds", type=_positive, help="rounds a row, default 25, with --quick 3")
    options = parser.parse_args(arguments)
    if options.gpu:
        options.only = ["g"]
        options.quick |= options.device == "cpu" or not torch.cuda.is_available()
        options.record = not options.quick
    if options.record and options.quick:
        parser.error("--record does not go with --quick, which says nothing of speed")
    return options


def _command(options: argparse.Namespace) -> str:
    """What has to be typed for the same figures, without the paths of this machine."""
    words = ["python -m benchmarks"]
    if options.only != list(QUESTIONS):
        words.append(f"--only {','.join(options.only)}")
    words += ["--quick"] if options.quick else []
    words += [f"--device {options.device}"] if options.device != "auto" else []
    words += [f"--rounds {options.rounds}"] if options.rounds else []
    return " ".join(words)


def _questions(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in QUESTIONS]
    if unknown or not names:
        raise argparse.ArgumentTypeError(f"{text!r} names no question; {', '.join(QUESTIONS)} are there")
    return sorted(set(names))


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of rounds; 1 or more is needed")
    return int(text)


def _device(name: str) -> torch.device:
    """Raises ValueError when it is not there."""
    from sdcpc_ros.inference import checked_device

    if name == "auto":
        return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    return checked_device(name)


def _progress(console: Console) -> Progress:
    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    return Progress(*columns, console=console, transient=True)


if __name__ == "__main__":
    configure_malloc()  # as the node does: else what is measured last pays for what was freed before
    raise SystemExit(main())
