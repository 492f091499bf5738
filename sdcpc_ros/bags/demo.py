"""`sdcpc demo`: play a bag to the segmentation node over DDS; record, measure and show what comes back.

Four steps: prepare the bag, start the node as a process of its own, play and record, then measure and draw from the
labelled bag alone.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import shutil
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from sdcpc_ros import DEFAULT_MODEL
from sdcpc_ros.bags.demo_summary import demo_headline, demo_hint, demo_table
from sdcpc_ros.bags.errors import BagError, PlaybackError
from sdcpc_ros.bags.labelled_bag import write_labelled_bag
from sdcpc_ros.bags.live_report import LiveTiming, timing_summary
from sdcpc_ros.bags.messages import COMPRESSED_IMAGE
from sdcpc_ros.bags.node_process import (
    NodeProcess,
    node_command,
    ros_environment,
    terminated_as_interrupted,
    write_parameters,
)
from sdcpc_ros.bags.reader import BagReader
from sdcpc_ros.bags.showcase import LabelledTopics, look_at, write_contact_sheet
from sdcpc_ros.bags.street_bag import StreetBag, is_street_bag, write_street_bag
from sdcpc_ros.checkpoint import CheckpointError, load_checkpoint, resolve_model
from sdcpc_ros.label_set import CAMVID_11

if TYPE_CHECKING:
    from sdcpc_ros.bags.live_run import LiveRun


_STREET = StreetBag()
_STEPS = 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--bag", type=Path, metavar="PATH", help="play this bag instead of the synthetic street")
    parser.add_argument(
        "--model", default=DEFAULT_MODEL, metavar="NAME_OR_PATH", help="a shipped model or a file, default %(default)s"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("demo_output"), metavar="DIR", help="for the results, default %(default)s"
    )
    parser.add_argument(
        "--seconds",
        type=_positive,
        metavar="S",
        help=f"how much to play (default: {_STREET.length / _STREET.rate_hz:.0f} s of the street, all of a bag)",
    )
    parser.add_argument(
        "--rate",
        type=_positive,
        default=1.0,
        help="playing speed: 0.5 is half the recording's, default %(default)s",
    )
    parser.add_argument(
        *("--camera", "--image-topic"),
        dest="image_topic",
        metavar="TOPIC",
        help="the bag's camera, needed if it has several",
    )


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def run(args: argparse.Namespace) -> int:
    """The exit status: 0, 1 after one sentence about what went wrong, 130 when interrupted."""
    console, error_console = Console(highlight=False), Console(highlight=False, stderr=True)
    files = DemoFiles(args.output)
    try:
        with terminated_as_interrupted():
            _run(args, files, console)
    except (BagError, PlaybackError, CheckpointError, OSError) as error:
        error_console.print(f"[bold red]sdcpc demo:[/] {escape(str(error))}", soft_wrap=True)
        if files.node_log.exists():
            error_console.print(f"The node's log: {escape(str(files.node_log))}", soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        error_console.print("sdcpc demo: interrupted; the node has been stopped")
        return 130
    return 0


@dataclass(frozen=True)
class DemoFiles:
    """What the demo leaves in its output folder."""

    folder: Path

    @property
    def street(self) -> Path:
        """The synthetic street, kept for the next run."""
        return self.folder / "synthetic_street"

    @property
    def labelled_bag(self) -> Path:
        """Camera, ground truth, masks and confidence in one bag."""
        return self.folder / "labelled_bag"

    @property
    def video(self) -> Path:
        return self.folder / "overlay.mp4"

    @property
    def contact_sheet(self) -> Path:
        return self.folder / "contact_sheet.png"

    @property
    def summary(self) -> Path:
        """The numbers of the table and what they were taken on."""
        return self.folder / "summary.json"

    @property
    def node_log(self) -> Path:
        """All that the node printed."""
        return self.folder / "node.log"

    @property
    def node_parameters(self) -> Path:
        """What the node was configured with."""
        return self.folder / "node_parameters.yaml"

    @property
    def ros_logs(self) -> Path:
        return self.folder / "ros_logs"

    @property
    def recording(self) -> Path:
        """The node's answers as they came; gone once they are in the labelled bag."""
        return self.folder / ".recording"

    def clear(self) -> None:
        """Make the folder, without the results of an earlier run: none of them may be taken for this run's."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for file in (self.video, self.contact_sheet, self.summary, self.node_log, self.node_parameters):
            file.unlink(missing_ok=True)
        for bag in (self.labelled_bag, self.recording, self.ros_logs):
            shutil.rmtree(bag, ignore_errors=True)


def _run(args: argparse.Namespace, files: DemoFiles, console: Console) -> None:
    if args.bag is not None and files.labelled_bag.resolve() in (args.bag.resolve(), *args.bag.resolve().parents):
        raise BagError(f"bag '{args.bag}' is what an earlier demo left in the output folder; choose another --output")
    files.clear()
    if find_spec("rclpy") is None:
        raise PlaybackError("ROS 2 is not here (no rclpy): source a ROS installation, or run this through `make demo`")
    model = resolve_model(args.model)
    label_set = load_checkpoint(model).label_set

    bag_path = args.bag or _prepare_street(args.seconds, files, console)
    with BagReader(bag_path) as bag:
        topics = LabelledTopics.of(bag, args.image_topic)
        if args.bag:
            images = bag.topics[topics.camera].message_count
            _step(console, 1, f"The bag: {args.bag}, {bag.duration_s:.1f} s with {images} images on {topics.camera}")
        live = _play(args, bag, topics, model, files, console)
        with BagReader(files.recording) as recording:
            played = bag.messages(*topics.inputs, duration_s=args.seconds)
            write_labelled_bag(files.labelled_bag, played, recording, topics.outputs, live.bag_times_ns, source=bag)
        shutil.rmtree(files.recording)

    _step(console, 4, "Measuring and drawing")
    if args.bag is None and label_set.class_names != CAMVID_11.class_names:
        topics = replace(topics, ground_truth=None)  # the street's ids are CamVid's; the model's mean something else
    with BagReader(files.labelled_bag) as labelled, _progress(console) as progress:
        task = progress.add_task("frames done", total=len(live.bag_times_ns))
        quality, rows = look_at(
            labelled, topics, label_set, files.video, on_frame=lambda done: progress.update(task, completed=done)
        )
    summary = {
        "model": model.stem,
        "bag": bag_path.name,
        "ground_truth": topics.ground_truth,
        "playback_rate": args.rate,
        "machine": {"cpus": os.cpu_count(), "architecture": platform.machine(), "python": platform.python_version()},
        "timing": timing_summary(live.timing),
        "quality": quality.summary(),
        "node_diagnostics": live.node_diagnostics,
    }
    files.summary.write_text(json.dumps(summary, indent=2, allow_nan=False) + "\n")
    write_contact_sheet(files.contact_sheet, *demo_headline(summary), rows, label_set)
    console.print()
    console.print(demo_table(summary))
    hint = demo_hint(summary)
    if hint is not None:
        console.print(escape(hint))
    for what, path in (
        ("video", files.video),
        ("picture", files.contact_sheet),
        ("labelled bag", files.labelled_bag),
        ("numbers", files.summary),
        ("node's log", files.node_log),
    ):
        console.print(f"  {what:<13}{escape(str(path))}", soft_wrap=True)


def _prepare_street(seconds: float | None, files: DemoFiles, console: Console) -> Path:
    """The synthetic street as a bag: the one of the last run if it is the same, a new one otherwise."""
    wanted = _STREET if seconds is None else replace(_STREET, length=max(1, round(seconds * _STREET.rate_hz)))
    street = f"a synthetic street of {wanted.length / wanted.rate_hz:.0f} s, {wanted.length} images"
    if is_street_bag(files.street, wanted):
        _step(console, 1, f"The bag: {street}, from an earlier run")
    else:
        _step(console, 1, f"The bag: {street}")
        with _progress(console) as progress:
            task = progress.add_task("rendering", total=wanted.length)
            write_street_bag(files.street, wanted, progress=lambda done: progress.update(task, completed=done))
    return files.street


def _play(
    args: argparse.Namespace, bag: BagReader, topics: LabelledTopics, model: Path, files: DemoFiles, console: Console
) -> LiveRun:
    os.environ.update(ros_environment(files.ros_logs))
    # Only now: rclpy is not there without ROS, and reads the environment that was just set.
    from sdcpc_ros.bags.live_run import run_live
    from sdcpc_ros.bags.player import Playback

    compressed = bag.topics[topics.camera].type == COMPRESSED_IMAGE
    write_parameters(files.node_parameters, model=model, image_topic=topics.camera, compressed=compressed)
    command = node_command(files.node_parameters)
    frames = _frames_to_play(bag, topics.camera, args.seconds)
    _step(console, 2, f"The node: {command.description}, ROS domain {os.environ['ROS_DOMAIN_ID']}")
    with NodeProcess(command, files.node_log) as process, _progress(console) as progress:
        task = progress.add_task("loading the model", total=None)

        def on_ready() -> None:
            progress.update(task, total=1, completed=1, visible=False)
            _step(console, 3, f"Playing {topics.camera}, {_speed(args.rate)}")

        def on_progress(timing: LiveTiming) -> None:
            what = f"{len(timing.arrived_ns)} masks, frames played"
            progress.update(task, visible=True, description=what, total=frames, completed=len(timing.published_ns))

        return run_live(
            bag,
            topics.camera,
            [topics.camera_info] if topics.camera_info is not None else [],
            Playback(rate=args.rate, duration_s=args.seconds),
            process,
            files.recording,
            on_ready=on_ready,
            on_progress=on_progress,
        )


def _speed(rate: float) -> str:
    return "as fast as it was recorded" if rate == 1 else f"at {rate:g} times the speed it was recorded at"


def _frames_to_play(bag: BagReader, camera: str, seconds: float | None) -> int:
    images = bag.topics[camera].message_count
    return images if seconds is None or seconds >= bag.duration_s else math.ceil(images * seconds / bag.duration_s)


def _step(console: Console, number: int, text: str) -> None:
    console.print(f"[bold cyan]\\[{number}/{_STEPS}][/] {escape(text)}", soft_wrap=True)


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("      {task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
    )
