"""Write a folder of images, with or without label images, as a rosbag2 bag."""

from __future__ import annotations

import argparse
from pathlib import Path

from sdcpc_ros.commands.model_options import add_output


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder", type=Path, metavar="FOLDER", help="images, or a folder with images/ and optionally labels/"
    )
    add_output(parser, "the bag to write, a folder", metavar="BAG")
    parser.add_argument("--rate", type=float, default=15.0, metavar="HZ", help="images a second, default %(default)s")
    parser.add_argument(
        "--labels", type=Path, metavar="DIR", help="label images (PNG, a class id a pixel), named as the images"
    )
    parser.add_argument(
        "--void", type=int, nargs="+", default=[], metavar="ID", help="void ids in the labels, written as 255"
    )
    parser.add_argument(
        "--label-set",
        metavar="NAME_OR_FILE",
        help="label set of label images in colours: a name, or a YAML or JSON file",
    )
    parser.add_argument("--compressed", action="store_true", help="keep the JPEG and PNG files as CompressedImage")
    parser.add_argument("--storage", choices=("mcap", "sqlite3"), default="mcap", help="default %(default)s")


def run(arguments: argparse.Namespace) -> None:
    from rich.console import Console

    from sdcpc_ros.labels.label_set import read_label_set
    from sdcpc_ros.replay.image_bags import list_frames, write_folder_bag
    from sdcpc_ros.runtime.progress import ProgressBar
    from sdcpc_ros.runtime.wording import count_noun

    frames = list_frames(arguments.folder, arguments.labels)
    with ProgressBar(len(frames), "writing") as advance:
        topic = write_folder_bag(
            arguments.output,
            frames,
            rate_hz=arguments.rate,
            void=frozenset(arguments.void),
            colours=read_label_set(arguments.label_set).colours if arguments.label_set else (),
            compressed=arguments.compressed,
            storage=arguments.storage,
            on_frame=advance,
        )
    labelled = sum(label is not None for _, label in frames)
    Console(highlight=False).print(
        f"wrote {arguments.output}: {count_noun(len(frames), 'image')} on {topic}, "
        f"{labelled} with ground truth, {len(frames) / arguments.rate:.1f} s",
        soft_wrap=True,
        markup=False,
    )
