"""`sdcpc segment` without PyAV and rosbags, which a plain `pip install .` leaves out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sdcpc_ros import cli

pytestmark = pytest.mark.slow


@pytest.fixture
def segment(tiny_checkpoint):
    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        without = "import sys; sys.modules.update(av=None, rosbags=None)"
        code = f"{without}\nfrom sdcpc_ros.cli import main\nsys.exit(main(sys.argv[1:]))"
        command = [sys.executable, "-c", code, "segment", *map(str, arguments), "--model", str(tiny_checkpoint)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    return run


def test_images_become_labels(segment, images, tmp_path):
    done = segment(images, "-o", tmp_path / "labels")
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(path.name for path in (tmp_path / "labels").iterdir()) == [
        "frame_10.png",
        "frame_11.png",
        "frame_9.png",
    ]


def test_a_video_becomes_the_same_labels(segment, video, tmp_path, tiny_checkpoint):
    done = segment(video, "-o", tmp_path / "without")
    assert (done.returncode, done.stderr) == (0, "")
    assert cli.main(["segment", str(video), "-o", str(tmp_path / "with"), "--model", str(tiny_checkpoint)]) == 0
    made = [{path.name: path.read_bytes() for path in (tmp_path / way).iterdir()} for way in ("with", "without")]
    assert len(made[0]) == 5 and made[0] == made[1]


def test_what_is_no_video_is_named(segment, tmp_path):
    (tmp_path / "drive.mp4").write_bytes(b"no video")
    done = segment(tmp_path / "drive.mp4", "-o", tmp_path / "labels")
    assert done.returncode == 1
    assert "drive.mp4' is no video that can be read" in done.stderr.splitlines()[-1]


def test_a_video_to_write_says_what_to_install(segment, video, tmp_path):
    done = segment(video, "-o", tmp_path / "overlay.mp4")
    assert done.returncode == 1
    assert "no Python package 'av'; to get it: python3 -m pip install " in done.stderr
    assert "Traceback" not in done.stderr


def test_a_bag_says_what_to_install(segment, tmp_path):
    (tmp_path / "drive.mcap").touch()
    done = segment(tmp_path / "drive.mcap", "-o", tmp_path / "labels")
    assert done.returncode == 1
    assert done.stderr.startswith("sdcpc segment: no Python package 'rosbags'; to get it: python3 -m pip install ")
