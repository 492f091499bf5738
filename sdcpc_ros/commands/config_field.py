"""FIELD=VALUE on the command line: a field of the network configuration."""

from __future__ import annotations

import argparse
import json
from typing import Any


def add_config_fields(parser: argparse.ArgumentParser, examples: str) -> None:
    """`--set FIELD=VALUE`, any number of times; pairs in `config_fields`."""
    parser.add_argument(
        "--set",
        dest="config_fields",
        type=_config_field,
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help=f"a field of the network configuration, its value as JSON: {examples}",
    )


def _config_field(text: str) -> tuple[str, Any]:
    """The field and its value, read as JSON or, where it is none, as a bare word."""
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"'{text}' is not FIELD=VALUE")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value
