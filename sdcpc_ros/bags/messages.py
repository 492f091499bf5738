"""ROS messages without ROS: stamps, and images and labels as numpy.

Messages are those of `rosbags`, with the field names of ROS.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from sdcpc_ros.bags.errors import BagError
from sdcpc_ros.images.compressed_headers import MAX_PIXELS
from sdcpc_ros.images.decoding import image_format, to_rgb
from sdcpc_ros.images.label_pictures import LABEL_ENCODINGS, BadLabels, LabelReader, label_ids
from sdcpc_ros.labels.label_set import LabelSet
from sdcpc_ros.streaming.class_statistics import class_statistics

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
DIAGNOSTICS = "diagnostic_msgs/msg/DiagnosticArray"
LABEL_INFO = "vision_msgs/msg/LabelInfo"
CLASS_STATISTICS = "sdcpc_ros/msg/ClassStatistics"

#: Definitions of types that a ROS installation may lack, from their .msg files.
_FURTHER_TYPES = {
    "vision_msgs/msg/VisionClass": "uint16 class_id\nstring class_name\n",
    LABEL_INFO: "std_msgs/Header header\nvision_msgs/VisionClass[] class_map\nfloat32 threshold\n",
    CLASS_STATISTICS: (
        "std_msgs/Header header\nuint16[] class_ids\nfloat32[] pixel_share\nfloat32[] mean_confidence\n"
    ),
}

_COLOUR_ENCODINGS = ("rgb8", "bgr8", "rgba8", "bgra8")


@lru_cache(maxsize=1)
def standard_types() -> Typestore:
    """The message types of ROS 2 and `_FURTHER_TYPES`. Those used here are the same from Humble to Kilted."""
    types = get_typestore(Stores.ROS2_JAZZY)
    for name, definition in _FURTHER_TYPES.items():
        types.register(get_types_from_msg(definition, name))
    return types


@dataclass(frozen=True)
class RawMessage:
    """A message as recorded: its CDR bytes, and the time of recording (not the header's stamp)."""

    topic: str
    type: str
    time_ns: int
    data: bytes

    @property
    def stamp_ns(self) -> int:
        """The stamp of a message that starts with a std_msgs/Header. Raises BagError if it has too few bytes."""
        try:  # byte 1: little-endian or not
            seconds, nanoseconds = struct.unpack_from("<iI" if self.data[1] else ">iI", self.data, 4)
        except (struct.error, IndexError):
            raise BagError(f"a message of {len(self.data)} bytes is too short to hold a header") from None
        return int(seconds) * 1_000_000_000 + int(nanoseconds)

    @property
    def stamp_or_time_ns(self) -> int:
        """The header's stamp, or the time of recording if the message is too short to hold one."""
        try:
            return self.stamp_ns
        except BagError:
            return self.time_ns


def _serialise(message_type: str, stamp_ns: int, frame_id: str, **fields: Any) -> bytes:
    """A message of the standard types that begins with a header, as CDR."""
    types = standard_types()
    seconds, nanoseconds = divmod(stamp_ns, 1_000_000_000)
    stamp = types.types["builtin_interfaces/msg/Time"](sec=seconds, nanosec=nanoseconds)
    header = types.types["std_msgs/msg/Header"](stamp=stamp, frame_id=frame_id)
    return bytes(types.serialize_cdr(types.types[message_type](header=header, **fields), message_type))


def serialise_image(pixels: np.ndarray, encoding: str, stamp_ns: int, frame_id: str) -> bytes:
    """A sensor_msgs/Image of (H, W) or (H, W, C) pixels, uint8 or little-endian 16 bit, as CDR."""
    data = np.ascontiguousarray(pixels).reshape(-1).view(np.uint8)
    height, width = pixels.shape[:2]
    layout = {"height": height, "width": width, "is_bigendian": 0, "step": pixels[0].nbytes}
    return _serialise(IMAGE, stamp_ns, frame_id, encoding=encoding, data=data, **layout)


def serialise_compressed(data: bytes, image_format: str, stamp_ns: int, frame_id: str) -> bytes:
    """A sensor_msgs/CompressedImage of a JPEG or PNG file's bytes, as CDR; `image_format` is "jpeg" or "png"."""
    return _serialise(COMPRESSED_IMAGE, stamp_ns, frame_id, format=image_format, data=np.frombuffer(data, np.uint8))


def serialise_camera_info(size: tuple[int, int], camera_matrix: np.ndarray, stamp_ns: int, frame_id: str) -> bytes:
    """A sensor_msgs/CameraInfo of a pinhole camera without distortion, as CDR: size (H, W) and K (3, 3) in pixels."""
    k = np.asarray(camera_matrix, np.float64)
    region = standard_types().types["sensor_msgs/msg/RegionOfInterest"]
    whole = region(x_offset=0, y_offset=0, height=0, width=0, do_rectify=False)
    projection = np.hstack([k, np.zeros((3, 1))])
    matrices = {"d": np.zeros(5), "k": k.reshape(-1), "r": np.eye(3).reshape(-1), "p": projection.reshape(-1)}
    layout = {"height": size[0], "width": size[1], "binning_x": 0, "binning_y": 0, "roi": whole}
    return _serialise(CAMERA_INFO, stamp_ns, frame_id, distortion_model="plumb_bob", **matrices, **layout)


def serialise_label_info(label_set: LabelSet, stamp_ns: int, frame_id: str) -> bytes:
    """A vision_msgs/LabelInfo of the classes and their ids, as CDR."""
    vision_class = standard_types().types["vision_msgs/msg/VisionClass"]
    classes = [vision_class(class_id=i, class_name=name) for i, name in enumerate(label_set.class_names)]
    return _serialise(LABEL_INFO, stamp_ns, frame_id, class_map=classes, threshold=0.0)


def serialise_class_statistics(labels: np.ndarray, confidence: np.ndarray, stamp_ns: int, frame_id: str) -> bytes:
    """An sdcpc_ros/ClassStatistics of a mask and its confidence, both (H, W) uint8, as CDR."""
    numbers = class_statistics(labels, confidence)
    kinds = {"class_ids": np.uint16, "pixel_share": np.float32, "mean_confidence": np.float32}
    columns = {name: np.array(numbers[name], kind) for name, kind in kinds.items()}
    return _serialise(CLASS_STATISTICS, stamp_ns, frame_id, **columns)


def decode_image(message: Any) -> np.ndarray:
    """A deserialised Image or CompressedImage as (H, W, 3) uint8 RGB. Raises BadImage when it cannot be one."""
    return to_rgb(message, MAX_PIXELS)


def image_encoding(message: Any) -> str:
    """The encoding of a deserialised Image, "jpeg" or "png" of a CompressedImage. BadImage when it is neither."""
    return image_format(message, MAX_PIXELS).encoding


def decode_labels(message: Any, reader: LabelReader | None = None) -> np.ndarray:
    """The class ids (H, W) uint8, 255 where there is none, of a deserialised Image or CompressedImage (PNG).

    "No label" is 255 in 8-bit encodings, 65535 in unsigned and -1 in signed 16-bit ones. Colours are read by the
    `reader`, which knows those of the classes. Raises BagError or BadImage.
    """
    reader = reader or LabelReader()
    try:
        if hasattr(message, "format"):
            return reader.from_file(np.asarray(message.data, np.uint8).tobytes())
        if message.encoding in _COLOUR_ENCODINGS and reader.colours:
            return reader.from_picture(decode_image(message))
        if message.encoding in LABEL_ENCODINGS:
            return reader.from_picture(label_ids(message, MAX_PIXELS))
    except BadLabels as error:
        raise BagError(f"a label image {error}") from error
    raise BagError(
        f"labels cannot be read from '{message.encoding}'; {', '.join(LABEL_ENCODINGS)} are allowed, and where the "
        f"label set is known {', '.join(_COLOUR_ENCODINGS)} in its colours"
    )
