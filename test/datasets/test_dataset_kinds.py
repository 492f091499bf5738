"""Data sets by the name of their kind."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import sdcpc_ros.datasets
from sdcpc_ros.commands.evaluate import DATASETS
from sdcpc_ros.datasets.dataset_kinds import DATASET_KINDS, open_dataset
from sdcpc_ros.datasets.video_dataset import DatasetError


def test_the_command_offers_every_kind_and_the_street() -> None:
    assert {*DATASET_KINDS, "synthetic"} == set(DATASETS)


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("camvid", "CamVid needs ROOT/SPLIT/images"),
        ("cityscapes", "Cityscapes needs ROOT/"),
        ("vspw", "VSPW needs ROOT/SPLIT.txt"),
        ("bag", "bags are needed: a .mcap or .db3 file"),
    ],
)
def test_each_kind_says_what_it_needs(tmp_path: Path, kind: str, sentence: str) -> None:
    with pytest.raises(DatasetError, match=f"{sentence}.* holds nothing"):
        open_dataset(kind, tmp_path, "val")


def test_an_unknown_kind_is_refused_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no kind of data set 'kitti'; camvid, cityscapes, vspw, bag are known"):
        open_dataset("kitti", tmp_path, "val")


def test_published_kinds_need_a_split(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no split is named; a data set of kind 'vspw' needs one"):
        open_dataset("vspw", tmp_path)


def test_bags_without_their_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The packages imported below must not stay for other tests, half imported as they are.
    for package, name in ((sdcpc_ros, "bags"), (sdcpc_ros.datasets, "bag_dataset")):
        if hasattr(package, name):
            monkeypatch.setattr(package, name, getattr(package, name))
    for name in [*sys.modules]:
        if name.startswith(("sdcpc_ros.bags", "sdcpc_ros.datasets.bag_dataset", "rosbags")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "rosbags", None)
    # The extra where pip installed the package, rosbags itself where colcon did: pip finds no extras there.
    advice = r"python3 -m pip install ('sdcpc_ros\[bags\]'|rosbags)$"
    with pytest.raises(DatasetError, match=rf"no Python package 'rosbags.*'; to get it: {advice}"):
        open_dataset("bag", tmp_path)
