"""Run every frame of rosbag2 bags, in order, through the node's segmenter; write scores and a report."""

from __future__ import annotations

import argparse
from pathlib import Path

from sdcpc_ros.commands.model_options import add_device_options, add_model_option
from sdcpc_ros.evaluation.gates import MEASURES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bags", nargs="+", type=Path, metavar="BAG", help="bag folders, .mcap or .db3 files")
    add_model_option(parser)
    parser.add_argument(
        *("-o", "--output"),
        type=Path,
        default=Path("bag_evaluation"),
        metavar="DIR",
        help="holds a folder of results for each bag, default %(default)s",
    )
    what = parser.add_argument_group("input")
    what.add_argument("--camera", metavar="TOPIC", help="the image topic, needed if there are several")
    what.add_argument(
        "--truth",
        metavar="TOPIC|DIR|none",
        help="a topic of label images, a folder of masks named by stamp, frame or number, or none; "
        "default: the bag's own ground_truth topic",
    )
    what.add_argument(
        "--void", type=int, nargs="+", default=[], metavar="ID", help="void ids in the truth, besides 255"
    )
    what.add_argument(
        "--resize-truth", action="store_true", help="resize masks of another size to their image, by the nearest pixel"
    )
    what.add_argument(
        "--unknown-colours-void",
        action="store_true",
        help="in masks in colours, a colour of no class is void instead of an error",
    )
    what.add_argument("--start", type=float, default=0.0, metavar="S", help="seconds into the bag to begin at")
    what.add_argument("--duration", type=float, metavar="S", help="seconds of the bag to evaluate, default all")
    what.add_argument("--every", type=_count, default=1, metavar="N", help="only every N-th image, default all")
    what.add_argument("--max-gap", type=float, metavar="S", help="as the node's parameter max_gap")
    how = parser.add_argument_group("run")
    add_device_options(how, repeatable=True)
    how.add_argument(
        "--input-size", type=int, nargs=2, metavar=("H", "W"), help="network input size, px; default as in the node"
    )
    how.add_argument("--workers", type=int, metavar="N", help="evaluate N bags at a time, with one core each")
    how.add_argument(
        "--ray", metavar="ADDRESS", help="evaluate on a Ray cluster, as ray.init takes it; 'local' starts one here"
    )
    how.add_argument("--force", action="store_true", help="evaluate unchanged bags again")
    more = parser.add_argument_group("further outputs")
    more.add_argument("--labelled-bag", action="store_true", help="also write a bag with the masks")
    more.add_argument("--rerun", type=Path, metavar="FILE.rrd", help="write a recording of one bag for Rerun's viewer")
    more.add_argument("--live", action="store_true", help="also play the bag to the ROS node, and compare")
    more.add_argument("--live-rate", type=float, metavar="RATE", help="playing speed, 1 as recorded")
    more.add_argument(
        "--live-node", metavar="LABEL_TOPIC", help="play to the node that publishes there, instead of starting one"
    )
    gates = parser.add_argument_group("gates: the exit status is 1 if a bag misses a gate; shares are 0 to 1")
    for measure in MEASURES:
        metavar = "SHARE" if measure.is_share else "MS" if "ms" in measure.description.split() else "N"
        gates.add_argument(measure.option, type=float, metavar=metavar, help=measure.description)


def run(arguments: argparse.Namespace) -> int:
    """0; 1 when a gate is missed, or the only bag cannot be evaluated; 3 when some of several bags cannot."""
    _check_options(arguments)
    if arguments.rerun is not None:
        from sdcpc_ros.viewing.recording import check_file

        check_file(arguments.rerun)
        arguments.force = True  # a recording is made only while frames are evaluated
    from sdcpc_ros.replay.evaluation_run import evaluate_bags

    given = [(measure, getattr(arguments, measure.destination)) for measure in MEASURES]
    return evaluate_bags(arguments, [measure.gate(threshold) for measure, threshold in given if threshold is not None])


def _count(text: str) -> int:
    if text.isdecimal() and int(text) >= 1:
        return int(text)
    raise argparse.ArgumentTypeError(f"'{text}' is not a number of images; a whole number of 1 or more is needed")


def _check_options(arguments: argparse.Namespace) -> None:
    error = arguments.parser.error
    if arguments.workers is not None and arguments.workers < 1:
        error(f"--workers is {arguments.workers}; 1 or more are needed")
    if arguments.rerun is not None and len(arguments.bags) > 1:
        error("--rerun goes with one bag")
    if not arguments.live:
        for option in ("live_rate", "live_node"):
            if getattr(arguments, option) is not None:
                error(f"--{option.replace('_', '-')} goes with --live")
        for measure in MEASURES:
            if measure.path.startswith("live.") and getattr(arguments, measure.destination) is not None:
                error(f"{measure.option} goes with --live")
    elif arguments.every > 1:
        error("--live plays every image of a bag, so it does not go with --every")
    elif arguments.workers is not None or arguments.ray is not None:
        error("--live plays one bag after the other, so it does not go with --workers or --ray")
