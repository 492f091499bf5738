"""`sdcpc view`: pictures, masks, confidence and scores in Rerun."""

from __future__ import annotations

import argparse
from pathlib import Path

from sdcpc_ros import DEFAULT_MODEL
from sdcpc_ros.commands.model_options import add_device_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "input",
        nargs="?",
        metavar="BAG|VIDEO|IMAGES|N",
        help="a bag, whose masks are shown if it holds any; or what `sdcpc segment` takes, segmented here",
    )
    parser.add_argument("--live", action="store_true", help="show what a running node publishes, until Ctrl-C")
    parser.add_argument(
        *("-o", "--output"),
        type=Path,
        metavar="FILE.rrd",
        help="write a Rerun recording; without it Rerun's viewer is opened",
    )
    parser.add_argument(
        "--model",
        metavar="NAME_OR_PATH",
        help=f"segment with it, even what holds masks; default for what holds none: {DEFAULT_MODEL}. With --live: the "
        "node's model, for its classes; the node's LabelInfo names them if not given",
    )
    add_device_options(parser)
    parser.add_argument(
        "--camera",
        metavar="TOPIC|NAME",
        help="of a bag with several cameras, the topic; with --live the node's name of it",
    )
    parser.add_argument("--labels", metavar="TOPIC", help="the masks to show, of a bag that has several topics of them")
    parser.add_argument("--rate", type=float, metavar="HZ", help="how fast images follow each other, 15 if not given")
    parser.add_argument("--node", metavar="NAME", help="with --live: the running node, /segmentation_node if not given")
    parser.set_defaults(parser=parser)


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
    print(f"{shown} frames {to}")


def _view_recorded(arguments: argparse.Namespace) -> int:
    from sdcpc_ros.model_files.checkpoint import resolve_model
    from sdcpc_ros.replay.segmented_frames import load_segmenter
    from sdcpc_ros.replay.view import has_masks, view_masks, view_pictures
    from sdcpc_ros.runtime.progress import ProgressBar

    masks_there = arguments.model is None and has_masks(arguments.input)
    if masks_there and (arguments.device, arguments.backend, arguments.rate) != ("auto", "auto", None):
        arguments.parser.error(
            "--device, --backend and --rate do not go with masks that the bag holds; --model makes new ones"
        )
    if not masks_there and arguments.labels is not None:
        arguments.parser.error("--labels goes with a bag that holds masks, and without --model")
    with ProgressBar(doing="showing") as advance:
        if masks_there:
            return view_masks(
                arguments.input, arguments.output, camera=arguments.camera, labels=arguments.labels, on_frame=advance
            )
        model = resolve_model(arguments.model or DEFAULT_MODEL)
        segmenter = load_segmenter(model, device=arguments.device, backend=arguments.backend)
        return view_pictures(
            arguments.input,
            arguments.output,
            segmenter,
            camera=arguments.camera,
            images_hz=arguments.rate,
            on_frame=advance,
        )


def _check_options(arguments: argparse.Namespace) -> None:
    error = arguments.parser.error
    if arguments.live == (arguments.input is not None):
        error("either what to show, or --live, is needed")
    if arguments.live and (
        (arguments.labels, arguments.rate) != (None, None) or (arguments.device, arguments.backend) != ("auto", "auto")
    ):
        error("--device, --backend, --labels and --rate do not go with --live: the node segments")
    if not arguments.live and arguments.node is not None:
        error("--node goes with --live")
