"""OpenMP is told how long to spin before PyTorch loads it, and itself says what it was told."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import sdcpc_ros
from sdcpc_ros.runtime.openmp import SETTINGS, limit_omp_spin

_CODE = """
from sdcpc_ros.runtime.openmp import limit_omp_spin
limit_omp_spin()
import torch
torch.zeros(8) + 1
"""


@pytest.fixture
def unsaid(monkeypatch):
    """An environment in which nobody has said how threads wait; what is set in it goes with the test."""
    for name in SETTINGS:
        monkeypatch.setenv(name, "")  # so that it is put back as it was, whatever the test does
        monkeypatch.delenv(name)
    return monkeypatch


def test_openmp_hears_of_it(unsaid):
    unsaid.setenv("OMP_DISPLAY_ENV", "VERBOSE")
    unsaid.setenv("PYTHONPATH", str(Path(sdcpc_ros.__file__).parents[1]))
    result = subprocess.run([sys.executable, "-c", _CODE], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    said = result.stdout + result.stderr
    if "OPENMP DISPLAY ENVIRONMENT" not in said:
        pytest.skip("PyTorch runs without OpenMP here")
    assert "GOMP_SPINCOUNT = '10000'" in said or "KMP_BLOCKTIME" in said, said


@pytest.mark.parametrize("name", SETTINGS)
def test_what_the_user_says_stays(unsaid, name):
    unsaid.setenv(name, "ACTIVE")
    limit_omp_spin()
    assert {key: os.environ[key] for key in SETTINGS if key in os.environ} == {name: "ACTIVE"}
