"""Where the files that come with the package lie: models/, config/ and launch/."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def share_folders() -> list[Path]:
    """The folders that may hold them, the best first: the source tree, then share/sdcpc_ros of every prefix.

    Those of a ROS workspace come before that of the Python environment.
    """
    source = Path(__file__).resolve().parent.parent
    folders = [source] if (source / "package.xml").is_file() else []
    prefixes = [*os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep), sys.prefix]
    return folders + [Path(prefix) / "share" / "sdcpc_ros" for prefix in prefixes if prefix]
