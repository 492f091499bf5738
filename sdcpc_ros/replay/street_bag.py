"""The synthetic street as a bag: a camera drive with exact ground truth, generated from a seed."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from sdcpc_ros.bags.errors import BagError
from sdcpc_ros.bags.messages import CAMERA_INFO, IMAGE, RawMessage, serialise_camera_info, serialise_image
from sdcpc_ros.bags.reader import BagReader
from sdcpc_ros.bags.writer import BagWriter
from sdcpc_ros.datasets.synthetic_street import SyntheticStreet

IMAGE_TOPIC = "/camera/image_raw"
CAMERA_INFO_TOPIC = "/camera/camera_info"
GROUND_TRUTH_TOPIC = "/camera/ground_truth"
FRAME_ID = "camera_optical_frame"
#: The time of the first frame. It is fixed, so that the same street is the same bag.
START_NS = 1_700_000_000_000_000_000
_PARAMETERS_NOTE, _CHECKSUM_NOTE = "synthetic_street", "first_frame_crc32"  # keys in the bag's metadata


@dataclass(frozen=True)
class StreetBag:
    """The parameters of a street and its camera."""

    seed: int = 19  #: training uses seeds from 1000 up
    size: tuple[int, int] = (360, 480)  #: (height, width), px
    length: int = 150  #: frames
    rate_hz: float = 15.0

    def street(self) -> SyntheticStreet:
        return SyntheticStreet(**vars(self))

    def notes(self) -> dict[str, str]:
        """For the bag's metadata: the parameters, and a checksum that changes when the renderer does."""
        image, labels = self.street()[0]
        checksum = zlib.crc32(image.tobytes() + labels.tobytes())
        return {_PARAMETERS_NOTE: json.dumps(asdict(self)), _CHECKSUM_NOTE: str(checksum)}


def image_message(topic: str, pixels: np.ndarray, time_ns: int) -> RawMessage:
    """The camera's image (H, W, 3) uint8 RGB, or labels (H, W) uint8, recorded at the time of its stamp."""
    encoding = "rgb8" if pixels.ndim == 3 else "mono8"
    return RawMessage(topic, IMAGE, time_ns, serialise_image(pixels, encoding, time_ns, FRAME_ID))


def write_street_bag(path: str | Path, street_bag: StreetBag, *, on_frame: Callable[[], None] = lambda: None) -> None:
    """Renders a street into a bag: images (rgb8), camera_info and ground truth (mono8 class ids, 255 = void).

    `on_frame` is called after each frame. Raises BagError if `path` cannot become a bag.
    """
    street = street_bag.street()
    with BagWriter(path, notes=street_bag.notes()) as bag:
        for index in range(len(street)):
            stamp_ns = START_NS + round(index * 1e9 / street_bag.rate_hz)
            image, labels = street[index]
            info = serialise_camera_info(street_bag.size, street.camera.matrix, stamp_ns, FRAME_ID)
            bag.write(RawMessage(CAMERA_INFO_TOPIC, CAMERA_INFO, stamp_ns, info))
            bag.write(image_message(IMAGE_TOPIC, image, stamp_ns))
            bag.write(image_message(GROUND_TRUTH_TOPIC, labels, stamp_ns))
            on_frame()


def is_street_bag(path: str | Path, street_bag: StreetBag) -> bool:
    """Whether `path` is a readable bag of this street, as the current renderer draws it."""
    try:
        with BagReader(path) as bag:
            return bag.custom_data == street_bag.notes()
    except BagError:
        return False
