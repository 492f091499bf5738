"""A video and a folder of images for all tests of the replay room."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest
from bag_fixtures import picture

from sdcpc_ros.evaluation.video import VideoWriter
from sdcpc_ros.replay import evaluation_job


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "drive.mp4"
    with VideoWriter(path, rate_hz=10) as writer:
        for index, time_s in enumerate((0.0, 0.1, 0.2, 0.5, 0.6)):  # a frame or two were dropped
            writer.write(picture(index), time_s)
    return path


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in (9, 10, 11):
        cv2.imwrite(str(folder / f"frame_{number}.png"), picture(number))
    return folder


@pytest.fixture
def quick_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages are drawn in seconds; where they do not matter, none is."""
    monkeypatch.setattr(evaluation_job, "write_report", lambda path, report, pictures: path.write_text("a page"))
