"""A camera of this machine as a source of pictures."""

from __future__ import annotations

import os
import signal

import cv2
import numpy as np
import pytest

from sdcpc_ros import cli
from sdcpc_ros.bags.errors import BagError
from sdcpc_ros.replay import sources
from sdcpc_ros.replay.sources import open_source


class StandIn:
    """A camera of 30 Hz that sends a signal at its sixth picture, as somebody who has seen enough."""

    signal = signal.SIGINT

    def __init__(self, index: int) -> None:
        self.pictures, self.released = 0, False

    def isOpened(self) -> bool:  # as OpenCV spells it
        return True

    def get(self, what: int) -> float:
        return 30.0 if what == cv2.CAP_PROP_FPS else 0.0

    def read(self) -> tuple[bool, np.ndarray]:
        self.pictures += 1
        if self.pictures == 6:
            os.kill(os.getpid(), self.signal)
        assert self.pictures < 1000, "it goes on after the signal"
        return True, np.full((48, 64, 3), (0, 0, 40 * (self.pictures % 5)), np.uint8)

    def release(self) -> None:
        self.released = True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_pictures_and_the_video_is_whole(number, tiny_checkpoint, monkeypatch, tmp_path, capsys):
    """Ctrl-C, or a supervisor that stops the command."""
    monkeypatch.setattr(sources.cv2, "VideoCapture", StandIn)
    monkeypatch.setattr(StandIn, "signal", number)
    before = signal.getsignal(number)
    output = tmp_path / "overlay.mp4"
    assert cli.main(["segment", "0", "-o", str(output), "--model", str(tiny_checkpoint)]) == 0
    monkeypatch.undo()
    assert signal.getsignal(number) is before
    assert f"wrote {output}: " in capsys.readouterr().out
    with open_source(str(output)) as source:
        assert len(list(source.frames)) >= 5


def test_red_is_red(monkeypatch):
    monkeypatch.setattr(sources.cv2, "VideoCapture", StandIn)
    with open_source("0") as source:
        first = next(source.frames)
    assert first.image[0, 0].tolist() == [40, 0, 0] and source.expected is None


def test_a_camera_that_is_not_there_is_named():
    with pytest.raises(BagError, match="there is no camera 97"), open_source("97"):
        pass
