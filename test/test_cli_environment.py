"""The `sdcpc` command in environments of every kind: a shell that completes, a Python without PyTorch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("sdcpc eval", {"evaluate", "evaluate-bag"}),
        ("sdcpc segment --ba", {"--backend"}),
        ("sdcpc evaluate-bag --backend ", {"eager", "inductor", "aot", "onnxruntime", "tensorrt"}),
    ],
)
def test_the_shell_completes_commands_options_and_choices(line: str, offered: set[str], tmp_path: Path) -> None:
    """As `eval "$(register-python-argcomplete sdcpc)"` asks."""
    pytest.importorskip("argcomplete")
    answer = tmp_path / "answer"
    environment = {
        **os.environ,
        **{"_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\n", "_ARGCOMPLETE_STDOUT_FILENAME": str(answer)},
        **{"COMP_LINE": line, "COMP_POINT": str(len(line)), "COMP_TYPE": "9"},
    }
    subprocess.run([sys.executable, "-m", "sdcpc_ros.cli"], env=environment, timeout=60)
    assert {word.strip() for word in answer.read_text().split("\n")} >= offered


def test_info_without_pytorch_gives_a_sentence() -> None:
    code = "import sys; sys.modules['torch'] = None\nfrom sdcpc_ros.cli import main\nsys.exit(main(['info']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.startswith("sdcpc info: no Python package 'torch'; to get it: ")
