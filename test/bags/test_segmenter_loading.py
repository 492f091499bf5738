"""A segmenter is loaded in a thread that is no more when it is there, and what goes wrong in it is told."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from sdcpc_ros.bags import segmenter_loading
from sdcpc_ros.bags.segmenter_loading import load_segmenter
from sdcpc_ros.checkpoint import CheckpointError, load_checkpoint


def test_the_thread_that_loads_it_has_ended(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = []

    def load(path: Path):
        threads.append(threading.current_thread())
        return load_checkpoint(path)

    monkeypatch.setattr(segmenter_loading, "load_checkpoint", load)
    segmenter = load_segmenter(tiny_checkpoint, device="cpu", backend="eager", input_size=(64, 96))
    assert segmenter.network_size((480, 640)) == (64, 96)
    assert segmenter.segment(np.zeros((64, 96, 3), np.uint8)).labels.shape == (64, 96)
    (thread,) = threads
    assert thread is not threading.current_thread() and not thread.is_alive()


def test_what_cannot_be_loaded_is_told(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nothing"):
        load_segmenter(tmp_path / "nothing.safetensors", device="cpu", backend="eager")
