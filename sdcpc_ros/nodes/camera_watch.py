"""Console warnings of a camera that gets no images, or more than the network can process. No ROS in here.

/diagnostics reports the same, but new users look at the console first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from sdcpc_ros.nodes.camera_stream import StreamStatus

#: The node warns of an active camera without an image for this long.
SILENCE_S = 5.0
#: Drops are counted over this time; from this share of the images on the node warns.
OVERLOAD_WINDOW_S = 10.0
OVERLOAD_SHARE = 0.1
_AGAIN_AFTER_S = 60.0
_LISTED_TOPICS = 8
#: Slowest stage -> how to make it faster.
_HELP = {
    "network": "A smaller input_height and input_width, another backend or a slower camera helps",
    "decode": "A smaller image or transport: raw helps",
    "publish": "A smaller image, output_size: network or fewer subscribers help",
}


class CameraWatch:
    """Decides when to warn of one camera; its methods are called about once a second."""

    def __init__(self) -> None:
        self._due_s: dict[str, float] = {}  # when each warning may come again
        self._window: tuple[float, Counter[str]] | None = None  # when it began, and the counts then

    def silence_s(self, status: StreamStatus, now_s: float) -> float | None:
        """Seconds without an image, if a warning is due: after five seconds, then once a minute."""
        silent_s = status.silent_s(now_s)
        if silent_s is None or silent_s < SILENCE_S:
            self._due_s.pop("silence", None)
            return None
        return silent_s if self._is_due("silence", now_s) else None

    def overload(self, status: StreamStatus, now_s: float) -> str | None:
        """A sentence on frames that were dropped for newer ones, and why; at most once a minute."""
        if status.active_since_s is None or self._window is None:
            self._window = None if status.active_since_s is None else (now_s, status.counts)
            return None
        begun_s, before = self._window
        elapsed_s = now_s - begun_s
        if elapsed_s < OVERLOAD_WINDOW_S:
            return None
        self._window = now_s, status.counts
        new = status.counts - before
        received, dropped = new["received"], new["dropped: newer"]
        if not dropped or dropped < received * OVERLOAD_SHARE or not self._is_due("overload", now_s):
            return None
        return (
            f"{dropped} of {received} images in {elapsed_s:.0f} s were dropped for newer ones: "
            f"images arrive at {received / elapsed_s:.1f} Hz, masks leave at {new['processed'] / elapsed_s:.1f} Hz; "
            f"{_slowest(status.stage_ms)}"
        )

    def _is_due(self, warning: str, now_s: float) -> bool:
        if now_s < self._due_s.get(warning, now_s):
            return False
        self._due_s[warning] = now_s + _AGAIN_AFTER_S
        return True


def silence_sentence(
    camera: str,
    topic: str,
    type_names: Sequence[str],
    published: Mapping[str, Sequence[str]],
    node_name: str,
    silent_s: float,
) -> str:
    """Why no image arrives at a camera, according to the ROS graph.

    topic: its full name, after remapping. type_names: the types that the camera accepts, such as sensor_msgs/msg/Image.
    published: topic -> the types of its publishers. node_name: topics of this node are not suggested.
    """
    start = f"camera '{camera}': no image for {silent_s:.0f} s on {topic} ({' or '.join(type_names)}): "
    here = published.get(topic, ())
    if set(type_names) & set(here):
        return start + "it is published, but nothing arrives; run `sdcpc doctor` to find the cause"
    if here:
        transport = "compressed" if any(name.endswith("CompressedImage") for name in here) else "raw"
        fix = f"; set {camera}.transport to {transport}" if any("Image" in name for name in here) else ""
        return f"{start}it is published as {', '.join(here)}{fix}"
    others = sorted(
        other
        for other, names in published.items()
        if set(type_names) & set(names) and not other.startswith(f"{node_name}/")
    )
    return f"{start}it has no publisher. {_listed(others)}"


def _listed(topics: Sequence[str]) -> str:
    if not topics:
        return "No other topic has this type: is the camera running, on the same ROS_DOMAIN_ID?"
    more = f" and {len(topics) - _LISTED_TOPICS} more" if len(topics) > _LISTED_TOPICS else ""
    return f"Topics of this type: {', '.join(topics[:_LISTED_TOPICS])}{more}"


def _slowest(stage_ms: Mapping[str, tuple[float, float]]) -> str:
    """The slowest stage, and how to make it faster."""
    stages = {name: p50 for name, (p50, _) in stage_ms.items() if name != "total"}
    if not stages:
        return "no frame is finished yet"
    name = max(stages, key=lambda stage: stages[stage])
    return f"the slowest stage is {name}, {stages[name]:.0f} ms. {_HELP.get(name, _HELP['network'])}"
