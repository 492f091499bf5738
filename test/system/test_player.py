"""Bags over real DDS: what is played arrives, in order, at its time, with /clock; what is recorded is what was sent."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not here")

from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image

from sdcpc_ros.bags.errors import PlaybackError
from sdcpc_ros.bags.messages import IMAGE, RawMessage, serialise_image
from sdcpc_ros.bags.reader import BagReader
from sdcpc_ros.bags.writer import BagWriter
from sdcpc_ros.model_files.checkpoint import load_checkpoint
from sdcpc_ros.replay.bag_evaluation import Model, evaluate_bag
from sdcpc_ros.replay.bag_source import BagSettings
from sdcpc_ros.replay.image_bags import StreetBag, write_street_bag
from sdcpc_ros.replay.labelled_bag import labelled_bag_sink
from sdcpc_ros.replay.node_process import CLASS_STATISTICS_TOPIC, CONFIDENCE_TOPIC, LABEL_INFO_TOPIC, LABEL_TOPIC
from sdcpc_ros.replay.player import BagPlayer, message_class, playable_topics, record, spinning_node
from sdcpc_ros.streaming.segmenter import StreamingSegmenter

pytestmark = pytest.mark.usefixtures("ros_domain")

TOPIC = "/camera/image_raw"
START_NS = 1_700_000_000_000_000_000
FRAMES, PERIOD_NS = 8, 50_000_000
SETTLED_S = 120  # generous: the machine may be busy with other tests


@pytest.fixture
def drive(tmp_path: Path) -> Path:
    """Eight frames at 20 Hz; frame i is full of i."""
    with BagWriter(tmp_path / "drive") as bag:
        for index in range(FRAMES):
            time_ns = START_NS + index * PERIOD_NS
            pixels = np.full((24, 32, 3), index, np.uint8)
            bag.write(RawMessage(TOPIC, IMAGE, time_ns, serialise_image(pixels, "rgb8", time_ns, "optical")))
    return tmp_path / "drive"


class Listener:
    """What a subscriber of the images and of /clock sees, in order: ("image", stamp ns, value) and ("clock", ns)."""

    def __init__(self, node, reliability: ReliabilityPolicy) -> None:
        self.events: list[tuple] = []
        self.arrived_s: list[float] = []
        node.create_subscription(Image, TOPIC, self._on_image, QoSProfile(depth=20, reliability=reliability))
        node.create_subscription(Clock, "/clock", self._on_clock, 200)

    @property
    def images(self) -> list[tuple[int, int]]:
        return [event[1:] for event in self.events if event[0] == "image"]

    @property
    def clock(self) -> list[int]:
        return [event[1] for event in self.events if event[0] == "clock"]

    def _on_image(self, message: Image) -> None:
        self.arrived_s.append(time.monotonic())
        self.events.append(("image", _ns(message.header.stamp), message.data[0]))

    def _on_clock(self, message: Clock) -> None:
        self.events.append(("clock", _ns(message.clock)))


def _ns(stamp) -> int:
    return stamp.sec * 1_000_000_000 + stamp.nanosec


@contextmanager
def playing(bag: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """The player in a process of its own, waiting for the images to have a subscriber."""
    command = [sys.executable, "-m", "sdcpc_ros.replay.player", str(bag), "--topics", TOPIC, "--wait", "60", *arguments]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_until(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + SETTLED_S
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@pytest.mark.parametrize("reliability", [ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT])
def test_a_subscriber_in_another_process_sees_the_bag_with_its_clock(drive, reliability):
    with spinning_node("listener") as node:
        listener = Listener(node, reliability)
        with playing(drive) as player:
            assert player.wait(SETTLED_S) == 0
            assert wait_until(lambda: len(listener.images) == FRAMES)
    assert listener.images == [(START_NS + index * PERIOD_NS, index) for index in range(FRAMES)]
    assert listener.clock == sorted(listener.clock)
    assert listener.clock[0] >= START_NS and listener.clock[-1] == START_NS + (FRAMES - 1) * PERIOD_NS
    # Frames are played apart as they were recorded, however late the first of them was received.
    assert listener.arrived_s[-1] - listener.arrived_s[0] > 0.5 * (FRAMES - 1) * PERIOD_NS / 1e9


def test_a_part_is_played_at_another_rate(drive):
    with spinning_node("listener") as node:
        listener = Listener(node, ReliabilityPolicy.RELIABLE)
        with playing(drive, "--start", "0.1", "--duration", "0.2", "--rate", "0.2") as player:
            assert player.wait(SETTLED_S) == 0
            assert wait_until(lambda: len(listener.images) >= 4)
    assert [value for _, value in listener.images] == [2, 3, 4, 5]
    assert listener.arrived_s[-1] - listener.arrived_s[0] > 3 * PERIOD_NS / 1e9 / 0.2 - 0.3


def test_a_looped_bag_starts_again_with_its_clock(drive):
    with spinning_node("listener") as node:
        listener = Listener(node, ReliabilityPolicy.RELIABLE)
        with playing(drive, "--loop", "--rate", "4"):
            assert wait_until(lambda: len(listener.images) > 2 * FRAMES)
    values = [value for _, value in listener.images]
    assert values[: 2 * FRAMES] == [*range(FRAMES), *range(FRAMES)]
    assert any(later < earlier for earlier, later in zip(listener.clock, listener.clock[1:]))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere.mcap"], "error: there is no bag at 'nowhere.mcap'"),
        (["{drive}", "--rate", "0"], "error: rate is 0.0; a positive number is needed"),
        (["{drive}", "--topics", "/up"], "error: bag '{drive}' has no topic /up; it has /camera/image_raw"),
        (["{drive}", "--wait", "0.2"], "error: nobody subscribed to all of /camera/image_raw within 0.2 s"),
    ],
)
def test_what_cannot_be_played_is_a_sentence_and_exit_status_1(drive, arguments, sentence):
    command = [argument.format(drive=drive) for argument in arguments]
    result = subprocess.run(
        [sys.executable, "-m", "sdcpc_ros.replay.player", *command], capture_output=True, text=True, timeout=SETTLED_S
    )
    assert result.returncode == 1
    assert sentence.format(drive=drive) in result.stderr
    assert "Traceback" not in result.stderr


def test_the_player_starts_without_pytorch():
    """Which takes seconds to import, most of the time that a player would need to start."""
    code = "import sys, sdcpc_ros.replay.player; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=SETTLED_S).returncode == 0


def test_a_recording_holds_the_very_bytes_that_were_played(drive, tmp_path):
    begun_ns = time.time_ns()
    with BagWriter(tmp_path / "recording") as writer, spinning_node("recorder") as node, BagReader(drive) as bag:
        arrived: list[RawMessage] = []
        record(node, writer, {TOPIC: IMAGE}, arrived.append)
        player = BagPlayer(node, bag, [TOPIC], rate=4)
        assert wait_until(lambda: node.count_publishers(TOPIC) > 0)
        assert player.wait_for_subscribers([TOPIC], SETTLED_S)
        published: list[RawMessage] = []
        player.play(published.append)
        assert player.linger(lambda: len(arrived) == FRAMES, SETTLED_S)
    with BagReader(tmp_path / "recording") as recording:
        recorded = list(recording.messages(TOPIC))
    assert [message.data for message in recorded] == [message.data for message in published]
    assert arrived == recorded
    times_ns = [message.time_ns for message in recorded]
    assert begun_ns < times_ns[0] and times_ns == sorted(times_ns) and times_ns[-1] < time.time_ns()


def test_playing_stops_when_the_check_fails(drive):
    published: list[RawMessage] = []

    def check() -> None:
        if len(published) == 2:
            raise PlaybackError("the node ended")

    with spinning_node("player") as node, BagReader(drive) as bag, pytest.raises(PlaybackError, match="the node ended"):
        BagPlayer(node, bag, [TOPIC], rate=0.5).play(published.append, check)
    assert len(published) == 2


def test_a_labelled_bag_is_played_as_far_as_its_types_are_installed(tiny_checkpoint, tmp_path, capsys):
    write_street_bag(tmp_path / "street", StreetBag(seed=3, size=(60, 80), length=4, rate_hz=15.0))
    model = Model(StreamingSegmenter(load_checkpoint(tiny_checkpoint)), "tiny", "")
    with labelled_bag_sink(
        tmp_path / "labelled", tmp_path / "street", model.segmenter.label_set, BagSettings()
    ) as write:
        evaluate_bag(tmp_path / "street", model, sinks=[write])

    masks = (LABEL_TOPIC, CONFIDENCE_TOPIC)
    with (
        BagReader(tmp_path / "labelled") as bag,
        BagWriter(tmp_path / "recording") as recording,
        spinning_node("recorder") as node,
    ):
        received: Counter[str] = Counter()
        record(node, recording, dict.fromkeys(masks, IMAGE), lambda message: received.update([message.topic]))
        player = BagPlayer(node, bag, playable_topics(bag))
        assert player.wait_for_subscribers(masks, SETTLED_S)
        player.play()
        assert player.linger(lambda: all(received[topic] == 4 for topic in masks), SETTLED_S)
        stored = {topic: [message.data for message in bag.messages(topic)] for topic in masks}
    with BagReader(tmp_path / "recording") as recorded:
        assert {topic: [message.data for message in recorded.messages(topic)] for topic in masks} == stored
    told = capsys.readouterr().err
    for package, topic in (("vision_msgs", LABEL_INFO_TOPIC), ("sdcpc_ros.msg", CLASS_STATISTICS_TOPIC)):
        installed = importlib.util.find_spec(package) is not None
        assert (f"{topic} is not played: the message type" in told) != installed


@pytest.mark.parametrize("message_type", ["nowhere_msgs/msg/Image", "sensor_msgs/msg/Smell", "os/path", "sensor_msgs"])
def test_a_message_type_that_is_not_installed_is_named(message_type):
    with pytest.raises(PlaybackError, match=f"the message type '{message_type}' is not installed here"):
        message_class(message_type)


@pytest.mark.parametrize("rate", [0, -1, float("inf"), float("nan")])
def test_a_rate_that_makes_no_sense_is_refused(drive, rate):
    refused = pytest.raises(PlaybackError, match=f"rate is {rate}; a positive number is needed")
    with spinning_node("player") as node, BagReader(drive) as bag, refused:
        BagPlayer(node, bag, [TOPIC], rate=rate)
