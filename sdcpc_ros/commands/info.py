"""Print a model's classes, configuration and training record."""

from __future__ import annotations

import argparse

from sdcpc_ros.commands.model_options import add_model_argument


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model_argument(parser)


def run(arguments: argparse.Namespace) -> None:
    from sdcpc_ros.model_files.checkpoint import load_checkpoint, resolve_model
    from sdcpc_ros.model_files.model_card import model_card

    path = resolve_model(arguments.model)
    print(model_card(path, load_checkpoint(path)))
