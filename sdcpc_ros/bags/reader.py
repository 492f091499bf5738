"""Read any rosbag2 recording (mcap or sqlite3, a folder or a single file) without ROS.

    with BagReader("drive.mcap") as bag:
        camera = bag.camera_topic()
        for frame in bag.frames(camera, bag.ground_truth_topic(camera)):
            picture = frame.image()

Messages are read one by one, so memory does not grow with the bag. Any fault of a bag is raised as BagError.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from heapq import merge
from pathlib import Path
from textwrap import shorten
from typing import Any, TypeVar

import numpy as np
import yaml
from rosbags.highlevel import AnyReader
from rosbags.interfaces import Connection, ConnectionExtRosbag2, QosDurability
from rosbags.typesys.store import Typestore

from sdcpc_ros.bags.errors import BagError
from sdcpc_ros.bags.messages import (
    CAMERA_INFO,
    COMPRESSED_IMAGE,
    IMAGE,
    RawMessage,
    decode_image,
    decode_labels,
    standard_types,
)
from sdcpc_ros.bags.storage_files import cut_short_file, storage_of
from sdcpc_ros.images.decoding import BadImage
from sdcpc_ros.images.label_pictures import LabelReader

#: Image topics with one of these in their names are not cameras: masks, depth, this package's outputs.
_NOT_A_CAMERA = (
    *("ground_truth", "label", "mask", "confidence", "overlay", "depth", "disparity"),
    *("semantic_segmentation", "instance_segmentation"),
)
#: Two messages of one stamp are joined if they were recorded no further apart than this.
_JOIN_WINDOW_NS = 2_000_000_000
#: Encodings of message definitions in MCAP files that are not of ROS 2; rosbags raises KeyError for them.
_FOREIGN_SCHEMAS = ("jsonschema", "protobuf", "flatbuffer", "ros1msg")

_Decoded = TypeVar("_Decoded")


@dataclass(frozen=True)
class Topic:
    """A topic of a bag."""

    name: str
    type: str  #: as in `sensor_msgs/msg/Image`
    message_count: int
    latched: bool  #: durability transient local: late subscribers get the last message


@dataclass(frozen=True)
class BagFrame:
    """A camera image and the other messages of the same stamp. They are decoded on request."""

    bag: BagReader
    camera: RawMessage
    companions: dict[str, RawMessage] = field(default_factory=dict)  #: by topic

    @property
    def stamp_ns(self) -> int:
        return self.camera.stamp_ns

    def image(self) -> np.ndarray:
        """(H, W, 3) uint8 RGB."""
        return self.bag.decode(self.camera, decode_image)

    def labels(self, topic: str, reader: LabelReader | None = None) -> np.ndarray | None:
        """(H, W) uint8 class ids of a companion topic, 255 for no label; None if this frame has no such message.

        `reader` knows the classes' colours, for label images that hold colours.
        """
        companion = self.companions.get(topic)
        return None if companion is None else self.bag.decode(companion, partial(decode_labels, reader=reader))


class BagReader(AbstractContextManager["BagReader"]):
    """An open bag. Every method may raise BagError, which names the bag and the fault."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        with self._explained("cannot be read"):
            self._reader = AnyReader(storage_of(self.path), default_typestore=standard_types())
            self._reader.open()
            self.topics: dict[str, Topic] = {
                name: Topic(name, info.msgtype or "several message types", info.msgcount, _is_latched(info.connections))
                for name, info in self._reader.topics.items()
            }
            #: The time of the first message; 0 in an empty bag.
            self.start_ns: int = self._reader.start_time if self._reader.message_count else 0
            #: From the first message to the last; rosbags counts the last nanosecond as well.
            self.duration_s: float = max(0, self._reader.duration - 1) / 1e9

    def close(self) -> None:
        self._reader.close()

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def typestore(self) -> Typestore:
        """The message types as the bag defines them."""
        return self._reader.typestore

    def rate_hz(self, topic: str) -> float:
        """The mean rate of a topic's messages; 0 if it is not known."""
        return (self.topics[topic].message_count - 1) / self.duration_s if self.duration_s > 0 else 0.0

    @property
    def custom_data(self) -> dict[str, str]:
        """The notes of the writer in the bag's metadata; empty for a single storage file."""
        if not (self.path / "metadata.yaml").is_file():
            return {}
        with self._explained("has unreadable metadata"):
            metadata = yaml.safe_load((self.path / "metadata.yaml").read_text())
            return dict(metadata["rosbag2_bagfile_information"].get("custom_data") or {})

    def camera_topic(self, wanted: str | None = None) -> str:
        """The topic of the camera's images: `wanted`, or the only one.

        Raises BagError, with a list of topics, if it is missing, or if there are several.
        """
        images = {name for name, topic in self.topics.items() if topic.type in (IMAGE, COMPRESSED_IMAGE)}
        if wanted is not None:
            if wanted in images:
                return wanted
            raise BagError(f"bag '{self.path}' has no image topic '{wanted}'; {self._listing(images or self.topics)}")
        cameras = {
            name
            for name in images
            if self.topics[name].message_count and not any(word in name.lower() for word in _NOT_A_CAMERA)
        }
        # image_transport publishes an image as X and as X/compressed, which are one camera.
        cameras -= {name for name in cameras if name.rpartition("/")[0] in cameras}
        if len(cameras) == 1:
            return cameras.pop()
        if cameras:
            raise BagError(
                f"bag '{self.path}' has several camera topics, so one has to be chosen: {', '.join(sorted(cameras))}"
            )
        raise BagError(f"bag '{self.path}' has no camera images; {self._listing(self.topics)}")

    def ground_truth_topic(self, camera: str) -> str | None:
        """The image topic named "ground_truth", preferably in the camera's namespace; None if there is none."""
        candidates = sorted(
            name for name, topic in self.topics.items() if topic.type == IMAGE and "ground_truth" in name.split("/")
        )
        beside = [name for name in candidates if name.startswith(_namespace(camera) + "/")]
        return next(iter(beside or candidates), None)

    def camera_info_topic(self, camera: str) -> str | None:
        """The CameraInfo topic in the camera's namespace, None without."""
        name = f"{_namespace(camera)}/camera_info"
        return name if name in self.topics and self.topics[name].type == CAMERA_INFO else None

    def require_topics(self, topics: Iterable[str]) -> None:
        """Raises BagError, with a list of topics, if the bag lacks one of these."""
        missing = [topic for topic in topics if topic not in self.topics]
        if missing:
            raise BagError(f"bag '{self.path}' has no topic {', '.join(missing)}; {self._listing(self.topics)}")

    def messages(self, *topics: str, start_s: float = 0.0, duration_s: float | None = None) -> Iterator[RawMessage]:
        """The messages of these topics (of all, if none is named) in the order of the bag's time.

        `start_s` and `duration_s` select a part, in seconds from the bag's start. Messages of one time in several files
        without metadata come in the order of the files.
        """
        self.require_topics(topics)
        connections = [c for c in self._reader.connections if not topics or c.topic in topics]
        start_ns = self.start_ns + int(start_s * 1e9)
        stop_ns = None if duration_s is None else start_ns + int(duration_s * 1e9)
        time_ns = start_ns
        with self._explained(lambda: f"cannot be read beyond {(time_ns - self.start_ns) / 1e9:.3f} s"):
            files = [(file, [c for c in connections if c in file.connections]) for file in self._reader.readers]
            # Metadata may name a time after the first message, which is then no limit for a whole bag.
            streams = [file.messages(own, start_ns if start_s else None, stop_ns) for file, own in files if own]
            for connection, time_ns, data in merge(*streams, key=lambda message: message[1]):
                yield RawMessage(connection.topic, connection.msgtype, time_ns, bytes(data))

    def deserialise(self, message: RawMessage) -> Any:
        """A message with the fields that its type defines."""
        with self._explained(f"has a damaged message on {message.topic} at {self.offset_s(message):.3f} s"):
            # A bag may define only some of its types.
            defines = message.type in self.typestore.fielddefs
            return (self.typestore if defines else standard_types()).deserialize_cdr(message.data, message.type)

    def decode(self, message: RawMessage, decoder: Callable[[Any], _Decoded]) -> _Decoded:
        """Deserialises a message and decodes it, with `decode_image` for example; a BagError names its position."""
        deserialised = self.deserialise(message)
        try:
            return decoder(deserialised)
        except (BagError, BadImage, AttributeError, TypeError) as error:  # the last two: a type with other fields
            raise BagError(f"bag '{self.path}', {message.topic} at {self.offset_s(message):.3f} s: {error}") from None

    def offset_s(self, message: RawMessage) -> float:
        """When a message was recorded, in seconds from the bag's start."""
        return (message.time_ns - self.start_ns) / 1e9

    def frames(
        self, camera: str, *companions: str | None, start_s: float = 0.0, duration_s: float | None = None
    ) -> Iterator[BagFrame]:
        """The camera's images in order, each with the companion topics' messages of its stamp (None is ignored).

        An image message too short to hold a stamp comes in its place too, and fails when it is decoded.
        """
        wanted = {topic for topic in companions if topic is not None}
        messages = self.messages(camera, *wanted, start_s=start_s, duration_s=duration_s)
        for image, found in join_by_stamp(messages, camera, wanted):
            yield BagFrame(self, image, found)

    def _listing(self, names: Iterable[str]) -> str:
        listed = ", ".join(f"{name} ({self.topics[name].type})" for name in sorted(names))
        return f"it has {listed}" if listed else "it is empty"

    @contextmanager
    def _explained(self, what: str | Callable[[], str]) -> Iterator[None]:
        """Turns any exception of the reading library into a BagError."""
        try:
            yield
        except BagError:
            raise
        except Exception as error:  # rosbags lets through struct.error, AssertionError, KeyError, apsw.Error, ...
            cut_short = cut_short_file(self.path)
            if cut_short is not None:
                reason = (
                    f"{cut_short.name} is cut short, as when a recording is not closed "
                    f"(`mcap recover {cut_short.name} -o recovered.mcap` saves what is there)"
                )
            elif "malformed" in str(error):  # SQLite's word
                reason = (
                    "its database is damaged or cut short, as when a recording is not closed "
                    "(`sqlite3 FILE.db3 .recover | sqlite3 recovered.db3` saves what is there)"
                )
            elif isinstance(error, KeyError) and error.args and error.args[0] in _FOREIGN_SCHEMAS:
                reason = (
                    f"it holds messages described by '{error.args[0]}', not by ROS "
                    "(`mcap filter` leaves out their topics)"
                )
            else:
                # rosbags quotes whole message definitions.
                reason = shorten(str(error), 300, placeholder=" ...").rstrip(".") or type(error).__name__
            raise BagError(f"bag '{self.path}' {what() if callable(what) else what}: {reason}") from error


def join_by_stamp(
    messages: Iterable[RawMessage], camera: str, companions: Collection[str]
) -> Iterator[tuple[RawMessage, dict[str, RawMessage]]]:
    """Yields each message of the topic `camera` in order, with the messages of `companions` by topic.

    An image waits until all companions have come, or for two seconds of the bag's time. Companions may come first.
    """
    # Both are ordered dicts by stamp: images that wait, and companions whose image has not come.
    waiting: dict[int, tuple[RawMessage, dict[str, RawMessage]]] = {}
    early: dict[int, dict[str, RawMessage]] = {}
    for message in messages:
        if message.topic == camera:
            stamp_ns = message.stamp_or_time_ns
            if stamp_ns in waiting:
                yield waiting.pop(stamp_ns)
            waiting[stamp_ns] = message, early.pop(stamp_ns, {})
        else:
            try:
                stamp_ns = message.stamp_ns
            except BagError:
                continue
            if stamp_ns in waiting:
                waiting[stamp_ns][1].setdefault(message.topic, message)
            else:  # moved to the end: the newest goes out of reach last
                early[stamp_ns] = {**early.pop(stamp_ns, {}), message.topic: message}
        horizon_ns = message.time_ns - _JOIN_WINDOW_NS
        while early and max(each.time_ns for each in next(iter(early.values())).values()) < horizon_ns:
            del early[next(iter(early))]
        while waiting:
            first_ns, (image, found) = next(iter(waiting.items()))
            if len(found) < len(companions) and image.time_ns >= horizon_ns:
                break
            yield waiting.pop(first_ns)
    yield from waiting.values()


def _is_latched(connections: list[Connection]) -> bool:
    return any(
        profile.durability is QosDurability.TRANSIENT_LOCAL
        for connection in connections
        if isinstance(connection.ext, ConnectionExtRosbag2)
        for profile in connection.ext.offered_qos_profiles
    )


def _namespace(camera: str) -> str:
    """/front/image_raw and /front/image_raw/compressed -> /front."""
    return camera.removesuffix("/compressed").rpartition("/")[0]
