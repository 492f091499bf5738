"""Plays a bag over DDS, as `ros2 bag play` does, without rosbag2, and records topics into another bag.

python -m sdcpc_ros.replay.player BAG [--rate 0.5] [--start 10] [--duration 5] [--loop] [--topics TOPIC ...]
"""

from __future__ import annotations

import argparse
import importlib
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import rclpy
from rclpy.duration import Duration
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.time import Time
from rosgraph_msgs.msg import Clock

from sdcpc_ros.bags.errors import PlaybackError
from sdcpc_ros.bags.messages import RawMessage
from sdcpc_ros.bags.reader import BagReader
from sdcpc_ros.bags.writer import BagWriter
from sdcpc_ros.replay.bag_source import BagSettings

_POLL_S = 0.02
_SPIN_S = 0.1
_RECORDER_DEPTH = 50  # images wait here while the disk is busy
_CLOCK_PERIOD_S = 1 / 40  # as `ros2 bag play --clock`
# A subscriber may discover a publisher later than the reverse; best-effort messages are lost until then.
_SETTLE_S = 1.0
_ACKNOWLEDGED_S = 5.0  # for reliable subscribers to get the last message


def message_class(message_type: str) -> Any:
    """The Python class of a type as `sensor_msgs/msg/Image`. Raises PlaybackError if ROS here does not have it."""
    if re.fullmatch(r"[a-z][a-z0-9_]*/msg/[A-Z][A-Za-z0-9]*", message_type):
        package, _, name = message_type.split("/")
        with suppress(ImportError, AttributeError):
            return getattr(importlib.import_module(f"{package}.msg"), name)
    raise PlaybackError(f"the message type '{message_type}' is not installed here")


def playable_topics(bag: BagReader) -> list[str]:
    """The topics whose types are installed here; the others are named on stderr. PlaybackError if there is none."""
    playable = []
    for topic in bag.topics.values():
        try:
            message_class(topic.type)
        except PlaybackError as error:
            print(f"{topic.name} is not played: {error}", file=sys.stderr)
        else:
            playable.append(topic.name)
    if not playable:
        raise PlaybackError(f"bag '{bag.path}' holds nothing that can be played here")
    return playable


def wait_until(condition: Callable[[], bool], timeout_s: float, check: Callable[[], None] = lambda: None) -> bool:
    """Polls until the condition holds; False if `timeout_s` passes before. `check` is called at each poll, to raise."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        check()
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True


@contextmanager
def spinning_node(name: str) -> Iterator[Node]:
    """A ROS node in its own context; a thread spins it until the block ends."""
    context = rclpy.Context()
    rclpy.init(context=context)
    node = Node(name, context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    ended = threading.Event()

    def spin() -> None:
        with suppress(ExternalShutdownException):
            while not ended.is_set():
                executor.spin_once(timeout_sec=_SPIN_S)

    thread = threading.Thread(target=spin, name=f"{name} spin")
    thread.start()
    try:
        yield node
    finally:
        ended.set()
        thread.join()  # before the shutdown: an executor that has not begun to spin would fail
        executor.shutdown()
        node.destroy_node()
        context.try_shutdown()


class BagPlayer:
    """Publishes topics of a part of a bag, and the bag's time on /clock, from a node.

    `rate`: 2.0 plays twice as fast as it was recorded. `part`: its start and duration. `loop`: start again at the end;
    /clock jumps back, as with `ros2 bag play --loop`. Publishers are reliable, so best-effort subscribers receive too.
    Raises BagError for a topic that the bag lacks; PlaybackError for a bad rate or a type that is not installed.
    """

    def __init__(
        self,
        node: Node,
        bag: BagReader,
        topics: Sequence[str],
        *,
        rate: float = 1.0,
        part: BagSettings | None = None,
        loop: bool = False,
    ) -> None:
        if not 0 < rate < float("inf"):
            raise PlaybackError(f"rate is {rate}; a positive number is needed")
        bag.require_topics(topics)
        self._bag, self._rate, self._part, self._loop = bag, rate, part or BagSettings(), loop
        self._clock = node.create_publisher(Clock, "/clock", 1)
        self._publishers: dict[str, Any] = {}
        for topic in topics:
            durability = DurabilityPolicy.TRANSIENT_LOCAL if bag.topics[topic].latched else DurabilityPolicy.VOLATILE
            qos = QoSProfile(depth=10, durability=durability)
            self._publishers[topic] = node.create_publisher(message_class(bag.topics[topic].type), topic, qos)
        self._start_offset_ns = int(self._part.start_s * 1e9)  # in the bag's time, from its start
        self._started_s = time.monotonic()

    def wait_for_subscribers(
        self, topics: Iterable[str], timeout_s: float, check: Callable[[], None] = lambda: None
    ) -> bool:
        """Waits until each topic has a subscriber, as `wait_until`. False if `timeout_s` passes before."""
        publishers = [self._publishers[topic] for topic in topics]
        if not wait_until(lambda: all(each.get_subscription_count() for each in publishers), timeout_s, check):
            return False
        settled_s = time.monotonic() + _SETTLE_S
        while time.monotonic() < settled_s:
            self._publish_clock(self._start_offset_ns)  # the bag's time begins with playing
            time.sleep(_CLOCK_PERIOD_S)
        return True

    def play(
        self,
        on_publish: Callable[[RawMessage], None] = lambda message: None,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """Publishes each message when it is due, until the end.

        A late message is published at once; none is skipped. `on_publish` is called before each, `check` while waiting.
        An exception of either ends playing.
        """
        while self._play_once(on_publish, check) and self._loop:
            pass
        for publisher in self._publishers.values():
            publisher.wait_for_all_acked(Duration(seconds=_ACKNOWLEDGED_S))

    def _play_once(self, on_publish: Callable[[RawMessage], None], check: Callable[[], None]) -> bool:
        """False if nothing was published."""
        self._started_s = time.monotonic()
        published_any, part = False, self._part
        for message in self._bag.messages(*self._publishers, start_s=part.start_s, duration_s=part.duration_s):
            offset_ns = message.time_ns - self._bag.start_ns
            check()
            while (remaining_ns := offset_ns - self._bag_offset_ns()) > 0:
                self._publish_clock(self._bag_offset_ns())
                time.sleep(min(remaining_ns / 1e9 / self._rate, _CLOCK_PERIOD_S))
                check()
            on_publish(message)
            self._publish_clock(offset_ns)
            self._publishers[message.topic].publish(message.data)
            published_any = True
        return published_any

    def linger(self, done: Callable[[], bool], timeout_s: float) -> bool:
        """After playing, publishes /clock until `done`. False if `timeout_s` passes before."""
        return wait_until(done, timeout_s, lambda: self._publish_clock(self._bag_offset_ns()))

    def _bag_offset_ns(self) -> int:
        """The bag's time now, in ns from its start."""
        return self._start_offset_ns + int((time.monotonic() - self._started_s) * self._rate * 1e9)

    def _publish_clock(self, offset_ns: int) -> None:
        self._clock.publish(Clock(clock=Time(nanoseconds=self._bag.start_ns + offset_ns).to_msg()))


def record(
    node: Node,
    bag: BagWriter,
    topics: Mapping[str, str],
    on_message: Callable[[RawMessage], None] = lambda message: None,
) -> None:
    """Subscribes (reliably) to topics, given with their message types, and writes what arrives to a bag, unchanged.

    A message's time in the bag is its arrival, on the system's clock. The thread that spins the node calls `on_message`
    after each.
    """

    def write(topic: str, message_type: str, data: bytes) -> None:
        message = RawMessage(topic, message_type, time.time_ns(), data)
        bag.write(message)
        on_message(message)

    for topic, message_type in topics.items():
        qos = QoSProfile(depth=_RECORDER_DEPTH)
        node.create_subscription(message_class(message_type), topic, partial(write, topic, message_type), qos, raw=True)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m sdcpc_ros.replay.player", description="Play a rosbag2 bag over DDS, with /clock."
    )
    parser.add_argument("bag", help="a bag folder, .mcap or .db3 file")
    parser.add_argument("--topics", nargs="+", metavar="TOPIC", help="what to play (default: everything)")
    parser.add_argument("--rate", type=float, default=1.0, help="2 plays twice as fast as recorded (default: 1)")
    parser.add_argument("--start", type=float, default=0.0, metavar="S", help="seconds into the bag to start at")
    parser.add_argument("--duration", type=float, metavar="S", help="seconds of the bag to play (default: all)")
    parser.add_argument("--loop", action="store_true", help="start again at the end")
    parser.add_argument(
        "--wait", type=float, metavar="S", help="wait for subscribers to all topics first, S seconds at most"
    )
    args = parser.parse_args(arguments)
    try:
        part = BagSettings(start_s=args.start, duration_s=args.duration)
        with BagReader(args.bag) as bag, spinning_node("bag_player") as node:
            topics = args.topics or playable_topics(bag)
            player = BagPlayer(node, bag, topics, rate=args.rate, part=part, loop=args.loop)
            if args.wait and not player.wait_for_subscribers(topics, args.wait):
                raise PlaybackError(f"nobody subscribed to all of {', '.join(topics)} within {args.wait:g} s")
            player.play()
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
