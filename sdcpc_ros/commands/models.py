"""List the shipped models: name, classes, size and file."""

from __future__ import annotations

import argparse

from sdcpc_ros import DEFAULT_MODEL


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It has none."""


def run(arguments: argparse.Namespace) -> None:
    from sdcpc_ros.model_files.checkpoint import load_checkpoint, shipped_models

    rows = [("name", "classes", "trained at", "size", "file")]
    for name, path in shipped_models().items():
        checkpoint = load_checkpoint(path)
        height, width = checkpoint.input_size
        rows.append(
            (
                name + (" (default)" if name == DEFAULT_MODEL else ""),
                f"{len(checkpoint.label_set)}, {checkpoint.label_set.name}",
                f"{width} x {height}",
                f"{path.stat().st_size / 1e6:.0f} MB",
                str(path),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
