"""With --segmenter: write a checkpoint of a whole public segmenter, which needs no training. The node makes its masks
more stable over time. With --encoder: write a checkpoint for training. Its encoder has public weights (SegFormer
with Hugging Face's names, ResNet with torchvision's or timm's, EfficientNet-Lite with timm's or
EfficientNet-PyTorch's); its other layers are random.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from sdcpc_ros.commands.model_options import add_config_fields, add_input_size, add_output


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "path",
        type=Path,
        metavar="PATH",
        help="the public weights, .safetensors; with --segmenter their folder",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--encoder", help="mit_b0 to mit_b5, resnet18, 50 or 101, efficientnet_lite0 to 2")
    what.add_argument(
        "--segmenter",
        choices=("segformer",),
        help="import the whole network: PATH is a folder with config.json, model.safetensors and "
        "preprocessor_config.json, from the Hugging Face hub",
    )
    parser.add_argument(
        "--label-set",
        metavar="NAME_OR_FILE",
        help="camvid_11, cityscapes_19, vspw_124, or a YAML or JSON file: name, class_names, colours; with --segmenter "
        "instead of the classes that config.json names",
    )
    add_output(parser, "the checkpoint, .safetensors")
    add_input_size(parser, "default 360 480, or with --segmenter the preprocessor's")
    parser.add_argument("--seed", type=int, default=0, help="seed of the other layers, default %(default)s")
    add_config_fields(parser, "output_stride=8, reference_offsets=[2,4]")


def run(arguments: argparse.Namespace) -> None:
    if arguments.encoder and not arguments.label_set:
        arguments.parser.error("--encoder needs --label-set")

    from sdcpc_ros.labels.label_set import read_label_set

    label_set = read_label_set(arguments.label_set) if arguments.label_set else None
    size = tuple(arguments.input_size) if arguments.input_size else None
    fields = dict(arguments.config_fields)
    if arguments.segmenter:
        from sdcpc_ros.model_files.import_segmenter import import_segformer
        from sdcpc_ros.model_files.model_card import describe
        from sdcpc_ros.runtime.wording import count_noun

        made = import_segformer(
            arguments.path, arguments.output, label_set=label_set, input_size=size, config_fields=fields
        )
        height, width = made.input_size
        classes = f"{count_noun(len(made.label_set), 'class', 'classes')} ({made.label_set.name})"
        print(f"wrote {arguments.output}: {describe(made.config)}, {classes}, {width} x {height}")
        print(f"licence: {str(made.training['licence']).splitlines()[0]}")
        return

    from sdcpc_ros.model_files.import_weights import import_weights

    assert label_set is not None
    import_weights(
        arguments.path,
        arguments.output,
        encoder=arguments.encoder,
        label_set=label_set,
        input_size=size or (360, 480),
        seed=arguments.seed,
        config_fields=fields,
    )
    print(f"wrote {arguments.output}")
