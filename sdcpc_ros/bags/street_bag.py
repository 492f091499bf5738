"""The synthetic street as a bag: a camera drive with exact ground truth, made here from nothing but a seed."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from sdcpc_ros.bags.errors import BagError
from sdcpc_ros.bags.messages import CAMERA_INFO, IMAGE, RawMessage, serialise_camera_info, serialise_image
from sdcpc_ros.bags.reader import BagReader
from sdcpc_ros.bags.writer import BagWriter
from sdcpc_ros.datasets.synthetic_street import SyntheticStreet

IMAGE_TOPIC = "/camera/image_raw"
CAMERA_INFO_TOPIC = "/camera/camera_info"
GROUND_TRUTH_TOPIC = "/camera/ground_truth"
FRAME_ID = "camera_optical_frame"
#: When the drive begins: any fixed moment will do, so that the same street is the same bag.
START_NS = 1_700_000_000_000_000_000
#: What the bag's metadata say about the street in it.
_PARAMETERS_NOTE, _CHECKSUM_NOTE = "synthetic_street", "first_frame_crc32"


@dataclass(frozen=True)
class StreetBag:
    """Which street, and how it is filmed."""

    seed: int = 19  #: training uses those from 1000 up
    size: tuple[int, int] = (360, 480)  #: (height, width), px
    length: int = 150  #: frames
    rate_hz: float = 15.0

    def street(self) -> SyntheticStreet:
        return SyntheticStreet(seed=self.seed, size=self.size, length=self.length, rate_hz=self.rate_hz)


def write_street_bag(
    path: str | Path, street_bag: StreetBag, *, storage: str = "mcap", progress: Callable[[int], None] | None = None
) -> None:
    """Render a street into a bag: images (rgb8), camera_info and ground truth (mono8 class ids, 255 = void).

    `progress` is called with the number of frames written so far. Raises BagError when `path` cannot become a bag.
    """
    street = street_bag.street()
    notes = {_PARAMETERS_NOTE: json.dumps(asdict(street_bag)), _CHECKSUM_NOTE: _first_frame_checksum(street)}
    with BagWriter(path, storage=storage, notes=notes) as bag:
        for index in range(len(street)):
            bag.write_all(_frame_messages(street_bag, street, index))
            if progress is not None:
                progress(index + 1)


def is_street_bag(path: str | Path, street_bag: StreetBag) -> bool:
    """Whether a readable bag at `path` holds this very street, as today's renderer draws it."""
    try:
        with BagReader(path) as bag:
            notes = bag.custom_data
    except BagError:
        return False
    return (
        notes.get(_PARAMETERS_NOTE) == json.dumps(asdict(street_bag))
        and notes.get(_CHECKSUM_NOTE) == _first_frame_checksum(street_bag.street())  # takes a second: last
    )


def _first_frame_checksum(street: SyntheticStreet) -> str:
    """Changes when the way streets are drawn does."""
    image, labels = street.image_and_labels(0)
    return str(zlib.crc32(image.tobytes() + labels.tobytes()))


def _frame_messages(street_bag: StreetBag, street: SyntheticStreet, index: int) -> Iterator[RawMessage]:
    time_ns = START_NS + round(index * 1e9 / street_bag.rate_hz)
    image, labels = street.image_and_labels(index)
    info = serialise_camera_info(street_bag.size, street.camera_matrix, time_ns, FRAME_ID)
    yield RawMessage(CAMERA_INFO_TOPIC, CAMERA_INFO, time_ns, info)
    yield RawMessage(IMAGE_TOPIC, IMAGE, time_ns, serialise_image(image, "rgb8", time_ns, FRAME_ID))
    yield RawMessage(GROUND_TRUTH_TOPIC, IMAGE, time_ns, serialise_image(labels, "mono8", time_ns, FRAME_ID))
