"""CamVid (Brostow et al. 2009) with eleven classes, in each of the layouts that it is passed around in.

- plain: `ROOT/SPLIT/images/NAME.{png,jpg,jpeg}` and `ROOT/SPLIT/labels/NAME.png`;
- as in the SegNet tutorial: `ROOT/SPLIT/NAME.png` and `ROOT/SPLITannot/NAME.png`;
- original: `ROOT/701_StillsRaw_full/NAME.png` and `ROOT/LabeledApproved_full/NAME_L.png`, all splits together. It knows
  no splits: they are SegNet's, by name.

A label image of the first two has one channel of 8 bits: ids 0..10 as in `CAMVID_11`, and 11 for void. One of the
original shows its 32 classes as colours, which become eleven as SegNet's did. A name ends in the number of the frame in
its video, `0016E5_07959`; videos run at 30 frames a second, and most frames that have labels are a second apart.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np

from sdcpc_ros.datasets.image_files import FolderDataset, found_in, id_table, list_pairs, read_ids, read_image
from sdcpc_ros.datasets.video_dataset import DatasetError
from sdcpc_ros.images.label_pictures import BadLabels, LabelReader
from sdcpc_ros.labels.label_set import CAMVID_11, IGNORE

VIDEO_RATE_HZ = 30.0
_VOID_ON_DISK = 11
_IDS = id_table({**{id_: id_ for id_ in range(len(CAMVID_11))}, _VOID_ON_DISK: IGNORE})
_STILLS, _APPROVED = "701_StillsRaw_full", "LabeledApproved_full"
_LAYOUTS = (
    "CamVid needs ROOT/SPLIT/images and ROOT/SPLIT/labels, or ROOT/SPLIT and ROOT/SPLITannot, "
    f"or ROOT/{_STILLS} and ROOT/{_APPROVED}"
)

#: The colours (red, green, blue) of the original's 32 classes by the one of the eleven that SegNet put each into. Black
#: is void.
_COLOURS: dict[str, list[tuple[int, int, int]]] = {
    "sky": [(128, 128, 128)],
    # Archway, Bridge, Building, Tunnel, Wall
    "building": [(192, 0, 128), (0, 128, 64), (128, 0, 0), (64, 0, 64), (64, 192, 0)],
    "pole": [(192, 192, 128), (0, 0, 64)],  # Column_Pole, TrafficCone
    "road": [(128, 0, 192), (192, 0, 64), (128, 64, 128)],  # LaneMkgsDriv, LaneMkgsNonDriv, Road
    "pavement": [(64, 192, 128), (128, 128, 192), (0, 0, 192)],  # ParkingBlock, RoadShoulder, Sidewalk
    "tree": [(128, 128, 0), (192, 192, 0)],  # Tree, VegetationMisc
    "sign_symbol": [(128, 128, 64), (192, 128, 128), (0, 64, 64)],  # Misc_Text, SignSymbol, TrafficLight
    "fence": [(64, 64, 128)],
    # Car, OtherMoving, SUVPickupTruck, Train, Truck_Bus
    "car": [(64, 0, 128), (128, 64, 64), (64, 128, 192), (192, 64, 128), (192, 128, 192)],
    # Animal, CartLuggagePram, Child, Pedestrian
    "pedestrian": [(64, 128, 64), (64, 0, 192), (192, 128, 64), (64, 64, 0)],
    "bicyclist": [(0, 128, 192), (192, 0, 192)],  # Bicyclist, MotorcycleScooter
}
_COLOUR_READER = LabelReader(tuple(colour for name in CAMVID_11.class_names for colour in _COLOURS[name]))
#: The class of the n-th colour.
_OF_COLOURS = np.full(256, IGNORE, np.uint8)
_OF_COLOURS[: len(_COLOUR_READER.colours)] = np.repeat(range(11), [len(_COLOURS[n]) for n in CAMVID_11.class_names])


class CamVid(FolderDataset):
    """One split of CamVid, every frame of it labelled. Raises DatasetError naming the file and the rule it breaks."""

    def __init__(self, root: str | os.PathLike[str], split: str) -> None:
        root = Path(root)
        self._coloured = False
        if (root / split / "images").is_dir() or (root / split / "labels").is_dir():
            pairs = list_pairs(root / split / "images", root / split / "labels", _LAYOUTS)
        elif (root / f"{split}annot").is_dir():
            pairs = list_pairs(root / split, root / f"{split}annot", _LAYOUTS)
        elif (root / _STILLS).is_dir() or (root / _APPROVED).is_dir():
            self._coloured = True
            pairs = list_pairs(root / _STILLS, root / _APPROVED, _LAYOUTS, label_ending="_L")
            pairs = {name: pair for name, pair in pairs.items() if segnet_split(pair[0]) == split}
            if not pairs:
                raise DatasetError(
                    f"no frame in '{root / _STILLS}' belongs to split '{split}'; train, val and test are known"
                )
        else:
            raise DatasetError(f"no folder '{root / split}' with CamVid in it; {_LAYOUTS}; {found_in(root)}")
        files = {}
        for name, pair in pairs.items():
            video, number = _video_and_number(pair[0])
            files[video, number / VIDEO_RATE_HZ, name] = pair
        super().__init__(f"CamVid {split}", CAMVID_11, files)

    def read_labels(self, path: Path) -> np.ndarray:
        if self._coloured:
            try:
                return _OF_COLOURS[_COLOUR_READER.from_picture(read_image(path))]
            except BadLabels as error:
                raise DatasetError(f"'{path}' {error}: the 32 of the original CamVid") from error
        return read_ids(path, _IDS, f"0 to {len(CAMVID_11) - 1}, and {_VOID_ON_DISK} for void,")


def segnet_split(path: Path) -> str:
    """Which of SegNet's splits (367 train, 101 val, 233 test) a frame of the original belongs to, "" for none.

    val is the one stretch that is labelled at 15 Hz; test a whole drive and the second half of another.
    """
    video, number = _video_and_number(path)
    if video == "0016E5":
        return "val" if 7959 <= number <= 8159 else "train"
    if video == "0001TP":
        return "train" if number <= 8520 else "test"
    return {"0006R0": "train", "Seq05VD": "test"}.get(video, "")


def _video_and_number(path: Path) -> tuple[str, int]:
    """'0016E5_07959' -> ('0016E5', 7959), '0006R0_f00930' -> ('0006R0', 930)."""
    match = re.fullmatch(r"(.*?)(?:_f?)?(\d+)", path.stem)
    if match is None:
        raise DatasetError(f"'{path}' is not named by its video and frame number, as '0016E5_07959' is")
    return match[1], int(match[2])
