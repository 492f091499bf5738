"""Where the files that come with the package lie: models/, config/ and launch/."""

from __future__ import annotations

import os
from pathlib import Path


def share_folders() -> list[Path]:
    """The folders that may hold them, the best first: the source tree, then share/sdcpc_ros of every prefix.

    Those of a ROS workspace come before the one that pip installed to: a virtual environment, ~/.local, /usr/local.
    """
    here = Path(__file__).absolute()
    source = here.resolve().parents[1]
    folders = [source] if (source / "package.xml").is_file() else []
    prefixes = [Path(prefix) for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if prefix]
    prefixes += here.parents[4:5]  # <prefix>/lib/python3.x/site-packages/sdcpc_ros/installation.py
    return folders + [prefix / "share" / "sdcpc_ros" for prefix in prefixes]
