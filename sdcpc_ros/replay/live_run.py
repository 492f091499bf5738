"""Plays a bag over DDS to the segmentation node, which is started here or runs already, and records its answers.

rclpy is imported when a run begins: it is missing without ROS, and reads the environment of the run.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from time import time_ns
from typing import Any

import numpy as np

from sdcpc_ros.bags.errors import BagError, PlaybackError
from sdcpc_ros.bags.messages import COMPRESSED_IMAGE, DIAGNOSTICS, IMAGE, RawMessage, standard_types
from sdcpc_ros.bags.reader import BagReader
from sdcpc_ros.bags.writer import BagWriter
from sdcpc_ros.replay.bag_source import BagSource
from sdcpc_ros.replay.node_process import (
    DIAGNOSTICS_TOPIC,
    NODE_MODULE,
    NodeProcess,
    NodeTopics,
    node_command,
    ros_environment,
    write_parameters,
)
from sdcpc_ros.runtime.environment import environment

_ERROR = 2  # diagnostic_msgs/DiagnosticStatus.ERROR
_START_TIMEOUT_S = 180.0  # to import torch, and load and warm up the model on a slow machine
RUNNING_TIMEOUT_S = 20.0  # to discover a node that runs already
_DRAIN_TIMEOUT_S = 20.0
_DIAGNOSTICS_TIMEOUT_S = 3.0  # they come once a second


@dataclass(frozen=True)
class LivePlan:
    """How a bag is played, and to which node. Raises BagError for a bad rate."""

    rate: float = 1.0
    running: NodeTopics | None = None  #: of a node that runs in this shell's ROS domain; None: start one

    def __post_init__(self) -> None:
        if not 0 < self.rate < float("inf"):
            raise BagError(f"the playing rate is {self.rate}; a positive number is needed")


@dataclass
class LiveRun:
    """The times of the frames and of their masks, by the frames' stamps, and the node's diagnostics."""

    topics: NodeTopics
    bag_times_ns: dict[int, int] = field(default_factory=dict)  #: when each frame was recorded
    published_ns: dict[int, int] = field(default_factory=dict)  #: when it was published, on the system clock
    arrived_ns: dict[int, int] = field(default_factory=dict)  #: when its mask arrived, on the system clock
    newest_ns: dict[str, int] = field(default_factory=dict)  #: the stamp of the last message, by topic
    reports: int = 0  #: how often the node reported its diagnostics
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
        self.published_ns[stamp_ns] = time_ns()

    def note_answer(self, message: RawMessage) -> None:
        """Called for each message of the node."""
        self.newest_ns[message.topic] = message.stamp_ns
        if message.topic == self.topics.label:
            self.arrived_ns[message.stamp_ns] = message.time_ns
        elif message.topic == DIAGNOSTICS_TOPIC:
            self.reports += 1
            for status in standard_types().deserialize_cdr(message.data, DIAGNOSTICS).status:  # type: ignore[attr-defined]
                if status.hardware_id == self.topics.camera and status.name.startswith(f"{self.topics.reported_as}:"):
                    self.node_diagnostics = {pair.key: pair.value for pair in status.values}
                elif status.name == f"{self.topics.reported_as}: model":
                    self.node_failure = status.message if status.level == _ERROR else ""

    def latencies_ms(self) -> dict[int, float]:
        """From a frame's publication to the arrival of its mask, by stamp, of the frames that got one."""
        return {
            stamp: (self.arrived_ns[stamp] - sent_ns) / 1e6
            for stamp, sent_ns in self.published_ns.items()
            if stamp in self.arrived_ns
        }

    def summary(self) -> dict[str, Any]:
        """For JSON. Latency is from publication to the arrival of the mask, jitter its change from mask to mask."""
        latencies_ms = self.latencies_ms()
        return {
            "frames_published": len(self.published_ns),
            "frames_labelled": len(latencies_ms),
            "frames_dropped": len(self.published_ns) - len(latencies_ms),
            "input_rate_hz": _rate_hz(list(self.published_ns.values())),
            "frame_rate_hz": _rate_hz([self.arrived_ns[stamp] for stamp in latencies_ms]),
            "latency_ms": _percentiles(np.array(list(latencies_ms.values()))),
            "jitter_ms": _percentiles(np.abs(np.diff(list(latencies_ms.values())))),
        }


def require_ros(hint: str) -> None:
    """Raises PlaybackError, with a hint, where there is no ROS."""
    if find_spec("rclpy") is None:
        raise PlaybackError(f"ROS 2 is not here (no rclpy): source a ROS installation{hint}")


@contextmanager
def live_run(
    source: BagSource,
    folder: Path,
    plan: LivePlan,
    parameters: Mapping[str, Any],
    *,
    on_start: Callable[[str], None] = lambda node: None,
    on_progress: Callable[[LiveRun], None] = lambda run: None,
) -> Iterator[tuple[LiveRun, BagReader]]:
    """Plays a camera's topic and its CameraInfo, and yields the run and the recording of the answers.

    A node that is started here gets `parameters`, see `write_parameters`; its log stays in `folder`. The recording
    is deleted afterwards. `on_start` gets a description of the node before it is started; `on_progress` is called when
    playing starts, and with every published frame. Raises PlaybackError if the node ends, does not become ready or does
    not answer; BagError for a fault of the bag.
    """
    recording, log = folder / ".live_recording", folder / "node.log"
    try:
        if plan.running is not None:
            run = _play(source, plan, None, recording, on_progress)
        else:
            with environment(ros_environment(folder / "ros_logs")):
                compressed = source.bag.topics[source.camera].type == COMPRESSED_IMAGE
                file = folder / "node_parameters.yaml"
                write_parameters(file, image_topic=source.camera, compressed=compressed, **parameters)
                on_start(f"python -m {NODE_MODULE}, ROS domain {os.environ['ROS_DOMAIN_ID']}")
                with NodeProcess(node_command(file), log) as process:
                    try:
                        run = _play(source, plan, process, recording, on_progress)
                    except PlaybackError as error:
                        raise PlaybackError(f"{error} (the node's log: {log})") from None
        with BagReader(recording) as recorded:
            yield run, recorded
    finally:
        shutil.rmtree(recording, ignore_errors=True)


def _play(
    source: BagSource,
    plan: LivePlan,
    process: NodeProcess | None,
    recording: Path,
    on_progress: Callable[[LiveRun], None],
) -> LiveRun:
    from sdcpc_ros.replay.player import BagPlayer, record, spinning_node, wait_until

    bag, camera, topics = source.bag, source.camera, plan.running or NodeTopics()
    run, info = LiveRun(topics), bag.camera_info_topic(camera)
    timeout_s = RUNNING_TIMEOUT_S if process is None else _START_TIMEOUT_S

    def check_process() -> None:
        if process is not None:
            process.require_running()

    def check_node() -> None:
        check_process()
        if run.node_failure:
            raise PlaybackError(f"the node {run.node_failure}")

    def on_publish(message: RawMessage) -> None:
        if message.topic == camera:
            run.note_frame(message)
            on_progress(run)

    with BagWriter(recording) as writer, spinning_node("sdcpc_player") as node:
        recorded = {topics.label: IMAGE, topics.confidence: IMAGE, DIAGNOSTICS_TOPIC: DIAGNOSTICS}
        record(node, writer, recorded, run.note_answer)
        played = [camera, *([] if info is None else [info])]
        player = BagPlayer(node, bag, played, rate=plan.rate, part=source.settings)
        if not (
            wait_until(lambda: node.count_publishers(topics.label) > 0, timeout_s, check_node)
            and player.wait_for_subscribers([camera], timeout_s, check_node)
        ):
            raise PlaybackError(f"no node publishes {topics.label} and listens to {camera} after {timeout_s:.0f} s")
        # The node's publishers find our subscriptions in the order of their making, that of reports last; a mask that
        # is published before is lost.
        wait_until(lambda: run.reports > 0, _DIAGNOSTICS_TIMEOUT_S, check_node)
        on_progress(run)
        player.play(on_publish, check_process)
        check_process()
        if not run.bag_times_ns:
            raise BagError(f"the part to play of bag '{bag.path}' holds no image on {camera}")
        # The last frame is never dropped. Its answers come, and then diagnostics that include it.
        last_ns, outputs = next(reversed(run.bag_times_ns)), (topics.label, topics.confidence)
        player.linger(lambda: all(run.newest_ns.get(topic) == last_ns for topic in outputs), _DRAIN_TIMEOUT_S)
        reports = run.reports
        player.linger(lambda: run.reports > reports, _DIAGNOSTICS_TIMEOUT_S)
        on_progress(run)
    if not run.arrived_ns:
        raise PlaybackError(f"the node answered none of the {len(run.bag_times_ns)} images")
    return run


def _rate_hz(times_ns: list[int]) -> float | None:
    span_ns = max(times_ns) - min(times_ns) if times_ns else 0
    return (len(times_ns) - 1) * 1e9 / span_ns if span_ns else None


def _percentiles(values: np.ndarray) -> dict[str, float | None]:
    percentiles = np.percentile(values, (50, 95, 100)).tolist() if values.size else [None] * 3
    return dict(zip(("p50", "p95", "max"), percentiles))
