"""The live part of an evaluation: plays the bag over DDS to the node, which is started here or runs already."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from sdcpc_ros.bags.errors import BagError, PlaybackError
from sdcpc_ros.bags.messages import COMPRESSED_IMAGE
from sdcpc_ros.bags.reader import BagReader
from sdcpc_ros.model_files.checkpoint import load_checkpoint
from sdcpc_ros.replay.bag_evaluation import BagSettings, ModelChoice
from sdcpc_ros.replay.live_comparison import LiveComparison
from sdcpc_ros.replay.live_timing import LiveTiming
from sdcpc_ros.replay.node_process import (
    ForeignNode,
    NodeProcess,
    NodeTopics,
    node_command,
    ros_environment,
    write_parameters,
)

if TYPE_CHECKING:
    from sdcpc_ros.replay.live_run import LiveRun


@dataclass(frozen=True)
class LivePlan:
    """How the bag is played, and to which node. Raises BagError for a bad rate or label topic."""

    rate: float = 1.0
    label_topic: str | None = None  #: of a node that runs in this shell's ROS domain; None: start one

    def __post_init__(self) -> None:
        if not 0 < self.rate < float("inf"):
            raise BagError(f"the playing rate is {self.rate}; a positive number is needed")
        if self.label_topic is not None:
            NodeTopics.of(self.label_topic)

    @property
    def topics(self) -> NodeTopics:
        return NodeTopics() if self.label_topic is None else NodeTopics.of(self.label_topic)

    def options(self) -> list[str]:
        """The options of the command line."""
        rate = [] if self.rate == 1 else ["--live-rate", str(self.rate)]
        return rate + ([] if self.label_topic is None else ["--live-node", self.label_topic])


@contextmanager
def live_comparison(
    bag_path: Path,
    folder: Path,
    model: ModelChoice,
    settings: BagSettings,
    plan: LivePlan,
    on_live: Callable[[LiveTiming | None], None],
) -> Iterator[LiveComparison]:
    """Plays the bag, and yields a comparison for its offline frames; the node's log stays in `folder`.

    `on_live` gets None when playing starts, then the times so far with every frame.
    Raises PlaybackError if there is no ROS, or the node fails; BagError for a fault of the bag.
    """
    if find_spec("rclpy") is None:
        raise PlaybackError("ROS 2 is not here (no rclpy): source a ROS installation for --live")
    recording = folder / ".live_recording"
    try:
        with BagReader(bag_path) as bag:
            run = _play(bag, folder, model, settings, plan, recording, on_live)
        config = load_checkpoint(model.path).config
        with BagReader(recording) as recorded:
            label_topic = plan.topics.label
            yield LiveComparison(
                recorded,
                label_topic,
                run.timing,
                run.node_diagnostics,
                config.reference_offsets,
                settings.max_gap_s,
                config.recurrent,
            )
    finally:
        shutil.rmtree(recording, ignore_errors=True)


def _play(
    bag: BagReader,
    folder: Path,
    model: ModelChoice,
    settings: BagSettings,
    plan: LivePlan,
    recording: Path,
    on_live: Callable[[LiveTiming | None], None],
) -> LiveRun:
    camera = bag.camera_topic(settings.camera)
    companion = bag.camera_info_topic(camera)
    with ExitStack() as stack:
        node: NodeProcess | ForeignNode = ForeignNode()
        if plan.label_topic is None:
            stack.enter_context(_environment(ros_environment(folder / "ros_logs")))
            parameters = folder / "node_parameters.yaml"
            write_parameters(
                parameters,
                model=model.path,
                image_topic=camera,
                compressed=bag.topics[camera].type == COMPRESSED_IMAGE,
                device=model.device,
                backend=model.backend,
                precision=model.precision,
                input_size=model.input_size,
                max_gap_s=settings.max_gap_s,
            )
            node = stack.enter_context(NodeProcess(node_command(parameters), folder / "node.log"))
        # Imported here: rclpy is missing without ROS, and reads the environment that was just set.
        from sdcpc_ros.replay.live_run import run_live
        from sdcpc_ros.replay.player import Playback

        return run_live(
            bag,
            camera,
            [] if companion is None else [companion],
            Playback(rate=plan.rate, start_s=settings.start_s, duration_s=settings.duration_s),
            node,
            recording,
            topics=plan.topics,
            on_ready=lambda: on_live(None),
            on_progress=on_live,
        )


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Sets variables for the block and its child processes. None of them may be set outside."""
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            del os.environ[name]
