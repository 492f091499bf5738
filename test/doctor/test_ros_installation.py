"""The settings that images over DDS need, from environments and profiles made by hand."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from sdcpc_ros.doctor import FAULT, NOTE, OK, WARNING, ros_installation
from sdcpc_ros.doctor.ros_installation import check_domain, check_messages, check_profile, check_ros
from sdcpc_ros.runtime.installation import share_folders

#: In the source tree, or where the package under test was installed.
SHIPPED = next(file for folder in share_folders() if (file := folder / "config" / "fastdds_profile.xml").is_file())


def test_without_ros_it_says_so_and_finds_no_fault(monkeypatch):
    monkeypatch.setitem(sys.modules, "rclpy", None)
    (finding,) = check_ros()
    assert finding.level == NOTE and "the node does not" in finding.text


def test_a_ros_that_does_not_load_is_a_fault_with_its_reason(monkeypatch, tmp_path):
    reason = "librcl_action.so: cannot open shared object file: No such file or directory"
    (tmp_path / "rclpy.py").write_text(f"raise ImportError({reason!r})\n")
    monkeypatch.delitem(sys.modules, "rclpy", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    (finding,) = check_ros()
    assert finding.level == FAULT and finding.text.endswith(reason) and "setup.bash" in finding.fix


@pytest.mark.parametrize("variable", ["FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"])
def test_the_shipped_profile_will_do(variable):
    finding = check_profile({variable: str(SHIPPED)})
    assert finding.level == OK and "64 MiB" in finding.text


def test_no_profile_is_warned_of_with_the_command_to_set_it():
    finding = check_profile({})
    assert finding.level == WARNING and f"export FASTRTPS_DEFAULT_PROFILES_FILE={SHIPPED}" in finding.fix


@pytest.mark.parametrize(
    ("text", "level", "words"),
    [
        ("<profiles/>", WARNING, "gives 0.0 MiB"),
        ("<p xmlns='x'><segment_size>1048576</segment_size></p>", WARNING, "gives 1.0 MiB"),
        ("<p><segment_size>much</segment_size></p>", FAULT, "cannot be read"),
        ("not XML", FAULT, "cannot be read"),
        (None, FAULT, "cannot be read"),
    ],
)
def test_a_profile_that_will_not_do_is_named(tmp_path: Path, text, level, words):
    file = tmp_path / "profile.xml"
    if text is not None:
        file.write_text(text)
    finding = check_profile({"FASTRTPS_DEFAULT_PROFILES_FILE": str(file)})
    assert finding.level == level and words in finding.text and str(SHIPPED) in finding.fix


@pytest.mark.parametrize(("domain", "level"), [("0", OK), ("101", OK), ("150", WARNING), ("233", FAULT), ("x", FAULT)])
def test_domains(domain, level):
    assert check_domain({"ROS_DOMAIN_ID": domain}).level == level
    assert "whole network" in check_domain({}).text
    assert "this machine only" in check_domain({"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}).text


def test_messages_that_are_missing_are_named(monkeypatch):
    there = SimpleNamespace()
    for module in ros_installation.MESSAGES:
        monkeypatch.setitem(sys.modules, module.split(".")[0], sys.modules.get(module.split(".")[0], there))
        monkeypatch.setitem(sys.modules, module, there)
    assert [finding.level for finding in check_messages()] == [OK]
    monkeypatch.setitem(sys.modules, "vision_msgs.msg", None)
    monkeypatch.setitem(sys.modules, "sensor_msgs.msg", None)
    lines = [finding.line() for finding in check_messages()]
    assert len(lines) == 2
    assert "sensor_msgs: images" in lines[0] and lines[0].endswith("sudo apt install ros-$ROS_DISTRO-sensor-msgs")
    assert "label_info" in lines[1] and lines[1].startswith("warning")


def test_little_shared_memory_is_warned_of(monkeypatch, tmp_path: Path):
    monkeypatch.setattr(ros_installation, "SHARED_MEMORY", tmp_path)
    monkeypatch.setattr(ros_installation.shutil, "disk_usage", lambda _: SimpleNamespace(free=64 << 20))
    finding = ros_installation.check_shared_memory()
    assert finding.level == WARNING and "64 MiB free" in finding.text and "--shm-size" in finding.fix
    monkeypatch.setattr(ros_installation, "SHARED_MEMORY", tmp_path / "none")
    assert ros_installation.check_shared_memory().level == NOTE
