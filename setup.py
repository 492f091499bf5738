"""The files that a plain `pip install` puts beside the Python package, where colcon puts them too: share/sdcpc_ros.

All else about the Python package is in pyproject.toml; package.xml and CMakeLists.txt describe the ROS package.
"""

from collections import defaultdict
from pathlib import Path

from setuptools import setup

shared_files = defaultdict(list)
for folder in ("config", "launch", "models"):
    for path in sorted(Path(folder).rglob("*.*")):
        if path.is_file() and "__pycache__" not in path.parts:
            shared_files[f"share/sdcpc_ros/{path.parent.as_posix()}"].append(path.as_posix())

setup(data_files=sorted(shared_files.items()))
