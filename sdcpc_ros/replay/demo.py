"""`sdcpc demo`: plays a bag to the segmentation node over DDS, records and measures the answers, and draws them.

Four steps: prepare the bag, start the node, play and record, then measure and draw from the labelled bag.
"""

from __future__ import annotations

import math
import os
import platform
import shutil
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from sdcpc_ros.bags.errors import BagError
from sdcpc_ros.bags.reader import BagReader
from sdcpc_ros.evaluation.report_file import write_json
from sdcpc_ros.labels.label_set import CAMVID_11
from sdcpc_ros.model_files.checkpoint import load_checkpoint, resolve_model
from sdcpc_ros.replay.demo_summary import demo_headline, demo_hint, demo_table
from sdcpc_ros.replay.labelled_bag import write_labelled_bag
from sdcpc_ros.replay.live_run import LivePlan, LiveRun, live_run, require_ros
from sdcpc_ros.replay.node_process import terminated_as_interrupted
from sdcpc_ros.replay.preview import render_preview, write_contact_sheet
from sdcpc_ros.replay.sources import BagSettings
from sdcpc_ros.replay.street_bag import StreetBag, is_street_bag, write_street_bag
from sdcpc_ros.runtime.progress import ProgressBar

_STREET = StreetBag()
_STEPS = 4
#: The results in the output folder, by their names in the printed list.
_RESULTS = {
    "video": "overlay.mp4",
    "picture": "contact_sheet.png",
    "labelled bag": "labelled_bag",
    "numbers": "summary.json",  # of the table, and the machine
    "node's log": "node.log",
}


def run_demo(
    bag_path: Path | None, model_name: str, output: Path, *, seconds: float | None, rate: float, camera: str | None
) -> None:
    """Plays the bag, or the synthetic street, to a node of its own and writes the results into `output`.

    `seconds`: how much is played; None: all. `rate`: 0.5 plays at half speed. `camera`: the image topic, of a bag
    with several. Raises BagError, PlaybackError or CheckpointError.
    """
    console = Console(highlight=False)
    files = {name: output / file for name, file in _RESULTS.items()}
    labelled_bag = files["labelled bag"]
    if bag_path is not None and labelled_bag.resolve() in (bag_path.resolve(), *bag_path.resolve().parents):
        raise BagError(f"bag '{bag_path}' is what an earlier demo left in the output folder; choose another --output")
    require_ros(", or run this through `make demo`")
    _clear(output, files)
    model = resolve_model(model_name)
    label_set = load_checkpoint(model).label_set
    with terminated_as_interrupted():
        source = bag_path or _prepare_street(seconds, output / "synthetic_street", console)
        with BagReader(source) as bag:
            camera = bag.camera_topic(camera)
            truth_topic = bag.ground_truth_topic(camera)
            if bag_path is not None:
                images = bag.topics[camera].message_count
                _step(console, 1, f"The bag: {bag_path}, {bag.duration_s:.1f} s with {images} images on {camera}")
            settings = BagSettings(camera=camera, duration_s=seconds)
            live = _play(bag, settings, LivePlan(rate), model, output, labelled_bag, console)
        _step(console, 4, "Measuring and drawing")
        if bag_path is None and label_set.class_names != CAMVID_11.class_names:
            truth_topic = None  # the street's ids are CamVid's; the model's mean something else
        with (
            BagReader(labelled_bag) as labelled,
            ProgressBar(len(live.bag_times_ns), "frames done", console=console) as advance,
        ):
            preview = render_preview(labelled, camera, truth_topic, label_set, files["video"], on_frame=advance)
    quality, rows = preview
    summary = {
        "model": model.stem,
        "bag": source.name,
        "ground_truth": truth_topic,
        "playback_rate": rate,
        "machine": {"cpus": os.cpu_count(), "architecture": platform.machine(), "python": platform.python_version()},
        "timing": live.summary(),
        "quality": quality,
        "node_diagnostics": live.node_diagnostics,
    }
    write_json(files["numbers"], summary, indent=2)
    write_contact_sheet(files["picture"], *demo_headline(summary), rows, label_set)
    console.print()
    console.print(demo_table(summary))
    hint = demo_hint(summary)
    if hint is not None:
        console.print(escape(hint))
    for name, path in files.items():
        console.print(f"  {name:<13}{escape(str(path))}", soft_wrap=True)


def _clear(output: Path, files: dict[str, Path]) -> None:
    """Makes the output folder and removes the results of an earlier demo; the street stays for the next one."""
    output.mkdir(parents=True, exist_ok=True)
    for path in (*files.values(), output / "ros_logs"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _prepare_street(seconds: float | None, path: Path, console: Console) -> Path:
    """The synthetic street as a bag: that of the last run if it is the same, else a new one."""
    wanted = _STREET if seconds is None else replace(_STREET, length=max(1, round(seconds * _STREET.rate_hz)))
    street = f"a synthetic street of {wanted.length / wanted.rate_hz:.0f} s, {wanted.length} images"
    if is_street_bag(path, wanted):
        _step(console, 1, f"The bag: {street}, from an earlier run")
    else:
        _step(console, 1, f"The bag: {street}")
        with ProgressBar(wanted.length, "rendering", console=console) as advance:
            write_street_bag(path, wanted, on_frame=advance)
    return path


def _play(
    bag: BagReader,
    settings: BagSettings,
    plan: LivePlan,
    model: Path,
    output: Path,
    labelled_bag: Path,
    console: Console,
) -> LiveRun:
    """Plays the bag to a node and writes the labelled bag of its answers."""
    camera, seconds = bag.camera_topic(settings.camera), settings.duration_s
    images = bag.topics[camera].message_count
    if seconds is not None and seconds < bag.duration_s:
        images = math.ceil(images * seconds / bag.duration_s)

    def on_progress(run: LiveRun) -> None:
        if not run.published_ns:
            bar.restart(images, "playing")
            speed = "as fast as it was recorded" if plan.rate == 1 else f"at {plan.rate:g} times the recorded speed"
            _step(console, 3, f"Playing {camera}, {speed}")
        bar.update(len(run.published_ns), f"{len(run.arrived_ns)} masks, frames played")

    with (
        ProgressBar(None, "loading the model", console=console) as bar,
        live_run(
            bag,
            settings,
            output,
            plan,
            {"model": model},
            on_start=lambda node: _step(console, 2, f"The node: {node}"),
            on_progress=on_progress,
        ) as (live, answers),
    ):
        outputs = (live.topics.label, live.topics.confidence)
        write_labelled_bag(labelled_bag, bag.path, answers, outputs, live.bag_times_ns, settings)
    return live


def _step(console: Console, number: int, text: str) -> None:
    console.print(f"[bold cyan]\\[{number}/{_STEPS}][/] {escape(text)}", soft_wrap=True)
