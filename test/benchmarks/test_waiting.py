"""The benchmark of how threads wait: a child with a way of its own measures a frame."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.waiting import WAYS

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("way", [0, len(WAYS) - 1])
def test_a_child_measures_a_frame(tiny_checkpoint: Path, way: int) -> None:
    words = ["-m", "benchmarks.waiting", "--model", str(tiny_checkpoint), "--frames", "2", "--way", str(way)]
    done = subprocess.run(
        [sys.executable, *words], cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert 0 < float(done.stdout) < 60_000
