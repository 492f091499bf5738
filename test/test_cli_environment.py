"""The package in environments of every kind: a shell that completes, a closed pipe, a program of the user's own."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from sdcpc_ros import cli
from sdcpc_ros.replay import image_bags
from sdcpc_ros.runtime.openmp import SETTINGS


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


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_leaves_is_no_error(unbuffered: str) -> None:
    """As `| head -1`; the status is that of other commands that SIGPIPE ends."""
    command, environment = [sys.executable, "-m", "sdcpc_ros.cli", "info"], {"PYTHONUNBUFFERED": unbuffered}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=os.environ | environment, text=True, **pipes) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141


def test_threads_of_a_users_own_program_wait_as_the_nodes_do() -> None:
    code = "import os\nfrom sdcpc_ros import StreamingSegmenter\nprint(os.environ.get('GOMP_SPINCOUNT'))"
    environment = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**environment, "OMP_DISPLAY_ENV": "VERBOSE"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, "10000\n"), done.stderr
    if "GOMP_SPINCOUNT" in done.stderr:  # what GNU OpenMP says it was told
        assert "GOMP_SPINCOUNT = '10000'" in done.stderr


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_the_earlier_output_and_no_half_of_a_new_one(
    number: int, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "images").mkdir()
    assert cv2.imwrite(str(tmp_path / "images" / "a.png"), np.zeros((8, 8, 3), np.uint8))
    command = ["make-bag", str(tmp_path / "images"), "-o", str(tmp_path / "bag")]
    assert cli.main(command) == 0
    before = (tmp_path / "bag" / "bag.mcap").read_bytes()
    capsys.readouterr()
    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    monkeypatch.setattr(image_bags, "read_image", lambda *_, **__: os.kill(os.getpid(), number))
    assert cli.main([*command, "--rate", "3"]) == status
    assert capsys.readouterr().err.endswith(f"sdcpc make-bag: {'interrupted' if status == 130 else 'terminated'}\n")
    assert (tmp_path / "bag" / "bag.mcap").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bag", "images"]
    assert handlers == [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]


def test_a_signal_before_the_command_is_known(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "build_parser", lambda chosen: os.kill(os.getpid(), signal.SIGINT))
    assert cli.main(["info"]) == 130
    assert capsys.readouterr().err == "sdcpc info: interrupted\n"


def test_an_image_of_any_format_is_limited_in_size(tmp_path: Path) -> None:
    """OpenCV reads its limit when it is loaded; a bitmap of one bit a pixel is small."""
    side = 9000
    data = bytes(-(-side // 32) * 4 * side)
    header = struct.pack("<2sIHHIIiiHHIIiiII", b"BM", 62 + len(data), 0, 0, 62, 40, side, side, 1, 1, *[0] * 6)
    (tmp_path / "a.png").write_bytes(header + bytes(8) + data)
    command = [sys.executable, "-m", "sdcpc_ros.cli", "make-bag", str(tmp_path), "-o", str(tmp_path / "bag")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and "a.png' is not an image that can be decoded" in done.stderr
