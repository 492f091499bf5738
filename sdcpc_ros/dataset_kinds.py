"""The kinds of data set that there are, by name: one way to open them all, for commands and recipes.

Above both `datasets` and `bags`, since a bag is a data set too, and reading one needs packages that the others do not.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sdcpc_ros.datasets.camvid import CamVid
from sdcpc_ros.datasets.cityscapes import Cityscapes
from sdcpc_ros.datasets.errors import DatasetError
from sdcpc_ros.datasets.video_dataset import VideoDataset
from sdcpc_ros.datasets.vspw import VSPW

#: Kind -> what opens a split of it: (root, split).
DATASET_KINDS: dict[str, Callable[[Path, str], VideoDataset]] = {
    "camvid": CamVid,
    "cityscapes": Cityscapes,
    "vspw": VSPW,
}


def open_dataset(kind: str, root: str | Path, split: str) -> VideoDataset:
    """A split of the data set at `root`. Raises DatasetError for an unknown kind, or naming the file and the rule."""
    if kind not in DATASET_KINDS:
        raise DatasetError(f"no kind of data set '{kind}'; {', '.join(DATASET_KINDS)} are known")
    return DATASET_KINDS[kind](Path(root), split)
