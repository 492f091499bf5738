"""Show images, masks, confidence, scores and resets of a bag, a video or a running node in Rerun."""

from __future__ import annotations

import argparse
from pathlib import Path

from sdcpc_ros import DEFAULT_MODEL
from sdcpc_ros.commands.model_options import add_device_options, load_chosen_model
from sdcpc_ros.runtime.wording import count_noun


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "input",
        nargs="?",
        metavar="BAG|VIDEO|IMAGES|N",
        help="a bag with masks, or any input of `sdcpc segment`, which is segmented",
    )
    parser.add_argument("--live", action="store_true", help="show the topics of a running node, until Ctrl-C")
    parser.add_argument(
        *("-o", "--output"),
        type=Path,
        metavar="FILE.rrd",
        help="write a Rerun recording instead of opening Rerun's viewer",
    )
    parser.add_argument(
        "--model",
        metavar="NAME_OR_PATH",
        help=f"segment with this model, even a bag with masks; default without masks: {DEFAULT_MODEL}. With --live: "
        "the node's model, for its classes; default: the classes of the node's LabelInfo",
    )
    add_device_options(parser)
    parser.add_argument(
        "--camera",
        metavar="TOPIC|NAME",
        help="the topic, for a bag with several cameras; with --live the camera's name in the node",
    )
    parser.add_argument("--labels", metavar="TOPIC", help="the masks to show, for a bag with several topics of masks")
    parser.add_argument("--rate", type=float, metavar="HZ", help="frame rate of images without times, default 15")
    parser.add_argument("--node", metavar="NAME", help="with --live: the running node, default /segmentation_node")


def run(arguments: argparse.Namespace) -> None:
    _check_options(arguments)
    if arguments.output is not None:
        from sdcpc_ros.viewing.recording import check_file

        check_file(arguments.output)  # before a model is loaded
    if arguments.live:
        from sdcpc_ros.consumers.live_view import view_live
        from sdcpc_ros.model_files.checkpoint import load_checkpoint, resolve_model

        label_set = None if arguments.model is None else load_checkpoint(resolve_model(arguments.model)).label_set
        node, camera = arguments.node or "/segmentation_node", arguments.camera or "camera"
        shown = view_live(node, camera, arguments.output, label_set)
    else:
        shown = _view_recorded(arguments)
    to = "shown in Rerun's viewer" if arguments.output is None else f"written to {arguments.output}"
    print(f"{count_noun(shown, 'frame')} {to}")


def _view_recorded(arguments: argparse.Namespace) -> int:
    from sdcpc_ros.replay.labelled_bag import has_masks, view_masks
    from sdcpc_ros.replay.segment import view_source
    from sdcpc_ros.runtime.progress import ProgressBar

    masks_there = arguments.model is None and has_masks(arguments.input)
    if masks_there and (_network_options(arguments) or arguments.rate is not None):
        arguments.parser.error(
            "--device, --backend, --precision and --rate do not go with the masks of the bag; --model segments it again"
        )
    if not masks_there and arguments.labels is not None:
        arguments.parser.error("--labels goes with a bag that holds masks, and without --model")
    path, file, camera = arguments.input, arguments.output, arguments.camera
    with ProgressBar(doing="showing") as advance:
        if masks_there:
            return view_masks(path, file, camera=camera, labels=arguments.labels, on_frame=advance)
        segmenter = load_chosen_model(arguments)
        return view_source(path, file, segmenter, camera=camera, images_hz=arguments.rate, on_frame=advance)


def _network_options(arguments: argparse.Namespace) -> bool:
    """Whether an option of `add_device_options` was given."""
    default = arguments.parser.get_default
    return any(getattr(arguments, name) != default(name) for name in ("device", "backend", "precision"))


def _check_options(arguments: argparse.Namespace) -> None:
    error = arguments.parser.error
    if arguments.live == (arguments.input is not None):
        error("either an input or --live is needed")
    if arguments.live and (_network_options(arguments) or (arguments.labels, arguments.rate) != (None, None)):
        error("--device, --backend, --precision, --labels and --rate do not go with --live: the node segments")
    if not arguments.live and arguments.node is not None:
        error("--node goes with --live")
