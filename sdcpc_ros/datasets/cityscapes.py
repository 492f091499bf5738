"""Cityscapes (Cordts et al. 2016), nineteen classes: snippets of 30 frames of which one is labelled.

    ROOT/leftImg8bit_sequence/SPLIT/CITY/CITY_SEQ_FRAME_leftImg8bit.png      or, without sequences, ROOT/leftImg8bit/...
    ROOT/gtFine/SPLIT/CITY/CITY_SEQ_FRAME_gtFine_labelTrainIds.png           or ..._gtFine_labelIds.png

SEQ and FRAME have six digits; FRAME counts the frames of a drive, and the labelled one is number 19 of the 0..29 of its
snippet. Drives are filmed at 17 frames a second. Where a frame has both kinds of label image, train ids are read. From
`leftImg8bit` alone come the labelled frames, each a run of its own: nothing that could be remembered is near them.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np

from sdcpc_ros.datasets.image_files import FolderDataset, found_in, id_table, list_images, read_ids, require_folder
from sdcpc_ros.datasets.video_dataset import DatasetError
from sdcpc_ros.labels.label_set import CITYSCAPES_19, IGNORE

VIDEO_RATE_HZ = 17.0
SNIPPET_FRAMES = 30
LABELLED_FRAME = 19  #: of a snippet, from 0

_SEQUENCES, _STILLS, _FINE = "leftImg8bit_sequence", "leftImg8bit", "gtFine"
_LAYOUT = (
    f"Cityscapes needs ROOT/{_SEQUENCES}/SPLIT (or ROOT/{_STILLS}/SPLIT) and ROOT/{_FINE}/SPLIT, "
    "each with a folder for every city"
)
_IMAGE_ENDING = "_leftImg8bit"
_TRAIN_IDS_ENDING, _IDS_ENDING = "_gtFine_labelTrainIds", "_gtFine_labelIds"

#: The ids that the nineteen classes have in `labelIds` files, in their order; all others of 0..33 are void there.
_LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
_FROM_TRAIN_IDS = id_table({**{id_: id_ for id_ in range(len(CITYSCAPES_19))}, IGNORE: IGNORE})
_FROM_LABEL_IDS = id_table(
    {**dict.fromkeys((*range(34), IGNORE), IGNORE), **{id_: train for train, id_ in enumerate(_LABEL_IDS)}}
)


class Cityscapes(FolderDataset):
    """One split of Cityscapes. Raises DatasetError naming the file and the rule it breaks."""

    def __init__(self, root: str | os.PathLike[str], split: str) -> None:
        root = Path(root)
        sequences = (root / _SEQUENCES / split).is_dir()
        images_folder = root / (_SEQUENCES if sequences else _STILLS) / split
        require_folder(images_folder, _LAYOUT)
        require_folder(root / _FINE / split, _LAYOUT)
        files = {}
        cities = [path for path in images_folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
        for city in sorted(cities):
            labels_folder = root / _FINE / split / city.name
            require_folder(labels_folder, _LAYOUT)
            found = list_images(labels_folder, (".png",))
            labels = _named(found, _IDS_ENDING) | _named(found, _TRAIN_IDS_ENDING)
            for name, path in _named(list_images(city), _IMAGE_ENDING).items():
                video, _, frame = name.rpartition("_")
                files[video, int(frame) / VIDEO_RATE_HZ, name] = path, labels.pop(name, None)
            if labels:
                name, path = min(labels.items())
                raise DatasetError(f"'{path}' has no image; '{city / name}{_IMAGE_ENDING}.png' is needed")
        if not files:
            raise DatasetError(f"no images in '{images_folder}'; {_LAYOUT}; {found_in(images_folder)}")
        super().__init__(f"Cityscapes {split}", CITYSCAPES_19, files, max_gap_s=1.5 / VIDEO_RATE_HZ)
        self._require_labels(root / _FINE / split, snippets=sequences)

    def read_labels(self, path: Path) -> np.ndarray:
        if path.stem.endswith(_TRAIN_IDS_ENDING):
            return read_ids(path, _FROM_TRAIN_IDS, f"0 to {len(CITYSCAPES_19) - 1}, and 255 for void,")
        return read_ids(path, _FROM_LABEL_IDS, "0 to 33, and 255 for void,")

    def _require_labels(self, labels_folder: Path, *, snippets: bool) -> None:
        """Raises DatasetError for a still, or a whole snippet, without labels. Shorter runs may be broken snippets."""
        for run in self.runs:
            if any(self.frames[index].labelled for index in run) or (snippets and len(run) < SNIPPET_FRAMES):
                continue
            name = self.frames[run.start].name
            drive, _, number = name.rpartition("_")
            labelled = f"{drive}_{int(number) + LABELLED_FRAME:06d}" if snippets else name
            needed = labels_folder / drive.split("_")[0] / f"{labelled}{_TRAIN_IDS_ENDING}.png"
            first = self.frames[run.start].image_source
            problem = f"none of the {len(run)} frames from {first} on has a" if snippets else f"{first} has no"
            raise DatasetError(f"{problem} label image; '{needed}' is needed, or the like ending in {_IDS_ENDING}")


def _named(files: dict[str, Path], ending: str) -> dict[str, Path]:
    """Files by 'CITY_SEQ_FRAME', those alone that end so."""
    named = {}
    for stem, path in files.items():
        if stem.endswith(ending):
            name = stem.removesuffix(ending)
            if re.fullmatch(r".+_\d{6}_\d{6}", name) is None:
                raise DatasetError(f"'{path}' is not named CITY_SEQ_FRAME{ending}, as 'ulm_000003_000019{ending}' is")
            named[name] = path
    return named
