"""Plays a bag over DDS, as `ros2 bag play` does, without rosbag2: the messages' bytes are published unchanged.

python -m sdcpc_ros.replay.player BAG [--rate 0.5] [--start 10] [--duration 5] [--loop] [--paused] [--topics TOPIC ...]

To pause it: ros2 service call /bag_player/set_paused std_srvs/srv/SetBool "{data: true}"
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from builtin_interfaces.msg import Time
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from std_srvs.srv import SetBool

from sdcpc_ros.bags.errors import PlaybackError
from sdcpc_ros.bags.messages import RawMessage
from sdcpc_ros.bags.reader import BagReader
from sdcpc_ros.replay.dds import message_class, spinning_node, wait_until

_CLOCK_PERIOD_S = 1 / 40  # as `ros2 bag play --clock`
# A subscriber may discover a publisher later than the reverse; best-effort messages are lost until then.
_SETTLE_S = 1.0
_ACKNOWLEDGED_S = 5.0  # for reliable subscribers to get the last message


@dataclass(frozen=True)
class Playback:
    """Options of playing. Raises ValueError for a rate or duration that is not positive, or a negative start."""

    rate: float = 1.0  #: 2.0 plays twice as fast as it was recorded
    start_s: float = 0.0  #: seconds into the bag to start at
    duration_s: float | None = None  #: seconds of the bag to play; None: to its end
    loop: bool = False  #: start again at the end; /clock jumps back, as with `ros2 bag play --loop`
    reliable: bool = True  #: reliable publishers also serve best-effort subscribers; best-effort ones may drop
    clock: bool = True  #: publish the bag's time on /clock

    def __post_init__(self) -> None:
        if not 0 < self.rate < float("inf"):
            raise ValueError(f"rate is {self.rate}; a positive number is needed")
        if not 0 <= self.start_s < float("inf"):
            raise ValueError(f"start_s is {self.start_s}; zero or a positive number of seconds is needed")
        if self.duration_s is not None and not 0 < self.duration_s < float("inf"):
            raise ValueError(f"duration_s is {self.duration_s}; a positive number of seconds, or None, is needed")


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


class BagPlayer:
    """Publishes topics of a bag from a node.

    Raises BagError for a topic that the bag lacks, PlaybackError for a message type that is not installed.
    """

    def __init__(self, node: Node, bag: BagReader, topics: Sequence[str], playback: Playback | None = None) -> None:
        self.playback = playback or Playback()
        self._bag = bag
        self._node = node
        bag.require_topics(topics)
        self._publishers = {topic: self._create_publisher(topic) for topic in topics}
        self._clock = node.create_publisher(Clock, "/clock", 1) if self.playback.clock else None
        self._start_offset_ns = int(self.playback.start_s * 1e9)  # in the bag's time, from its start
        self._time_lock = threading.Lock()  # for the two below: any thread may pause
        self._started_s = time.monotonic()
        self._paused_s: float | None = None  # when the pause began

    def _create_publisher(self, topic: str) -> Any:
        reliability = ReliabilityPolicy.RELIABLE if self.playback.reliable else ReliabilityPolicy.BEST_EFFORT
        recorded = self._bag.topics[topic]
        durability = DurabilityPolicy.TRANSIENT_LOCAL if recorded.latched else DurabilityPolicy.VOLATILE
        qos = QoSProfile(depth=10, reliability=reliability, durability=durability)
        return self._node.create_publisher(message_class(recorded.type), topic, qos)

    @property
    def paused(self) -> bool:
        return self._paused_s is not None

    def pause(self) -> None:
        """Stops the bag's time: only /clock is published until `resume`."""
        with self._time_lock:
            if self._paused_s is None:
                self._paused_s = time.monotonic()

    def resume(self) -> None:
        """Continues where `pause` stopped."""
        with self._time_lock:
            if self._paused_s is not None:
                self._started_s += time.monotonic() - self._paused_s
                self._paused_s = None

    def serve_pause(self) -> None:
        """Creates the service `~/set_paused` (std_srvs/SetBool) on the node."""

        def set_paused(request: Any, response: Any) -> Any:
            self.pause() if request.data else self.resume()
            response.success, response.message = True, "paused" if self.paused else "playing"
            return response

        self._node.create_service(SetBool, "~/set_paused", set_paused)

    def wait_for_subscribers(
        self, topics: Iterable[str], timeout_s: float, keep_going: Callable[[], bool] = lambda: True
    ) -> bool:
        """Waits until each topic has a subscriber. False if `timeout_s` passes, or `keep_going` is False, before."""
        publishers = [self._publishers[topic] for topic in topics]
        if not wait_until(lambda: all(each.get_subscription_count() for each in publishers), timeout_s, keep_going):
            return False
        settled_s = time.monotonic() + _SETTLE_S
        while time.monotonic() < settled_s:
            self._publish_clock(self._start_offset_ns)  # the bag's time begins with playing
            time.sleep(_CLOCK_PERIOD_S)
        return True

    def play(
        self,
        on_publish: Callable[[RawMessage], None] = lambda message: None,
        keep_going: Callable[[], bool] = lambda: True,
    ) -> None:
        """Publishes each message when it is due, until the end, or until `keep_going` is False.

        A late message is published at once; none is skipped. `on_publish` is called before each.
        """
        while self._play_once(on_publish, keep_going) and self.playback.loop:
            pass
        for publisher in self._publishers.values():
            publisher.wait_for_all_acked(Duration(seconds=_ACKNOWLEDGED_S))

    def _play_once(self, on_publish: Callable[[RawMessage], None], keep_going: Callable[[], bool]) -> bool:
        playback = self.playback
        with self._time_lock:
            self._started_s = time.monotonic()
            if self._paused_s is not None:
                self._paused_s = self._started_s
        published_any = False
        for message in self._bag.messages(*self._publishers, start_s=playback.start_s, duration_s=playback.duration_s):
            offset_ns = message.time_ns - self._bag.start_ns
            if not self._wait_for_bag_time(offset_ns, keep_going):
                return False
            on_publish(message)
            self._publish_clock(offset_ns)
            self._publishers[message.topic].publish(message.data)
            published_any = True
        return published_any

    def linger(self, done: Callable[[], bool], timeout_s: float) -> bool:
        """After playing, publishes /clock until `done`. False if `timeout_s` passes before."""

        def tick() -> bool:
            self._publish_clock(self._bag_offset_ns())
            return True

        return wait_until(done, timeout_s, tick)

    def _bag_offset_ns(self) -> int:
        """The bag's time now, in ns from its start."""
        with self._time_lock:
            now_s = time.monotonic() if self._paused_s is None else self._paused_s
            return self._start_offset_ns + int((now_s - self._started_s) * self.playback.rate * 1e9)

    def _wait_for_bag_time(self, offset_ns: int, keep_going: Callable[[], bool]) -> bool:
        while (remaining_ns := offset_ns - self._bag_offset_ns()) > 0 or self.paused:
            if not keep_going():
                return False
            self._publish_clock(self._bag_offset_ns())
            due_s = _CLOCK_PERIOD_S if self.paused else remaining_ns / 1e9 / self.playback.rate
            time.sleep(min(max(due_s, 0.0), _CLOCK_PERIOD_S))
        return keep_going()

    def _publish_clock(self, offset_ns: int) -> None:
        if self._clock is not None:
            seconds, nanoseconds = divmod(self._bag.start_ns + offset_ns, 1_000_000_000)
            self._clock.publish(Clock(clock=Time(sec=seconds, nanosec=nanoseconds)))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m sdcpc_ros.replay.player", description="Play a rosbag2 bag over DDS."
    )
    parser.add_argument("bag", help="a bag folder, .mcap or .db3 file")
    parser.add_argument("--topics", nargs="+", metavar="TOPIC", help="what to play (default: everything)")
    parser.add_argument("--rate", type=float, default=1.0, help="2 plays twice as fast as recorded (default: 1)")
    parser.add_argument("--start", type=float, default=0.0, metavar="S", help="seconds into the bag to start at")
    parser.add_argument("--duration", type=float, metavar="S", help="seconds of the bag to play (default: all)")
    parser.add_argument("--loop", action="store_true", help="start again at the end")
    parser.add_argument("--paused", action="store_true", help="wait for the service set_paused before playing")
    parser.add_argument("--best-effort", action="store_true", help="best-effort publishers instead of reliable ones")
    parser.add_argument("--no-clock", action="store_true", help="do not publish /clock")
    parser.add_argument(
        "--wait", type=float, metavar="S", help="wait for subscribers to all topics first, S seconds at most"
    )
    args = parser.parse_args(arguments)
    try:
        playback = Playback(args.rate, args.start, args.duration, args.loop, not args.best_effort, not args.no_clock)
        with BagReader(args.bag) as bag, spinning_node("bag_player") as node:
            topics = args.topics or playable_topics(bag)
            player = BagPlayer(node, bag, topics, playback)
            player.serve_pause()
            if args.paused:
                player.pause()
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
