"""VSPW (Miao et al. 2021): every frame labelled, 15 of them a second, 124 classes.

    ROOT/SPLIT.txt                                      one video a line; train, val, test
    ROOT/data/VIDEO/origin/NAME.jpg
    ROOT/data/VIDEO/mask/NAME.png                       none in test: its frames have no labels

A mask has one channel of 8 bits: 1..124 are the classes, which become 0..123 here; 0 ("others") and 255 are void.
A video's frames follow each other in the order of their names, as the protocol of the data set has it.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from sdcpc_ros.datasets.image_files import FolderDataset, found_in, id_table, list_pairs, read_ids
from sdcpc_ros.datasets.video_dataset import DatasetError
from sdcpc_ros.labels.label_set import IGNORE, VSPW_124

VIDEO_RATE_HZ = 15.0
_LAYOUT = (
    "VSPW needs ROOT/SPLIT.txt and, for every video that it lists, ROOT/data/VIDEO/origin and ROOT/data/VIDEO/mask"
)
_WITHOUT_LABELS = "test"
_IDS = id_table({0: IGNORE, **{id_ + 1: id_ for id_ in range(len(VSPW_124))}, IGNORE: IGNORE})


class VSPW(FolderDataset):
    """One split of VSPW. Raises DatasetError naming the file and the rule it breaks."""

    def __init__(self, root: str | os.PathLike[str], split: str) -> None:
        root = Path(root)
        files = {}
        for video in _listed(root, split):
            folder = root / "data" / video
            pairs = list_pairs(folder / "origin", folder / "mask", _LAYOUT, may_lack_labels=split == _WITHOUT_LABELS)
            for position, name in enumerate(sorted(pairs)):
                files[video, position / VIDEO_RATE_HZ, name] = pairs[name]
        super().__init__(f"VSPW {split}", VSPW_124, files)

    def read_labels(self, path: Path) -> np.ndarray:
        return read_ids(path, _IDS, f"0 to {len(VSPW_124)}, and 255 for void,")


def _listed(root: Path, split: str) -> list[str]:
    """The videos of a split."""
    path = root / f"{split}.txt"
    if not path.is_file():
        raise DatasetError(f"no file '{path}'; {_LAYOUT}; {found_in(root)}")
    videos = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not videos:
        raise DatasetError(f"'{path}' lists no video; one a line is needed")
    for video in videos:
        if "/" in video or "\\" in video or video.startswith("."):
            raise DatasetError(f"'{path}' lists '{video}', which is no name of a folder in '{root / 'data'}'")
    return list(dict.fromkeys(videos))
