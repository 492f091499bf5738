"""Plays a bag to a running segmentation node and records its answers, with the times of both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import time_ns

from sdcpc_ros.bags.errors import BagError, PlaybackError
from sdcpc_ros.bags.messages import DIAGNOSTICS, IMAGE, RawMessage, standard_types
from sdcpc_ros.bags.reader import BagReader
from sdcpc_ros.bags.writer import BagWriter
from sdcpc_ros.replay.live_timing import LiveTiming
from sdcpc_ros.replay.node_process import DIAGNOSTICS_TOPIC, ForeignNode, NodeProcess, NodeTopics
from sdcpc_ros.replay.player import BagPlayer, Playback, spinning_node, wait_until
from sdcpc_ros.replay.recorder import BagRecorder

_ERROR = 2  # diagnostic_msgs/DiagnosticStatus.ERROR
_START_TIMEOUT_S = 180.0  # to import torch, and load and warm up the model on a slow machine
_FOREIGN_TIMEOUT_S = 20.0  # to discover a node that runs already
_DRAIN_TIMEOUT_S = 20.0
_DIAGNOSTICS_TIMEOUT_S = 3.0  # they come once a second


@dataclass
class LiveRun:
    """What was played and answered, and the node's diagnostics."""

    topics: NodeTopics = field(default_factory=NodeTopics)
    timing: LiveTiming = field(default_factory=LiveTiming)
    bag_times_ns: dict[int, int] = field(default_factory=dict)  #: a frame's stamp -> its time in the bag
    node_diagnostics: dict[str, str] = field(default_factory=dict)  #: the camera's last values
    node_failure: str = ""  #: the node's message, if it cannot become ready

    def note_frame(self, message: RawMessage) -> None:
        """Called before a camera image is published. Raises BagError if its stamp does not increase."""
        stamp_ns = message.stamp_ns
        if self.bag_times_ns and stamp_ns <= next(reversed(self.bag_times_ns)):
            raise BagError(
                f"the stamps on {message.topic} do not increase (at {stamp_ns / 1e9:.3f} s), "
                "so masks could not be matched with their images"
            )
        self.bag_times_ns[stamp_ns] = message.time_ns
        self.timing.published_ns[stamp_ns] = time_ns()

    def note_answer(self, message: RawMessage) -> None:
        """Called for each message of the node."""
        if message.topic == self.topics.label:
            self.timing.arrived_ns[message.stamp_ns] = message.time_ns
        elif message.topic == DIAGNOSTICS_TOPIC:
            for status in standard_types().deserialize_cdr(message.data, DIAGNOSTICS).status:  # type: ignore[attr-defined]
                if status.hardware_id == self.topics.camera and status.name.startswith(f"{self.topics.reported_as}:"):
                    self.node_diagnostics = {pair.key: pair.value for pair in status.values}
                elif status.name == f"{self.topics.reported_as}: model":
                    self.node_failure = status.message if status.level == _ERROR else ""


def run_live(
    bag: BagReader,
    camera: str,
    companions: Sequence[str],
    playback: Playback,
    node_process: NodeProcess | ForeignNode,
    recording: Path,
    *,
    topics: NodeTopics | None = None,
    on_ready: Callable[[], None] = lambda: None,
    on_progress: Callable[[LiveTiming], None] = lambda timing: None,
) -> LiveRun:
    """Waits for the node, plays the camera's topic and its companions, and records the answers into a new bag.

    `topics`: of the answers, if not those of the node that is started here. `on_ready` is called when playing starts,
    `on_progress` with every published frame. Raises PlaybackError if the node ends, does not become ready or does not
    answer; BagError for a fault of the bag.
    """
    live = LiveRun(topics or NodeTopics())
    timeout_s = _FOREIGN_TIMEOUT_S if isinstance(node_process, ForeignNode) else _START_TIMEOUT_S
    outputs = (live.topics.label, live.topics.confidence)
    with BagWriter(recording) as writer, spinning_node("sdcpc_player") as node:
        recorded = {**dict.fromkeys(outputs, IMAGE), DIAGNOSTICS_TOPIC: DIAGNOSTICS}
        recorder = BagRecorder(node, writer, recorded, live.note_answer)
        player = BagPlayer(node, bag, (camera, *companions), playback)

        def keep_waiting() -> bool:
            return node_process.is_running() and not live.node_failure

        ready = wait_until(lambda: node.count_publishers(live.topics.label) > 0, timeout_s, keep_waiting)
        ready = ready and player.wait_for_subscribers([camera], timeout_s, keep_waiting)
        if not ready and keep_waiting():
            raise PlaybackError(
                f"no node publishes {live.topics.label} and listens to {camera} after {timeout_s:.0f} s"
            )
        node_process.require_running()
        if live.node_failure:
            raise PlaybackError(f"the node {live.node_failure}")
        # The node's publishers find our subscriptions in the order of their making, that of reports last; a mask that
        # is published before is lost.
        wait_until(lambda: recorder.received[DIAGNOSTICS_TOPIC] > 0, _DIAGNOSTICS_TIMEOUT_S, keep_waiting)
        on_ready()

        def on_publish(message: RawMessage) -> None:
            if message.topic == camera:
                live.note_frame(message)
                on_progress(live.timing)

        player.play(on_publish, node_process.is_running)
        node_process.require_running()
        if not live.bag_times_ns:
            raise BagError(f"what was to be played of bag '{bag.path}' holds no image on {camera}")
        _drain(player, recorder, outputs, next(reversed(live.bag_times_ns)))
        on_progress(live.timing)
    if not live.timing.arrived_ns:
        raise PlaybackError(f"the node answered none of the {len(live.bag_times_ns)} images")
    return live


def _drain(player: BagPlayer, recorder: BagRecorder, outputs: Sequence[str], last_stamp_ns: int) -> None:
    """Waits for the mask of the last frame, which is never dropped, and then for diagnostics that include it."""

    def answered(topic: str) -> bool:
        return topic in recorder.last and recorder.last[topic].stamp_ns == last_stamp_ns

    player.linger(lambda: all(map(answered, outputs)), _DRAIN_TIMEOUT_S)
    reports = recorder.received[DIAGNOSTICS_TOPIC]
    player.linger(lambda: recorder.received[DIAGNOSTICS_TOPIC] > reports, _DIAGNOSTICS_TIMEOUT_S)
