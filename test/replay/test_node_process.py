from __future__ import annotations

import os
import socket
import sys
import textwrap
import time
from pathlib import Path

import pytest
import yaml

from sdcpc_ros.bags.errors import BagError, PlaybackError
from sdcpc_ros.nodes import topics
from sdcpc_ros.nodes.parameters import DECLARATIONS
from sdcpc_ros.replay import node_process
from sdcpc_ros.replay.node_process import (
    CAMERA,
    CLASS_STATISTICS_TOPIC,
    CONFIDENCE_TOPIC,
    LABEL_INFO_TOPIC,
    LABEL_TOPIC,
    NODE_NAME,
    NodeProcess,
    NodeTopics,
    node_command,
    ros_environment,
    write_parameters,
)


def start(tmp_path: Path, script: str, ready: str = "ready\n") -> NodeProcess:
    """A Python script as the node, once it has printed `ready`: a whole line, which is written in two parts."""
    process = NodeProcess([sys.executable, "-c", textwrap.dedent(script)], tmp_path / "node.log")
    deadline = time.monotonic() + 60
    while ready not in process.log_path.read_text():
        assert time.monotonic() < deadline, "the script did not get ready"
        time.sleep(0.02)
    return process


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"  # dead, but its new parent has not asked yet


def test_a_node_is_asked_to_end_and_may_clean_up(tmp_path):
    script = """
        import signal, sys, time
        signal.signal(signal.SIGTERM, lambda *_: sys.exit())
        try:
            print("ready")
            while True:
                time.sleep(0.1)  # a signal just before a sleep is only seen after it
        finally:
            print("cleaned up")
    """
    with start(tmp_path, script) as process:
        assert process.is_running()
        process.require_running()
    assert not process.is_running()
    assert process.log_path.read_text() == "ready\ncleaned up\n"


def test_a_node_that_does_not_listen_is_ended_with_its_children(tmp_path, monkeypatch):
    monkeypatch.setattr(node_process, "STOP_GRACE_S", 0.2)
    script = """
        import signal, subprocess, sys, time
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # the child inherits this
        deaf = "import time; print('ready'); time.sleep(60)"
        print(subprocess.Popen([sys.executable, "-c", deaf]).pid)
        time.sleep(60)
    """
    with start(tmp_path, script) as process:
        child = int(process.log_path.read_text().split()[0])
    deadline = time.monotonic() + 20
    while not gone(child):
        assert time.monotonic() < deadline, "the child outlived the node"
        time.sleep(0.02)
    assert not process.is_running()


def test_it_ends_when_the_block_fails(tmp_path):
    with pytest.raises(RuntimeError), start(tmp_path, "import time; print('ready'); time.sleep(60)") as process:
        raise RuntimeError
    assert not process.is_running()


def test_a_node_that_ended_by_itself_is_quoted(tmp_path):
    with start(tmp_path, "print('ready'); raise SystemExit('no model here')", ready="no model") as process:
        deadline = time.monotonic() + 60
        while process.is_running() and time.monotonic() < deadline:
            time.sleep(0.02)
        with pytest.raises(PlaybackError, match=r"ended by itself \(exit status 1\): no model here"):
            process.require_running()


def test_a_command_that_is_not_there_is_a_sentence(tmp_path):
    with pytest.raises(PlaybackError, match=r"the node could not be started: .*no-such-program"):
        NodeProcess(["no-such-program"], tmp_path / "node.log")


def test_the_command_takes_the_written_parameters(tmp_path):
    path = tmp_path / "parameters.yaml"
    write_parameters(path, model=tmp_path / "my model: v2.safetensors", image_topic="/front/image", compressed=True)
    assert node_command(path)[-2:] == ["--params-file", str(path)]
    assert yaml.safe_load(path.read_text())["/**"]["ros__parameters"] == {
        "model": str(tmp_path / "my model: v2.safetensors"),
        "use_sim_time": True,
        "cameras": ["camera"],
        "camera": {"image_topic": "/front/image", "transport": "compressed"},
    }


def test_the_environment_leaves_what_the_user_has_set(tmp_path, monkeypatch):
    monkeypatch.setenv("ROS_DOMAIN_ID", "42")
    for name in ("ROS_AUTOMATIC_DISCOVERY_RANGE", "ROS_LOG_DIR", "ROS_DISTRO", "ROS_LOCALHOST_ONLY"):
        monkeypatch.delenv(name, raising=False)
    environment = ros_environment(tmp_path / "logs")
    assert "ROS_DOMAIN_ID" not in environment
    assert environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"
    assert environment["ROS_LOG_DIR"] == str(tmp_path / "logs")
    assert "ROS_LOCALHOST_ONLY" not in environment
    monkeypatch.setenv("ROS_DISTRO", "humble")
    assert ros_environment(tmp_path)["ROS_LOCALHOST_ONLY"] == "1"


def test_images_go_by_shared_memory_where_there_is_enough_of_it(tmp_path, monkeypatch):
    profile, transports = "FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_BUILTIN_TRANSPORTS"
    for name in (profile, "FASTDDS_DEFAULT_PROFILES_FILE", transports):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(node_process, "SHARED_MEMORY", tmp_path)
    monkeypatch.setattr(node_process, "SHARED_MEMORY_NEEDED_MIB", 0)
    environment = ros_environment(tmp_path)
    assert Path(environment[profile]).name == "fastdds_profile.xml" and transports not in environment
    monkeypatch.setattr(node_process, "SHARED_MEMORY_NEEDED_MIB", 1 << 42)
    environment = ros_environment(tmp_path)
    assert environment[transports] == "UDPv4" and profile not in environment
    monkeypatch.setenv(profile, "mine.xml")
    environment = ros_environment(tmp_path)
    assert profile not in environment and transports not in environment


def test_a_domain_in_use_is_not_chosen(tmp_path, monkeypatch):
    monkeypatch.delenv("ROS_DOMAIN_ID", raising=False)
    monkeypatch.setattr(node_process, "DOMAIN_IDS", range(110, 116))  # which no node of other tests uses
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other_node:
        other_node.bind(("", 7400 + 250 * 112))
        chosen = {ros_environment(tmp_path)["ROS_DOMAIN_ID"] for _ in range(30)}
    assert chosen <= {"110", "111", "113", "114", "115"}


def test_a_node_can_be_told_how_to_run_the_network(tmp_path):
    path = tmp_path / "parameters.yaml"
    write_parameters(
        path,
        model=tmp_path / "model.safetensors",
        image_topic="/front/image",
        compressed=False,
        device="cpu",
        backend="inductor",
        input_size=(96, 128),
        max_gap=0.5,
    )
    values = yaml.safe_load(path.read_text())["/**"]["ros__parameters"]
    named = {name: values[name] for name in ("device", "backend", "input_height", "input_width", "max_gap")}
    assert named == {"device": "cpu", "backend": "inductor", "input_height": 96, "input_width": 128, "max_gap": 0.5}
    assert set(named) <= set(DECLARATIONS)


def test_topics_are_named_as_the_node_names_them():
    below = f"/{NODE_NAME}/{CAMERA}"
    names = {
        LABEL_TOPIC: topics.LABEL,
        LABEL_INFO_TOPIC: topics.LABEL_INFO,
        CONFIDENCE_TOPIC: topics.CONFIDENCE,
        CLASS_STATISTICS_TOPIC: topics.CLASS_STATISTICS,
    }
    assert {name: f"{below}/{topic.name}" for name, topic in names.items()} == {name: name for name in names}
    assert (NodeTopics().label, NodeTopics().confidence) == (LABEL_TOPIC, CONFIDENCE_TOPIC)


def test_a_nodes_topics_follow_from_its_label_topic():
    found = NodeTopics.of("/robot1/seg/front/label/image_raw")
    assert (found.node, found.reported_as, found.camera) == ("/robot1/seg", "robot1/seg", "front")
    assert found.confidence == "/robot1/seg/front/confidence/image_raw"


@pytest.mark.parametrize("topic", ["", "/front/label/image_raw", "seg/front/label/image_raw", "/seg/front/label"])
def test_a_label_topic_that_no_node_has_is_refused(topic):
    with pytest.raises(BagError, match=f"the label topic is '{topic}'; one as {LABEL_TOPIC} is needed"):
        NodeTopics.of(topic)
