"""Write one bag as a row of files, each complete before the next begins: what a crash leaves can be gone on with."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml
from rosbags.typesys.store import Typestore

from sdcpc_ros.bags.errors import StateError
from sdcpc_ros.bags.frame_join import RawMessage
from sdcpc_ros.bags.writer import BagWriter, WholeOrNothing, require_free_for_a_bag

_METADATA = "metadata.yaml"
_INFORMATION = "rosbag2_bagfile_information"


class SplitBagWriter(WholeOrNothing):
    """A new mcap bag with packed chunks, split into files. It appears under its name when it is complete.

        with SplitBagWriter("labelled") as bag:
            bag.write(message)
            state = bag.cut()  # from here on a later SplitBagWriter("labelled", earlier=state) goes on

    Until then its files gather in a hidden folder beside: each that was cut is a whole mcap file, with its index, that
    any reader opens. Only those that `earlier` lists count; whatever else a stopped writer has left there is removed.
    Raises BagError when something that is not a bag stands in the way, StateError when a file of `earlier` is gone.
    """

    def __init__(
        self, path: str | Path, *, latched: Collection[str] = (), earlier: dict[str, Any] | None = None
    ) -> None:
        self.path, self._latched = Path(path), frozenset(latched)
        require_free_for_a_bag(self.path)
        self._folder = parts_folder(self.path)
        self._sizes: dict[str, int] = {}
        self._information: dict[str, Any] | None = None
        if earlier is not None:
            self._sizes, self._information = dict(earlier["sizes"]), earlier["information"]
        self._folder.mkdir(parents=True, exist_ok=True)
        self._remove_what_does_not_count()
        self._part: BagWriter | None = None

    def write(self, message: RawMessage, typestore: Typestore | None = None) -> None:
        """Append a message as it is; `typestore` defines its type where that is not a standard one."""
        if self._part is None:
            self._part = self._new_part()
        self._part.write(message, typestore)

    def cut(self) -> dict[str, Any]:
        """Complete the file at hand; the next message begins another. Returns plain values: what is complete so far."""
        if self._part is not None:
            part, self._part = self._part, None
            part.close()
            (written,) = part.path.glob("*.mcap")
            file = self._folder / written.name
            information = yaml.safe_load((part.path / _METADATA).read_text())[_INFORMATION]
            os.replace(written, file)
            shutil.rmtree(part.path)
            with file.open("rb") as stream:
                os.fsync(stream.fileno())
            self._sizes[file.name] = file.stat().st_size
            self._information = information if self._information is None else _joined(self._information, information)
        return {"sizes": dict(self._sizes), "information": self._information}

    def close(self) -> None:
        """Complete the bag and put it in its place."""
        if self._part is None and self._information is None:
            self._part = self._new_part()  # a bag without messages is one too
        self.cut()
        (self._folder / _METADATA).write_text(yaml.safe_dump({_INFORMATION: self._information}, sort_keys=False))
        if self.path.exists():
            shutil.rmtree(self.path)
        self._folder.replace(self.path)

    def abort(self) -> None:
        """Leave what was cut; of a bag without any, no trace."""
        if self._part is not None:
            self._part.abort()
        if not self._sizes:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _new_part(self) -> BagWriter:
        name = f"{self.path.name}_{len(self._sizes)}"
        return BagWriter(self._folder / name, compressed=True, latched=self._latched)

    def _remove_what_does_not_count(self) -> None:
        for name, size in self._sizes.items():
            file = self._folder / name
            if not file.is_file() or file.stat().st_size != size:
                raise StateError(f"its file '{file}' is not there any more, or not as it was")
        for left in self._folder.iterdir():
            if left.is_dir():
                shutil.rmtree(left)
            elif left.name not in self._sizes:
                left.unlink()


def parts_folder(path: Path) -> Path:
    """Where the files of a bag gather until it is complete."""
    return path.with_name(f".{path.name}.parts")


def reopen(path: Path) -> None:
    """Let a bag that a SplitBagWriter has completed count as one that it is still at."""
    if path.is_dir() and not parts_folder(path).exists():
        path.replace(parts_folder(path))


def _joined(earlier: dict[str, Any], later: dict[str, Any]) -> dict[str, Any]:
    """The metadata of two rows of files as those of one."""
    spans = [_span_ns(information) for information in (earlier, later)]
    start_ns, end_ns = min(start for start, _ in spans), max(end for _, end in spans)
    topics = {topic["topic_metadata"]["name"]: topic for topic in earlier["topics_with_message_count"]}
    for topic in later["topics_with_message_count"]:
        known = topics.get(topic["topic_metadata"]["name"])
        count = topic["message_count"] + (0 if known is None else known["message_count"])
        topics[topic["topic_metadata"]["name"]] = {**topic, "message_count": count}
    return {
        **earlier,
        "relative_file_paths": [*earlier["relative_file_paths"], *later["relative_file_paths"]],
        "files": [*earlier["files"], *later["files"]],
        "starting_time": {"nanoseconds_since_epoch": start_ns},
        "duration": {"nanoseconds": end_ns - start_ns},
        "message_count": earlier["message_count"] + later["message_count"],
        "topics_with_message_count": list(topics.values()),
    }


def _span_ns(information: dict[str, Any]) -> tuple[int, int]:
    start_ns = information["starting_time"]["nanoseconds_since_epoch"]
    return start_ns, start_ns + information["duration"]["nanoseconds"]
