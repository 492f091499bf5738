"""Write rosbag2 bags without ROS."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Collection, Iterable
from pathlib import Path
from types import TracebackType
from typing import Literal, TypeVar

from rosbags.interfaces import Connection, Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys.store import Typestore

from sdcpc_ros.bags.errors import BagError
from sdcpc_ros.bags.messages import standard_types
from sdcpc_ros.bags.reader import RawMessage

STORAGES = {"mcap": StoragePlugin.MCAP, "sqlite3": StoragePlugin.SQLITE3}
#: Metadata version 8: the newest that every distribution from Humble to Kilted reads.
_METADATA_VERSION: Literal[8] = 8
_FOR_EVER = QosTime(9223372036, 854775807)  # as ROS writes "no limit"
_LATCHED = Qos(
    history=QosHistory.KEEP_LAST,
    depth=1,
    reliability=QosReliability.RELIABLE,
    durability=QosDurability.TRANSIENT_LOCAL,
    deadline=_FOR_EVER,
    lifespan=_FOR_EVER,
    liveliness=QosLiveliness.AUTOMATIC,
    liveliness_lease_duration=_FOR_EVER,
    avoid_ros_namespace_conventions=False,
)


def require_free_for_a_bag(path: Path) -> None:
    """Raises BagError when something that is not a bag stands in the way."""
    if path.exists() and not (path / "metadata.yaml").is_file():
        raise BagError(f"'{path}' is in the way of the bag to write there, and is no bag itself")


_Itself = TypeVar("_Itself", bound="WholeOrNothing")


class WholeOrNothing:
    """In a `with` block: closed when that ends well, aborted when it does not."""

    def close(self) -> None:
        raise NotImplementedError

    def abort(self) -> None:
        raise NotImplementedError

    def __enter__(self: _Itself) -> _Itself:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self.abort()


class BagWriter(WholeOrNothing):
    """A new bag, a folder as `ros2 bag record` makes it. It appears under its name when it is complete, or not at all.

        with BagWriter("street") as bag:
            bag.write(RawMessage("/camera/image_raw", IMAGE, time_ns, cdr))

    An existing bag of that name is replaced. `notes` go into the bag's metadata (`BagReader.custom_data`); `compressed`
    packs an mcap file's chunks with zstd, which every mcap reader unpacks; `latched` topics are offered to late
    subscribers when the bag is played. BagError for an unknown storage, or when something that is not a bag stands
    in the way.
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
        require_free_for_a_bag(self.path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # A bag's files carry the folder's name, so it is written in a folder beside, under its final name.
        self._workshop = Path(tempfile.mkdtemp(prefix=f".{self.path.name}.", dir=self.path.parent))
        self._writer = Writer(
            self._workshop / self.path.name, version=_METADATA_VERSION, storage_plugin=STORAGES[storage]
        )
        for key, value in (notes or {}).items():
            self._writer.set_custom_data(key, value)
        if compressed:
            self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        self._latched = frozenset(latched)
        self._connections: dict[str, Connection] = {}
        self._writer.open()

    def write(self, message: RawMessage, typestore: Typestore | None = None) -> None:
        """Append a message as it is; `typestore` defines its type where that is not a standard one."""
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

    def write_all(self, messages: Iterable[RawMessage], typestore: Typestore | None = None) -> None:
        for message in messages:
            self.write(message, typestore)

    def close(self) -> None:
        """Complete the bag and put it in its place."""
        self._writer.close()
        if self.path.exists():
            shutil.rmtree(self.path)
        (self._workshop / self.path.name).replace(self.path)
        self._workshop.rmdir()

    def abort(self) -> None:
        """Leave no trace."""
        self._writer.abort()
        shutil.rmtree(self._workshop, ignore_errors=True)
