"""`sdcpc demo`: plays a bag to the segmentation node over DDS, records and measures the answers, and draws them.

Four steps: prepare the bag, start the node, play and record, then measure and draw from the labelled bag.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import shutil
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from sdcpc_ros import DEFAULT_MODEL
from sdcpc_ros.bags.errors import BagError, PlaybackError
from sdcpc_ros.bags.messages import COMPRESSED_IMAGE
from sdcpc_ros.bags.reader import BagReader
from sdcpc_ros.evaluation.report_file import write_json
from sdcpc_ros.labels.label_set import CAMVID_11
from sdcpc_ros.model_files.checkpoint import CheckpointError, load_checkpoint, resolve_model
from sdcpc_ros.replay.demo_summary import demo_headline, demo_hint, demo_table
from sdcpc_ros.replay.labelled_bag import write_labelled_bag
from sdcpc_ros.replay.live_timing import LiveTiming
from sdcpc_ros.replay.node_process import (
    NodeProcess,
    node_command,
    ros_environment,
    terminated_as_interrupted,
    write_parameters,
)
from sdcpc_ros.replay.preview import LabelledTopics, render_preview, write_contact_sheet
from sdcpc_ros.replay.street_bag import StreetBag, is_street_bag, write_street_bag
from sdcpc_ros.runtime.progress import ProgressBar

if TYPE_CHECKING:
    from sdcpc_ros.replay.live_run import LiveRun


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
    street_s = _STREET.length / _STREET.rate_hz
    parser.add_argument(
        "--seconds",
        type=_positive,
        metavar="S",
        help=f"how much to play (default: {street_s:.0f} s of the street, all of a bag)",
    )
    parser.add_argument(
        "--rate", type=_positive, default=1.0, help="playing speed: 0.5 is half the recording's, default %(default)s"
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
    """The exit status: 0, 1 after one sentence about the error, 130 when interrupted."""
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


class DemoFiles:
    """The files in the demo's output folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.street = folder / "synthetic_street"  #: kept for the next run
        self.labelled_bag = folder / "labelled_bag"  #: camera, ground truth, masks and confidence
        self.video = folder / "overlay.mp4"
        self.contact_sheet = folder / "contact_sheet.png"
        self.summary = folder / "summary.json"  #: the numbers of the table, and the machine
        self.node_log = folder / "node.log"
        self.node_parameters = folder / "node_parameters.yaml"
        self.ros_logs = folder / "ros_logs"
        self.recording = folder / ".recording"  #: the node's answers; deleted when they are in the labelled bag

    def clear(self) -> None:
        """Makes the folder and removes the results of an earlier run."""
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
    with (
        BagReader(files.labelled_bag) as labelled,
        ProgressBar(len(live.bag_times_ns), "frames done", console=console) as advance,
    ):
        quality, rows = render_preview(labelled, topics, label_set, files.video, on_frame=advance)
    summary = {
        "model": model.stem,
        "bag": bag_path.name,
        "ground_truth": topics.ground_truth,
        "playback_rate": args.rate,
        "machine": {"cpus": os.cpu_count(), "architecture": platform.machine(), "python": platform.python_version()},
        "timing": live.timing.summary(),
        "quality": quality,
        "node_diagnostics": live.node_diagnostics,
    }
    write_json(files.summary, summary, indent=2)
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
    """The synthetic street as a bag: that of the last run if it is the same, else a new one."""
    wanted = _STREET if seconds is None else replace(_STREET, length=max(1, round(seconds * _STREET.rate_hz)))
    street = f"a synthetic street of {wanted.length / wanted.rate_hz:.0f} s, {wanted.length} images"
    if is_street_bag(files.street, wanted):
        _step(console, 1, f"The bag: {street}, from an earlier run")
    else:
        _step(console, 1, f"The bag: {street}")
        with ProgressBar(wanted.length, "rendering", console=console) as advance:
            write_street_bag(files.street, wanted, on_frame=advance)
    return files.street


def _play(
    args: argparse.Namespace, bag: BagReader, topics: LabelledTopics, model: Path, files: DemoFiles, console: Console
) -> LiveRun:
    os.environ.update(ros_environment(files.ros_logs))
    # Imported here: rclpy is missing without ROS, and reads the environment that was just set.
    from sdcpc_ros.replay.live_run import run_live
    from sdcpc_ros.replay.player import Playback

    compressed = bag.topics[topics.camera].type == COMPRESSED_IMAGE
    write_parameters(files.node_parameters, model=model, image_topic=topics.camera, compressed=compressed)
    command = node_command(files.node_parameters)
    _step(console, 2, f"The node: {command.description}, ROS domain {os.environ['ROS_DOMAIN_ID']}")
    with (
        NodeProcess(command, files.node_log) as process,
        ProgressBar(None, "loading the model", console=console) as bar,
    ):

        def on_ready() -> None:
            bar.restart(_frames_to_play(bag, topics.camera, args.seconds), "playing")
            speed = "as fast as it was recorded" if args.rate == 1 else f"at {args.rate:g} times the recorded speed"
            _step(console, 3, f"Playing {topics.camera}, {speed}")

        def on_progress(timing: LiveTiming) -> None:
            bar.update(len(timing.published_ns), f"{len(timing.arrived_ns)} masks, frames played")

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


def _frames_to_play(bag: BagReader, camera: str, seconds: float | None) -> int:
    images = bag.topics[camera].message_count
    return images if seconds is None or seconds >= bag.duration_s else math.ceil(images * seconds / bag.duration_s)


def _step(console: Console, number: int, text: str) -> None:
    console.print(f"[bold cyan]\\[{number}/{_STEPS}][/] {escape(text)}", soft_wrap=True)
