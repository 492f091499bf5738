"""What is said of this machine, and of machines that lack something."""

from __future__ import annotations

import builtins
from pathlib import Path

import numpy as np
import pytest
import torch

from sdcpc_ros.doctor import FAULT, NOTE, OK, WARNING, Finding, machine


def test_here_everything_is_well(tiny_checkpoint: Path):
    findings = list(machine.check_machine(str(tiny_checkpoint)))
    assert [finding.what for finding in findings] == ["Python", "NumPy", "OpenCV", "PyTorch", "GPU", "model"]
    assert {finding.level for finding in findings} <= {OK, NOTE}
    assert "11 classes, trained at 128 x 96" in findings[-1].text


def test_an_old_python_is_named():
    finding = machine.check_python((3, 8, 10))
    assert finding.level == FAULT and "3.10" in finding.fix


def test_what_cannot_be_imported_is_named_with_what_brings_it(monkeypatch):
    importing = builtins.__import__

    def broken(name, *args):
        if name == "numpy.core.multiarray":
            raise AttributeError("_ARRAY_API not found")
        return importing(name, *args)

    monkeypatch.setattr(machine.importlib, "import_module", broken)
    finding = machine.check_import("NumPy", "numpy.core.multiarray", "pip install it")
    assert finding.level == FAULT and "_ARRAY_API not found" in finding.line() and finding.fix == "pip install it"


def test_a_torch_that_is_too_old_or_built_for_another_numpy_is_named(monkeypatch):
    with monkeypatch.context() as old:
        old.setattr(torch, "__version__", "2.4.1+cu121")
        assert machine.check_torch().level == FAULT and "2.5 or newer" in machine.check_torch().fix
    monkeypatch.setattr(torch, "from_numpy", _raise(RuntimeError("Numpy is not available")))
    finding = machine.check_torch()
    assert finding.level == FAULT and np.__version__ in finding.text and "numpy<2" in finding.fix


def _raise(error: Exception):
    def function(*_):
        raise error

    return function


def test_a_gpu_that_pytorch_does_not_find_is_named(monkeypatch, tmp_path: Path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(machine, "GPU_FILES", (str(tmp_path / "none"),))
    assert machine.check_gpu().level == NOTE
    monkeypatch.setattr(machine, "GPU_FILES", (str(tmp_path),))
    finding = machine.check_gpu()
    assert finding.level == WARNING and "finds no GPU" in finding.text


@pytest.mark.parametrize("name", ["no_such_model", "nowhere/model.safetensors"])
def test_a_model_that_is_not_there_is_named(name):
    finding = machine.check_model(name)
    assert finding.level == FAULT and name in finding.text and "--model" in finding.fix


def test_a_model_that_is_cut_short_is_named(tiny_checkpoint: Path, tmp_path: Path):
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(tiny_checkpoint.read_bytes()[:3000])
    assert machine.check_model(str(broken)).level == FAULT


def test_only_what_is_wrong_has_a_fix():
    with pytest.raises(ValueError, match="comes with a fix"):
        Finding("x", "bad", FAULT)
    with pytest.raises(ValueError, match="comes with a fix"):
        Finding("x", "good", OK, "fix")
