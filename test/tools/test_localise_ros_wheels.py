from __future__ import annotations

from pathlib import Path

import pytest
from localise_ros_wheels import localise, localise_prefix

PYTHON, NUMPY = "/home/robot/include/python3.12", "/home/robot/env/numpy/_core/include"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            'INTERFACE_INCLUDE_DIRECTORIES "/opt/python/cp312-cp312/include/python3.12;'
            '/opt/python/cp312-cp312/lib/python3.12/site-packages/numpy/_core/include"',
            f'INTERFACE_INCLUDE_DIRECTORIES "{PYTHON};{NUMPY}"',
        ),
        ('"/opt/python/cp310-cp310/lib/python3.10/site-packages/numpy/core/include"', f'"{NUMPY}"'),
        (
            '"/home/robot/e n v/lib/python3.12/site-packages/numpy/_core/include;/include"',
            f'"{NUMPY};/include"',
        ),
        ('"${_IMPORT_PREFIX}/include/sensor_msgs"', '"${_IMPORT_PREFIX}/include/sensor_msgs"'),
        ('"/opt/ros/jazzy/include/python3.12"', '"/opt/ros/jazzy/include/python3.12"'),
    ],
)
def test_only_the_builders_folders_are_replaced(before: str, after: str) -> None:
    assert localise(before, PYTHON, NUMPY) == after


def test_a_folder_with_a_backslash_is_taken_literally() -> None:
    assert localise("/opt/python/cp312-cp312/include/python3.12", r"/a\1b", NUMPY) == r"/a\1b"


def test_a_prefix_is_rewritten_once(tmp_path: Path) -> None:
    exports = tmp_path / "share" / "std_msgs" / "cmake" / "export_std_msgsExport.cmake"
    exports.parent.mkdir(parents=True)
    exports.write_text('"/opt/python/cp312-cp312/include/python3.12"')
    (exports.parent / "std_msgsConfig.cmake").write_text("# nothing to change\n")
    assert localise_prefix(tmp_path, PYTHON, NUMPY) == 1
    assert exports.read_text() == f'"{PYTHON}"'
    assert localise_prefix(tmp_path, PYTHON, NUMPY) == 0
