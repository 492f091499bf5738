from __future__ import annotations

import sys
from pathlib import Path

import pytest
import setup_venv
from hypothesis import given
from hypothesis import strategies as st
from setup_venv import SetupError, check_python, fingerprint, prepare, requirements_beside_ros, requirements_with_ros

pytestmark = pytest.mark.slow


class Steps:
    """Stands where commands are run: notes them, and does of `python -m venv` what matters here."""

    def __init__(self, failing: str = "") -> None:
        self.failing = failing
        self.commands: list[str] = []

    def __call__(self, command: list[str | Path]) -> None:
        line = " ".join(map(str, command))
        kind = next(kind for kind in ("-m venv", "-m pip install", "localise_ros_wheels.py") if kind in line)
        self.commands.append(kind)
        if kind == self.failing:
            raise SetupError(f"{kind} failed")
        if kind == "-m venv":
            Path(command[-1]).mkdir(exist_ok=True)
            (Path(command[-1]) / "pyvenv.cfg").touch()


@pytest.fixture
def no_ros(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROS_DISTRO", raising=False)


def steps_of(monkeypatch: pytest.MonkeyPatch, venv: Path, torch: str = "", failing: str = "") -> list[str]:
    steps = Steps(failing)
    monkeypatch.setattr(setup_venv, "run", steps)
    if failing:
        with pytest.raises(SetupError, match="failed"):
            prepare(venv, torch)
    else:
        prepare(venv, torch)
    return steps.commands


@pytest.mark.usefixtures("no_ros")
def test_the_second_time_there_is_nothing_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    venv = tmp_path / "env"
    assert steps_of(monkeypatch, venv) == ["-m venv", "-m pip install", "localise_ros_wheels.py"]
    assert steps_of(monkeypatch, venv) == []


@pytest.mark.usefixtures("no_ros")
def test_another_torch_is_installed_into_the_same_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    venv = tmp_path / "env"
    steps_of(monkeypatch, venv)
    assert steps_of(monkeypatch, venv, torch="torch==2.5.1") == ["-m pip install", "localise_ros_wheels.py"]


@pytest.mark.usefixtures("no_ros")
def test_a_failed_installation_is_resumed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    venv = tmp_path / "env"
    assert steps_of(monkeypatch, venv, failing="-m pip install") == ["-m venv", "-m pip install"]
    assert steps_of(monkeypatch, venv) == ["-m pip install", "localise_ros_wheels.py"]


@pytest.mark.usefixtures("no_ros")
def test_a_damaged_stamp_counts_as_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    venv = tmp_path / "env"
    steps_of(monkeypatch, venv)
    (venv / setup_venv.STAMP).write_text("{")
    assert steps_of(monkeypatch, venv) == ["-m pip install", "localise_ros_wheels.py"]


def test_sourcing_a_ros_makes_the_environment_anew(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    venv = tmp_path / "env"
    monkeypatch.delenv("ROS_DISTRO", raising=False)
    steps_of(monkeypatch, venv)
    monkeypatch.setenv("ROS_DISTRO", "humble")
    monkeypatch.setattr(setup_venv, "sourced_numpy_version", lambda ros: "1.26.4")
    assert steps_of(monkeypatch, venv) == ["-m venv", "-m pip install"]


def test_a_ros_of_another_python_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    other_python = tmp_path / "python3"
    other_python.write_text("#!/bin/sh\necho \"ModuleNotFoundError: No module named 'rclpy'\" >&2\nexit 1\n")
    other_python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(other_python))
    monkeypatch.setenv("ROS_DISTRO", "humble")
    with pytest.raises(
        SetupError, match=r"ROS 2 humble is sourced, but .* cannot import its rclpy \(ModuleNotFound.*PYTHON="
    ):
        prepare(tmp_path / "env", "")
    assert not (tmp_path / "env").exists()


def test_an_old_python_is_refused() -> None:
    with pytest.raises(SetupError, match=r"this is Python 3\.9; 3\.10 or newer is needed"):
        check_python((3, 9))
    check_python((3, 10))


def test_a_python_without_venv_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup_venv.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SetupError, match="apt install python3-venv"):
        check_python((3, 12))


def test_without_ros_the_wheels_and_the_tested_torch_are_installed() -> None:
    wanted = requirements_with_ros("")
    assert setup_venv.TESTED_TORCH in wanted
    assert str(setup_venv.ROS_WHEELS) in wanted
    assert wanted[-1].endswith(",rerun]")
    wanted = requirements_with_ros("torch==2.5.1 numpy<2")
    assert {"torch==2.5.1", "numpy<2"} < set(wanted)
    assert setup_venv.TESTED_TORCH not in wanted
    assert not wanted[-1].endswith(",rerun]")  # it would not go with NumPy 1


@pytest.mark.parametrize(("there", "kept"), [("1.21.5", "numpy<2"), ("1.26.4", "numpy<2"), ("2.2.4", "numpy<3")])
def test_beside_a_ros_its_numpy_major_and_its_torch_stay(there: str, kept: str) -> None:
    wanted = requirements_beside_ros("", there)
    assert kept in wanted
    assert not any(word.startswith("torch") for word in wanted)
    assert str(setup_venv.ROS_WHEELS) not in wanted


@given(st.lists(st.binary(max_size=4), max_size=4), st.lists(st.binary(max_size=4), max_size=4))
def test_the_fingerprint_tells_inputs_apart(first: list[bytes], second: list[bytes]) -> None:
    assert (fingerprint(first, "") == fingerprint(second, "")) == (first == second)
