"""`sdcpc demo` as a user runs it: a real node in its own process, a real bag over DDS, real files at the end."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from bag_fixtures import serialise_jpeg

pytest.importorskip("rclpy", reason="ROS 2 is not here")

from sdcpc_ros.bags.messages import COMPRESSED_IMAGE, RawMessage
from sdcpc_ros.bags.reader import BagReader
from sdcpc_ros.bags.writer import BagWriter
from sdcpc_ros.cli import main
from sdcpc_ros.evaluation.metrics import ConfusionMatrix
from sdcpc_ros.model_files.checkpoint import load_checkpoint, save_checkpoint
from sdcpc_ros.replay.image_bags import CAMERA_INFO_TOPIC, GROUND_TRUTH_TOPIC, IMAGE_TOPIC, StreetBag, write_street_bag
from sdcpc_ros.replay.node_process import CONFIDENCE_TOPIC, LABEL_TOPIC

pytestmark = pytest.mark.usefixtures("ros_domain")

FRAMES = 12
TIMEOUT_S = 240


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short drive through a small street, slow enough for any machine."""
    path = tmp_path_factory.mktemp("bags") / "street"
    write_street_bag(path, StreetBag(seed=3, size=(60, 80), length=FRAMES, rate_hz=6.0))
    return path


def demo_command(model: Path | str, output: Path, *arguments: str) -> list[str]:
    options = ["--model", str(model), "--output", str(output), *arguments]
    return [sys.executable, "-m", "sdcpc_ros.cli", "demo", *options]


def run_demo(model: Path | str, output: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = demo_command(model, output, *arguments)
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=TIMEOUT_S)


def processes_about(folder: Path) -> list[str]:
    """Command lines of running processes that name a folder."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = file.read_bytes().decode(errors="replace").split("\0")
        except OSError:  # it ended meanwhile
            continue
        if any(str(folder) in word for word in words):
            found.append(" ".join(words))
    return found


def wait_until(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_a_bag_goes_through_the_node_and_comes_back_labelled(street, tiny_checkpoint, tmp_path):
    output = tmp_path / "output"
    result = run_demo(tiny_checkpoint, output, "--bag", str(street))
    assert result.returncode == 0, result.stdout
    for words in ("[1/4]", "[4/4]", "frame rate", "latency p50 / p95", "dropped", "mIoU", "mVC8", "overlay.mp4"):
        assert words in result.stdout
    assert processes_about(output) == []
    assert not (output / ".live_recording").exists()
    assert "is ready after" in (output / "node.log").read_text()

    summary = json.loads((output / "summary.json").read_text())
    timing, quality = summary["timing"], summary["quality"]
    assert timing["frames_published"] == FRAMES
    assert timing["frames_labelled"] + timing["frames_dropped"] == FRAMES
    assert timing["frames_labelled"] == quality["judged_frames"] > FRAMES / 2
    assert timing["input_rate_hz"] == pytest.approx(6, rel=0.2)
    assert 0 < timing["latency_ms"]["p50"] <= timing["latency_ms"]["p95"] <= timing["latency_ms"]["max"]
    assert int(summary["node_diagnostics"]["processed"]) == timing["frames_labelled"]

    with BagReader(output / "labelled_bag") as labelled, BagReader(street) as bag:
        topics = {IMAGE_TOPIC, CAMERA_INFO_TOPIC, GROUND_TRUTH_TOPIC, LABEL_TOPIC, CONFIDENCE_TOPIC}
        assert set(labelled.topics) == topics
        assert list(labelled.messages(IMAGE_TOPIC)) == list(bag.messages(IMAGE_TOPIC))
        confusion = ConfusionMatrix(len(load_checkpoint(tiny_checkpoint).label_set))
        for frame in labelled.frames(IMAGE_TOPIC, LABEL_TOPIC, GROUND_TRUTH_TOPIC):
            labels = frame.labels(LABEL_TOPIC)
            if labels is not None:
                assert labels.shape == (60, 80)
                confusion.update(frame.labels(GROUND_TRUTH_TOPIC), labels)
    assert quality["miou"] == pytest.approx(confusion.miou(), abs=1e-6)

    with av.open(str(output / "overlay.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == FRAMES
    sheet = cv2.imread(str(output / "contact_sheet.png"))
    assert sheet.shape[1] > 3 * 80 and np.unique(sheet.reshape(-1, 3), axis=0).shape[0] > 100


def test_a_compressed_camera_without_ground_truth(street, tiny_checkpoint, tmp_path):
    topic = "/front/image_raw/compressed"
    with BagReader(street) as bag, BagWriter(tmp_path / "jpeg", storage="sqlite3") as writer:
        for frame in bag.frames(IMAGE_TOPIC):
            data = serialise_jpeg(frame.image(), frame.stamp_ns, "optical")
            writer.write(RawMessage(topic, COMPRESSED_IMAGE, frame.camera.time_ns, data))
    result = run_demo(tiny_checkpoint, tmp_path / "output", "--bag", str(tmp_path / "jpeg"), "--seconds", "1.1")
    assert result.returncode == 0, result.stdout
    assert "no ground truth of its classes" in result.stdout
    with BagReader(tmp_path / "output" / "labelled_bag") as labelled:
        assert labelled.topics[topic].message_count == 7  # 1.1 s at 6 Hz
        assert labelled.topics[LABEL_TOPIC].message_count > 3
    summary = json.loads((tmp_path / "output" / "summary.json").read_text())
    assert summary["quality"]["miou"] is None


def test_a_bag_that_cannot_be_read_is_a_sentence(street, tiny_checkpoint, tmp_path, capsys):
    torn = tmp_path / "torn.mcap"
    torn.write_bytes((street / "street.mcap").read_bytes()[:-100])
    assert main(demo_command(tiny_checkpoint, tmp_path / "output", "--bag", str(torn))[3:]) == 1
    assert f"sdcpc demo: bag '{torn}' cannot be read: torn.mcap is cut short" in capsys.readouterr().err


def test_a_model_that_is_not_there_is_a_sentence(street, tmp_path, capsys):
    assert main(demo_command("no_such_model", tmp_path / "output", "--bag", str(street))[3:]) == 1
    assert "sdcpc demo: no model 'no_such_model'" in capsys.readouterr().err


def test_the_result_of_an_earlier_demo_is_not_replaced_by_playing_it(street, tiny_checkpoint, tmp_path, capsys):
    earlier = tmp_path / "output" / "labelled_bag"
    shutil.copytree(street, earlier)
    for bag in (earlier, earlier / "street.mcap"):
        assert main(demo_command(tiny_checkpoint, tmp_path / "output", "--bag", str(bag))[3:]) == 1
        assert "is what an earlier demo left in the output folder" in capsys.readouterr().err
        assert (earlier / "street.mcap").exists()


def test_a_node_that_cannot_start_is_quoted(street, tiny_checkpoint, tmp_path):
    checkpoint = load_checkpoint(tiny_checkpoint)
    without_one = dict(list(checkpoint.state_dict.items())[1:])
    save_checkpoint(tmp_path / "broken.safetensors", replace(checkpoint, state_dict=without_one))
    output = tmp_path / "output"
    result = run_demo(tmp_path / "broken.safetensors", output, "--bag", str(street))
    assert result.returncode == 1
    assert "sdcpc demo: the node cannot configure:" in result.stdout
    assert str(output / "node.log") in result.stdout.replace("\n", "")
    assert "Traceback" not in result.stdout
    assert processes_about(output) == []


def test_a_demo_that_is_terminated_takes_its_node_along(tiny_checkpoint, tmp_path):
    output = tmp_path / "output"
    command = demo_command(tiny_checkpoint, output, "--seconds", "0.5", "--rate", "0.01")
    with (tmp_path / "printed").open("w") as printed:
        process = subprocess.Popen(command, stdout=printed, stderr=subprocess.STDOUT)
    try:
        assert wait_until(lambda: "[3/4]" in (tmp_path / "printed").read_text() or process.poll() is not None)
        assert len(processes_about(output)) >= 2  # the demo and its node
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIMEOUT_S) == 143, (tmp_path / "printed").read_text()
        assert processes_about(output) == []
    finally:
        process.kill()
        process.wait()
