"""FIELD=VALUE on the command line: a field of the network configuration."""

from __future__ import annotations

import argparse
import json
from typing import Any


def config_field(text: str) -> tuple[str, Any]:
    """The field and its value, read as JSON or, where it is none, as a bare word; for argparse's `type`."""
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"'{text}' is not FIELD=VALUE")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value
