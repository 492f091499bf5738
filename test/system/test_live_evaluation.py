"""`sdcpc evaluate-bag --live`: a bag over DDS to a real node, compared frame by frame with the offline evaluation."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not here")

from sdcpc_ros.cli import main
from sdcpc_ros.replay.image_bags import IMAGE_TOPIC, StreetBag, write_street_bag
from sdcpc_ros.replay.node_process import LABEL_TOPIC, NodeProcess, node_command, write_parameters

pytestmark = pytest.mark.usefixtures("ros_domain")

FRAMES = 12


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short drive, slow enough for any machine when it is played at a third of its speed."""
    path = tmp_path_factory.mktemp("bags") / "street"
    write_street_bag(path, StreetBag(seed=3, size=(60, 80), length=FRAMES, rate_hz=15.0))
    return path


def ros_variables() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if "ROS" in name or "DDS" in name or "RTPS" in name}


def evaluate(bag: Path, model: Path, output: Path, *options: str) -> tuple[int, dict]:
    status = main(["evaluate-bag", str(bag), "--model", str(model), "-o", str(output), *options])
    file = output / "street" / "report.json"
    return status, json.loads(file.read_text()) if file.exists() else {}


def test_a_slow_bag_is_labelled_live_as_offline(street, tiny_checkpoint, tmp_path):
    environment = ros_variables()
    options = ("--live", "--live-rate", "0.2", "--min-agreement", "1", "--max-dropped", "0")
    status, report = evaluate(street, tiny_checkpoint, tmp_path, *options)
    live = report["live"]
    assert (status, live["frames_published"], live["frames_dropped"]) == (0, FRAMES, 0), live
    assert (live["compared"], live["equal"], live["agreement"]) == (FRAMES, FRAMES, 1.0), live["differences"]
    assert live["input_rate_hz"] == pytest.approx(0.2 * 15, rel=0.2)
    assert 0 < live["latency_ms"]["p50"] <= live["latency_ms"]["max"] and live["jitter_ms"]["p50"] >= 0
    assert int(live["node"]["processed"]) == FRAMES
    assert [latency is not None for latency in live["frames"]["latency_ms"]] == [True] * FRAMES
    assert "is ready after" in (tmp_path / "street" / "node.log").read_text()
    assert not (tmp_path / "street" / ".live_recording").exists()
    assert ros_variables() == environment  # the node's own domain was for the node
    _, offline = evaluate(street, tiny_checkpoint, tmp_path / "offline")
    assert offline["labels_sha256"] == report["labels_sha256"] and offline["scores"] == report["scores"]


@pytest.fixture
def running_node(tiny_checkpoint: Path, tmp_path: Path) -> Iterator[NodeProcess]:
    """A node that somebody started before."""
    camera = {"image_topic": IMAGE_TOPIC, "compressed": False}
    write_parameters(tmp_path / "node.yaml", model=tiny_checkpoint, backend="eager", **camera)
    with NodeProcess(node_command(tmp_path / "node.yaml"), tmp_path / "node.log") as process:
        deadline = time.monotonic() + 180
        while "is ready after" not in process.log_path.read_text():
            assert process.is_running() and time.monotonic() < deadline, process.log_path.read_text()
            time.sleep(0.05)
        yield process


def test_a_node_that_runs_already_is_played_to_twice(running_node, street, tiny_checkpoint, tmp_path):
    options = ("--live", "--live-node", LABEL_TOPIC, "--live-rate", "0.2", "--start", "0.2", "--force")
    for _ in range(2):  # the second time its stamps jump back: what the node remembers is forgotten
        status, report = evaluate(street, tiny_checkpoint, tmp_path / "out", *options)
        live = report["live"]
        assert (status, live["compared"], live["equal"]) == (0, 9, 9), live
    assert running_node.is_running()


def test_a_node_that_is_not_there_is_a_sentence(street, tiny_checkpoint, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sdcpc_ros.replay.live_run.RUNNING_TIMEOUT_S", 0.5)
    topic = "/nobody/front/label/image_raw"
    assert evaluate(street, tiny_checkpoint, tmp_path, "--live", "--live-node", topic) == (1, {})
    assert f"sdcpc evaluate-bag: no node publishes {topic} and listens to {IMAGE_TOPIC}" in capsys.readouterr().err
    assert evaluate(street, tiny_checkpoint, tmp_path, "--live", "--live-node", "/front/masks") == (1, {})
    assert f"the label topic is '/front/masks'; one as {LABEL_TOPIC} is needed" in capsys.readouterr().err
