"""`sdcpc demo`: plays a bag to the segmentation node over DDS, records and measures the answers, and draws them.

Four steps: prepare the bag, start the node, play and record, then measure and draw from the labelled bag.
"""

from __future__ import annotations

import math
import os
import platform
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sdcpc_ros.bags.errors import BagError
from sdcpc_ros.bags.reader import BagReader
from sdcpc_ros.evaluation.pictures import contact_sheet, legend, overlay, shrink, side_by_side
from sdcpc_ros.evaluation.report_file import write_json
from sdcpc_ros.evaluation.scorer import Scorer
from sdcpc_ros.evaluation.video import VideoWriter
from sdcpc_ros.labels.label_set import CAMVID_11, LabelSet
from sdcpc_ros.model_files.checkpoint import load_checkpoint, resolve_model
from sdcpc_ros.replay.bag_source import BagSettings, BagSource
from sdcpc_ros.replay.image_bags import StreetBag, is_street_bag, write_street_bag
from sdcpc_ros.replay.labelled_bag import write_labelled_bag
from sdcpc_ros.replay.live_run import LivePlan, LiveRun, live_run, require_ros
from sdcpc_ros.replay.node_process import CONFIDENCE_TOPIC, LABEL_TOPIC
from sdcpc_ros.runtime.progress import ProgressBar
from sdcpc_ros.runtime.wording import count_noun

_STREET = StreetBag()
_STEPS = 4
_PANEL_WIDTH = 640  # px, of a picture in the video and the contact sheet
_SHEET_ROWS = 3
_TOLERATED_DROPS = 0.1  # of the frames; with more there is a hint
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
    source = bag_path or _prepare_street(seconds, output / "synthetic_street", console)
    with BagReader(source) as bag:
        played = BagSource(bag, BagSettings(camera, duration_s=seconds))
        camera, truth_topic = played.camera, played.truth.topic
        if bag_path is not None:
            images = bag.topics[camera].message_count
            _step(console, 1, f"The bag: {bag_path}, {bag.duration_s:.1f} s with {images} images on {camera}")
        live = _play(played, LivePlan(rate), model, labelled_bag, console)
    _step(console, 4, "Measuring and drawing")
    if bag_path is None and label_set.class_names != CAMVID_11.class_names:
        truth_topic = None  # the street's ids are CamVid's; the model's mean something else
    with (
        BagReader(labelled_bag) as labelled,
        ProgressBar(len(live.bag_times_ns), "frames done", console=console) as advance,
    ):
        quality, rows = render_preview(labelled, camera, truth_topic, label_set, files["video"], on_frame=advance)
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
    sheet = contact_sheet(*demo_headline(summary), rows, label_set)
    cv2.imwrite(str(files["picture"]), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 9])
    console.print("", demo_table(summary))
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
    is_there = is_street_bag(path, wanted)
    _step(console, 1, f"The bag: {street}{', from an earlier run' if is_there else ''}")
    if not is_there:
        with ProgressBar(wanted.length, "rendering", console=console) as advance:
            write_street_bag(path, wanted, on_frame=advance)
    return path


def _play(source: BagSource, plan: LivePlan, model: Path, labelled_bag: Path, console: Console) -> LiveRun:
    """Plays the bag to a node and writes the labelled bag of its answers; the node's log lies beside it."""

    def on_progress(run: LiveRun) -> None:
        if not run.published_ns:
            bar.restart(source.expected, "playing")
            speed = "as fast as it was recorded" if plan.rate == 1 else f"at {plan.rate:g} times the recorded speed"
            _step(console, 3, f"Playing {source.camera}, {speed}")
        bar.update(len(run.published_ns), f"{len(run.arrived_ns)} masks, frames played")

    run = live_run(
        source,
        labelled_bag.parent,
        plan,
        {"model": model, "backend": "eager"},  # a demo is over before a backend is built
        on_start=lambda node: _step(console, 2, f"The node: {node}"),
        on_progress=on_progress,
    )
    with ProgressBar(None, "loading the model", console=console) as bar, run as (live, answers):
        write_labelled_bag(labelled_bag, source, live, answers)
    return live


def _step(console: Console, number: int, text: str) -> None:
    console.print(f"[bold cyan]\\[{number}/{_STEPS}][/] {escape(text)}", soft_wrap=True)


def render_preview(
    labelled_bag: BagReader,
    camera: str,
    truth_topic: str | None,
    label_set: LabelSet,
    video_path: Path,
    *,
    on_frame: Callable[[], None] = lambda: None,
) -> tuple[dict[str, Any], list[np.ndarray]]:
    """Scores every labelled frame and writes the video; returns the scores for JSON and the rows of a contact sheet.

    The video shows the camera on the left and the newest mask on the right, which stays while frames are dropped. mVC
    windows consist of consecutive labelled frames, so dropped frames are left out. Raises BagError if the truth cannot
    be compared with the masks, or the images change their size.
    """
    scorer = Scorer(label_set)
    count = labelled_bag.topics[LABEL_TOPIC].message_count
    sheet_frames = {int((index + 0.5) * count / _SHEET_ROWS) for index in range(_SHEET_ROWS)}  # away from the ends
    rows: list[np.ndarray] = []
    newest: np.ndarray | None = None  # the mask over its image
    caption = "no mask yet"
    shape, start_ns = (), 0
    with VideoWriter(video_path, rate_hz=labelled_bag.rate_hz(camera) or 1.0) as video:
        for frame in labelled_bag.frames(camera, LABEL_TOPIC, CONFIDENCE_TOPIC, truth_topic):
            image = frame.image()
            panel = shrink(image, _PANEL_WIDTH)
            if not shape:
                shape, start_ns, foot = image.shape, frame.stamp_ns, legend(label_set, 2 * panel.shape[1])
                foot = foot[: foot.shape[0] // 2 * 2]  # an even height, as the video needs
            time_s = (frame.stamp_ns - start_ns) / 1e9
            if image.shape != shape:
                raise BagError(f"the images on {camera} change their size at {time_s:.3f} s")
            labels = frame.labels(LABEL_TOPIC)
            if labels is not None:
                truth = frame.labels(truth_topic) if truth_topic else None
                try:
                    scorer.update(labels, truth, frame.labels(CONFIDENCE_TOPIC))
                except ValueError as error:
                    raise BagError(f"the bag's ground truth does not go with the masks of the node: {error}") from error
                newest = overlay(panel, shrink(labels, _PANEL_WIDTH), label_set)
                caption = f"segmentation  {time_s:.2f} s"
                if len(scorer.log) - 1 in sheet_frames:
                    panels = {f"camera  {time_s:.2f} s": panel, "segmentation": newest}
                    if truth is not None:
                        panels["ground truth"] = overlay(panel, shrink(truth, _PANEL_WIDTH), label_set)
                    rows.append(side_by_side(panels))
            right = panel // 2 if newest is None else newest
            pair = side_by_side({f"camera  {time_s:.2f} s": panel, caption: right})
            video.write(np.concatenate([pair, foot]), time_s)
            on_frame()
    return {**scorer.scores(), "classes": scorer.classes()}, rows


def demo_table(summary: dict[str, Any]) -> Table:
    timing, quality, node = summary["timing"], summary["quality"], summary["node_diagnostics"]
    latency, published, dropped = timing["latency_ms"], timing["frames_published"], timing["frames_dropped"]
    table = Table(title=f"{summary['model']} on {summary['bag']}", title_justify="left")
    table.add_column("measure")
    table.add_column("value", justify="right", style="bold")
    table.add_column("meaning")
    table.add_row("frames", str(published), f"images published, at {_number(timing['input_rate_hz'], '.1f Hz')}")
    table.add_row("frame rate", _number(timing["frame_rate_hz"], ".1f Hz"), "masks received a second")
    reasons = "frames without a mask"
    if {"received", "dropped", "rejected"} <= node.keys():
        lost = max(0, published - int(node["received"]))
        reasons = f"{node['dropped']} for newer ones, {node['rejected']} rejected, {lost} lost"
    table.add_row("dropped", f"{dropped} ({dropped / published:.0%})", reasons)
    latency_p50_p95 = f"{_number(latency['p50'], '.0f')} / {_number(latency['p95'], '.0f ms')}"
    table.add_row("latency p50 / p95", latency_p50_p95, "image published to mask received")
    ending = " p50/p95 (ms)"
    stages = {key.removesuffix(ending): value for key, value in node.items() if key.endswith(ending)}
    for stage in sorted(stages, key=lambda stage: stage != "total"):
        table.add_row(f"  {stage}", f"{stages[stage]} ms", "of it, in the node" if stage == "total" else "")
    table.add_section()
    if quality["judged_frames"]:
        masks = f"{count_noun(quality['judged_frames'], 'mask')} against the ground truth"
        table.add_row("mIoU", _number(quality["miou"], ".1%"), masks)
        table.add_row("mVC8", _number(quality["mvc8"], ".1%"), "steady labels where the truth is")
        table.add_row("mVC16", _number(quality["mvc16"], ".1%"), "the same over 16 masks instead of 8")
        table.caption = "mVC runs over consecutive masks: dropped frames are left out."
        table.caption_justify = "left"
    else:
        table.add_row("mIoU, mVC8", "-", "no ground truth of its classes")
    table.add_row("confidence", _number(quality["confidence"], ".1%"), "of the network in its labels, mean")
    return table


def demo_headline(summary: dict[str, Any]) -> tuple[str, str]:
    """Title and subtitle of the contact sheet."""
    timing, quality = summary["timing"], summary["quality"]
    facts = [
        f"{timing['frames_labelled']} of {timing['frames_published']} frames",
        f"{_number(timing['frame_rate_hz'], '.1f')} masks a second",
        f"latency {_number(timing['latency_ms']['p50'], '.0f ms')}",
    ]
    if quality["judged_frames"]:
        facts += [f"mIoU {_number(quality['miou'], '.1%')}", f"mVC8 {_number(quality['mvc8'], '.1%')}"]
    bag = summary["bag"].replace("_", " ")
    return f"{bag[:1].upper()}{bag[1:]}, segmented live by {summary['model']}", ",  ".join(facts)


def demo_hint(summary: dict[str, Any]) -> str | None:
    """How to avoid dropped frames, if there were many."""
    timing = summary["timing"]
    frame_rate, input_rate = timing["frame_rate_hz"], timing["input_rate_hz"]
    if not (frame_rate and input_rate) or timing["frames_dropped"] < _TOLERATED_DROPS * timing["frames_published"]:
        return None
    slower = math.floor(90 * summary["playback_rate"] * frame_rate / input_rate) / 100
    return (
        f"This machine makes {frame_rate:.1f} masks a second from {input_rate:.1f} images: the node takes the newest "
        f"frame and drops the others. `sdcpc demo --rate {max(slower, 0.01):g}` plays slowly enough for all."
    )


def _number(value: float | None, format_and_unit: str) -> str:
    """`.1f Hz` -> 14.9 Hz, `.1%` -> 47.3%; a dash for None."""
    format_spec, _, unit = format_and_unit.partition(" ")
    return "-" if value is None else f"{value:{format_spec}} {unit}".rstrip()
