"""The process that compiles a package for the node."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from processes import DEADLINE_S, processes_with

from sdcpc_ros.inference import compile_process

CALLER = """
import sys, threading, torch
from pathlib import Path
from sdcpc_ros.inference.compile_process import compile_package

program = torch.export.export(torch.nn.Linear(2, 2), (torch.zeros(1, 2),))
thread = threading.Thread(target=compile_package, args=(program, Path(sys.argv[1])))
thread.start()
thread.join()
"""


def test_it_ends_when_its_caller_is_killed_while_it_still_starts(tmp_path: Path) -> None:
    caller = subprocess.Popen([sys.executable, "-c", CALLER, str(tmp_path / "linear.pt2")])
    try:
        _wait_for(lambda: [pid for pid in processes_with(tmp_path) if pid != caller.pid])
    finally:
        caller.kill()
        caller.wait()
    _wait_for(lambda: not processes_with(tmp_path))
    assert not (tmp_path / "linear.pt2").exists()


def test_the_error_is_the_last_line_of_the_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-compiler")
    program = torch.export.export(torch.nn.Linear(2, 2), (torch.zeros(1, 2),))
    with pytest.raises(RuntimeError, match="no-compiler"):
        compile_process.compile_package(program, tmp_path / "linear.pt2")
    assert not list(tmp_path.iterdir())


def _wait_for(condition) -> None:
    give_up_s = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < give_up_s
        time.sleep(0.02)
