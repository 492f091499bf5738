"""A node on a robot without a compiler, with a package that was compiled elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from sensor_msgs.msg import Image

from sdcpc_ros.model_files.checkpoint import load_checkpoint
from sdcpc_ros.streaming.segmenter import StreamingSegmenter


@pytest.mark.timeout(900)  # compiles the package, if no other test has, which takes minutes on a busy machine
def test_what_was_exported_runs_and_gives_eagers_masks(
    start_node, peer, image, street, robot_model, robot_cache, tmp_path, monkeypatch
):
    monkeypatch.setenv("SDCPC_CACHE", str(robot_cache))
    monkeypatch.setenv("PATH", str(tmp_path))
    node = start_node(model=robot_model, device="cpu", backend="aot", input_height=64, input_width=96, max_gap=600.0)
    masks = peer.collect(peer.topic("camera/label/image_raw"), Image)
    peer.wait_until(lambda: peer.report("model").get("backend status") == "aot", "the package in use")
    eager, seen = StreamingSegmenter(load_checkpoint(robot_model), input_size=(64, 96)), set()
    for number in range(4):
        picture = street(seed=number)
        # Sent again only if it was surely lost: twice in the stream, it would be remembered twice.
        mask = peer.exchange("/camera/image_raw", image(picture, 1.0 + number), masks, patience_s=30.0)
        labels = np.frombuffer(mask.data, np.uint8).reshape(mask.height, mask.width)
        assert (labels == eager.segment(picture, 1.0 + number).labels).mean() >= 0.999
        seen |= set(np.unique(labels))
    assert len(seen) > 1
    assert "outdated" not in node.log()  # PyTorch's false alarm where there is no compiler
