"""The kinds of data sets by name, for commands and recipes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sdcpc_ros.datasets.camvid import CamVid
from sdcpc_ros.datasets.cityscapes import Cityscapes
from sdcpc_ros.datasets.video_dataset import DatasetError, VideoDataset
from sdcpc_ros.datasets.vspw import VSPW
from sdcpc_ros.labels.label_set import LabelSet
from sdcpc_ros.runtime.installation import install_advice

#: Kinds with published label sets, and their constructors (root, split).
_PUBLISHED: dict[str, Callable[[Path, str], VideoDataset]] = {"camvid": CamVid, "cityscapes": Cityscapes, "vspw": VSPW}
DATASET_KINDS = (*_PUBLISHED, "bag")


def open_dataset(
    kind: str, root: str | Path, split: str | None = None, *, label_set: LabelSet | None = None
) -> VideoDataset:
    """A split of the data set at `root`; of bags, those in ROOT/SPLIT, or without a split those at ROOT.

    label_set: the classes of the ids in bags without a label_set.json; other kinds have their own.
    Raises DatasetError for an unknown kind or a missing split, or naming the file and the rule it breaks.
    """
    if kind == "bag":
        try:
            from sdcpc_ros.datasets.bag_dataset import open_bags
        except ModuleNotFoundError as error:
            advice = install_advice(str(error.name)) or "install it"
            raise DatasetError(f"no Python package '{error.name}'; to get it: {advice}") from error
        return open_bags(Path(root), split, label_set)
    if kind not in _PUBLISHED:
        raise DatasetError(f"no kind of data set '{kind}'; {', '.join(DATASET_KINDS)} are known")
    if split is None:
        raise DatasetError(f"no split is named; a data set of kind '{kind}' needs one, as train or val")
    return _PUBLISHED[kind](Path(root), split)
