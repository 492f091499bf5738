"""Segment a video, images or a bag, without ROS; write a video with the class colours over it, or label images."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from sdcpc_ros.commands.model_options import (
    add_device_options,
    add_model_option,
    add_output,
    check_file_option,
    load_chosen_model,
)

_LISTED_PROBLEMS = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "input",
        metavar="VIDEO|IMAGES|BAG|N",
        help="a video file; an image, a folder or a quoted glob of images; a bag; or the number of a camera of this "
        "machine, as 0, until Ctrl-C",
    )
    add_output(parser, "OUT.mp4: an overlay video; any other name: a folder of PNG images of class ids")
    add_model_option(parser)
    add_device_options(parser)
    parser.add_argument("--opacity", type=float, help="opacity of the colours in the video, 0 to 1, default 0.6")
    parser.add_argument("--camera", metavar="TOPIC", help="the image topic, needed if a bag has several cameras")
    parser.add_argument("--rate", type=float, metavar="HZ", help="frame rate of images without times, default 15")


def run(arguments: argparse.Namespace) -> None:
    output: Path = arguments.output
    as_video = output.suffix.lower() == ".mp4"
    _check_options(arguments, as_video)

    from sdcpc_ros.replay.segment import segment_source
    from sdcpc_ros.replay.sources import open_source
    from sdcpc_ros.runtime.progress import ProgressBar
    from sdcpc_ros.runtime.wording import count_noun

    with open_source(arguments.input, camera=arguments.camera, images_hz=arguments.rate) as source:
        segmenter = load_chosen_model(arguments)
        with ProgressBar(source.expected, "segmenting") as advance:
            run = segment_source(segmenter, source, output, opacity=arguments.opacity, on_frame=advance)
    for problem in run.problems[:_LISTED_PROBLEMS]:
        print(f"sdcpc segment: left out: {problem}", file=sys.stderr)
    if run.unusable > _LISTED_PROBLEMS:
        print(f"sdcpc segment: and {run.unusable - _LISTED_PROBLEMS} more left out", file=sys.stderr)
    images, each_ms = count_noun(run.frames, "image"), sum(run.elapsed_ms) / run.frames
    print(f"wrote {output}: {images}, {each_ms:.0f} ms each from image to labels")


def _check_options(arguments: argparse.Namespace, as_video: bool) -> None:
    error, output = arguments.parser.error, arguments.output
    if as_video:
        check_file_option(arguments.parser, "--output", output)
    elif output.is_file() or output.suffix.lower() in (".avi", ".mkv", ".mov", ".webm", ".png", ".jpg"):
        error(f"--output: '{output}' is neither a folder nor ends in .mp4")
    elif arguments.opacity is not None:
        error("--opacity goes with a video")
    if output.exists() and Path(arguments.input).exists() and output.samefile(arguments.input):
        error("--output: this is the input")
