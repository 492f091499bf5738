"""Write rosbag2 bags without ROS."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any, Literal

from rosbags.interfaces import Connection, Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys.store import Typestore

from sdcpc_ros.bags.errors import BagError
from sdcpc_ros.bags.messages import RawMessage, standard_types
from sdcpc_ros.runtime.atomic_file import atomic_path

STORAGES = {"mcap": StoragePlugin.MCAP, "sqlite3": StoragePlugin.SQLITE3}
#: Metadata version 8: the newest that every distribution from Humble to Kilted reads.
_METADATA_VERSION: Literal[8] = 8
_NO_LIMIT = QosTime(9223372036, 854775807)  # as ROS writes it
_LATCHED = Qos(
    history=QosHistory.KEEP_LAST,
    depth=1,
    reliability=QosReliability.RELIABLE,
    durability=QosDurability.TRANSIENT_LOCAL,
    deadline=_NO_LIMIT,
    lifespan=_NO_LIMIT,
    liveliness=QosLiveliness.AUTOMATIC,
    liveliness_lease_duration=_NO_LIMIT,
    avoid_ros_namespace_conventions=False,
)


class BagWriter(AbstractContextManager["BagWriter"]):
    """A new bag, a folder as `ros2 bag record` makes it. It appears under its name complete or not at all.

        with BagWriter("street") as bag:
            bag.write(RawMessage("/camera/image_raw", IMAGE, time_ns, cdr))

    An existing bag of that name is replaced. `notes` go into the bag's metadata (`BagReader.custom_data`); `compressed`
    compresses an mcap file's chunks with zstd, which every mcap reader supports; `latched` topics are transient local
    when the bag is played. Raises BagError for an unknown storage, or if `path` exists and is no bag.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        storage: str = "mcap",
        notes: dict[str, str] | None = None,
        compressed: bool = False,
        latched: Collection[str] = (),
    ) -> None:
        self.path = Path(path)
        if storage not in STORAGES:
            raise BagError(f"storage is '{storage}'; {' and '.join(STORAGES)} are allowed")
        if compressed and storage != "mcap":
            raise BagError(f"only mcap packs its own chunks; the storage is '{storage}'")
        if self.path.exists() and not (self.path / "metadata.yaml").is_file():
            raise BagError(f"'{self.path}' is in the way of the bag to write there, and is no bag itself")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._files = ExitStack()
        temporary = self._files.enter_context(atomic_path(self.path, folder=True))
        self._writer = Writer(temporary, version=_METADATA_VERSION, storage_plugin=STORAGES[storage])
        for key, value in (notes or {}).items():
            self._writer.set_custom_data(key, value)
        if compressed:
            self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        self._latched = frozenset(latched)
        self._connections: dict[str, Connection] = {}
        self._writer.open()

    def write(self, message: RawMessage, typestore: Typestore | None = None) -> None:
        """Appends a message unchanged; `typestore` defines its type if it is not a standard one."""
        connection = self._connections.get(message.topic)
        if connection is None:
            connection = self._writer.add_connection(
                message.topic,
                message.type,
                typestore=typestore or standard_types(),
                offered_qos_profiles=[_LATCHED] if message.topic in self._latched else [],
            )
            self._connections[message.topic] = connection
        self._writer.write(connection, message.time_ns, message.data)

    def __exit__(self, *error: Any) -> None:
        if error[0] is None:
            with self._files:
                self._writer.close()
        else:
            self._writer.abort()
            self._files.__exit__(*error)
