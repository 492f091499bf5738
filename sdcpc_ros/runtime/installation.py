"""How the package was installed: where its models/, config/ and launch/ lie, and how to get what it lacks."""

from __future__ import annotations

import os
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

#: The variables that name the file of Fast DDS's profiles; the second one from Kilted on.
FAST_DDS_PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
SHARED_MEMORY = Path("/dev/shm")
#: What three processes with the segments of our profile need there; containers have 64 MiB by default.
SHARED_MEMORY_NEEDED_MIB = 192
#: Top-level module -> what pip installs for it, and the extra of ours that brings it. What has no extra is always
#: needed: pip brings it, but colcon and rosdep may not.
_PACKAGES = {
    "torch": ("torch, or your board's wheels (JetPack)", None),
    "safetensors": ("safetensors", None),
    "cv2": ("'opencv-python-headless>=4.10,<5'", None),
    "numpy": ("'numpy>=1.26'", None),
    "yaml": ("PyYAML", None),
    "rich": ("rich", None),
    "av": ("av", "bags"),
    "jinja2": ("Jinja2", "bags"),
    "rosbags": ("rosbags", "bags"),
    "onnx": ("onnx", "export"),
    "onnxruntime": ("onnxruntime", "onnx"),
    "onnxscript": ("onnxscript", "export"),
    "ray": ("ray", "fleet"),
    "rerun": ("'rerun-sdk>=0.32,<0.35'", "rerun"),
}


def share_folders() -> list[Path]:
    """The folders that may hold them, the best first: the source tree, then share/sdcpc_ros of every prefix.

    Those of a ROS workspace come before the one that pip installed to: a virtual environment, ~/.local, /usr/local.
    """
    here = Path(__file__).absolute()
    source = here.resolve().parents[2]
    folders = [source] if (source / "package.xml").is_file() else []
    prefixes = [Path(prefix) for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if prefix]
    prefixes += here.parents[5:6]  # <prefix>/lib/python3.x/site-packages/sdcpc_ros/runtime/installation.py
    return folders + [prefix / "share" / "sdcpc_ros" for prefix in prefixes]


def fast_dds_profile() -> Path | None:
    """Our profile for Fast DDS, which lets it carry whole images in shared memory."""
    files = [folder / "config" / "fastdds_profile.xml" for folder in share_folders()]
    return next((file for file in files if file.is_file()), None)


def install_advice(module: str) -> str | None:
    """How to get a Python package that we need, or an optional part of ours; None if it is none of those.

    pip knows `sdcpc_ros` where pip installed it; what colcon installed has no extras that pip could find.
    """
    package = module.split(".")[0]
    if package not in _PACKAGES:
        return None
    wanted, extra = _PACKAGES[package]
    prefix = Path(__file__).absolute().parents[5:6]
    by_colcon = prefix and (prefix[0] / "share/ament_index/resource_index/packages/sdcpc_ros").is_file()
    if extra and not by_colcon:
        return pip_install(f"'sdcpc_ros[{extra}]'")
    if package == "rerun" and (numpy := metadata.version("numpy")).startswith("1."):
        return (
            "python3 -m venv rerun && rerun/bin/pip install 'SOURCE[bags,rerun]', with the path of this package's "
            f"source. It needs NumPy 2, and ROS's messages are compiled for NumPy {numpy} here"
        )
    return pip_install(wanted)


def pip_install(wanted: str) -> str:
    """The command. Where apt manages this Python, and pip would refuse, a virtual environment comes first."""
    command = f"python3 -m pip install {wanted}"
    in_environment = sys.prefix != sys.base_prefix
    if in_environment or not Path(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED").is_file():
        return command
    return f"python3 -m venv --system-site-packages .venv && source .venv/bin/activate && {command}"
