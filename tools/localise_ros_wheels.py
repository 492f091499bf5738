"""Point the CMake files of the ROS 2 wheels at this machine's Python and NumPy headers.

The ROS wheels on PyPI turn a virtual environment into an ament prefix, but their exported CMake targets name the
include folders of the image the wheels were built in, which exist nowhere else, so that `find_package(sensor_msgs)`
fails. Run with the environment's own interpreter; running it again changes nothing.
"""

from __future__ import annotations

import re
import sys
import sysconfig
from pathlib import Path

BUILDER_PYTHON = re.compile(r"/opt/python/[^/;\"]+/include/python[0-9.]+")
# Any NumPy, not the builder's alone: NumPy 2 moved its headers, so that another version may have another folder.
NUMPY = re.compile(r"/[^;\"]+/site-packages/numpy/(?:_core|core)/include")


def localise(text: str, python_include: str, numpy_include: str) -> str:
    """Return the CMake `text` with the include folders of the builder, or of an earlier run, replaced by these."""
    text = BUILDER_PYTHON.sub(lambda _: python_include, text)
    return NUMPY.sub(lambda _: numpy_include, text)


def localise_prefix(prefix: Path, python_include: str, numpy_include: str) -> int:
    """Rewrite every exported target under `prefix`/share/*/cmake that needs it; return how many files changed."""
    changed = 0
    for path in sorted(prefix.glob("share/*/cmake/*.cmake")):
        before = path.read_text(encoding="utf-8")
        after = localise(before, python_include, numpy_include)
        if after != before:
            path.write_text(after, encoding="utf-8")
            changed += 1
    return changed


def main() -> None:
    import numpy

    changed = localise_prefix(Path(sys.prefix), sysconfig.get_path("include"), numpy.get_include())
    print(f"pointed {changed} CMake files of the ROS wheels at this machine's headers")


if __name__ == "__main__":
    main()
