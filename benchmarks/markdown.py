"""What the pages of results have in common."""

from __future__ import annotations

import datetime
import os
from collections.abc import Sequence


def provenance(command: str) -> str:
    """When, on what and by which command a page came about."""
    import torch

    from benchmarks.measure import device_name

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    day = datetime.date.today()
    return f"{day}, {device_name(device)}, {os.cpu_count()} processors; `{command}`; written by it."


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Its lines."""
    lines = [columns, ["---"] * len(columns), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]
