"""Those around the node who misbehave: subscribers that come and go, a publisher that dies, a model that changes."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import Transition
from sensor_msgs.msg import Image

_DYING_PUBLISHER = """
import array, sys, rclpy
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image
rclpy.init()
node = rclpy.create_node("dying")
publisher = node.create_publisher(Image, sys.argv[1], qos_profile_sensor_data)
picture = Image(height=240, width=320, encoding="mono8", step=320, data=array.array("B", bytes(240 * 320)))
def send():
    picture.header.stamp = node.get_clock().now().to_msg()
    publisher.publish(picture)
node.create_timer(0.02, send)
rclpy.spin(node)
"""


_FROZEN_SUBSCRIBER = """
import sys, rclpy
from sensor_msgs.msg import Image
rclpy.init()
node = rclpy.create_node("frozen")
for topic in sys.argv[1:]:
    node.create_subscription(Image, topic, lambda _: print("came", flush=True), 5)
rclpy.spin(node)
"""


def threads_of(target) -> list[str]:
    """The names of the node's threads."""
    return sorted(path.read_text().strip() for path in Path(f"/proc/{target.process.process.pid}/task").glob("*/comm"))


def files_of(target) -> int:
    """How many file descriptors the node has."""
    return len(list(Path(f"/proc/{target.process.process.pid}/fd").iterdir()))


def test_fifty_subscribers_come_and_go(target):
    topics = [target.peer.topic(f"front/{name}/image_raw") for name in ("label", "confidence", "overlay")]
    rounds, each = 10, 6
    for round_number in range(rounds):
        if round_number == 4:  # what the first subscribers made it load stays
            threads, files = threads_of(target), files_of(target)
        subscriptions = [
            target.peer.node.create_subscription(Image, topics[i % 3], lambda _: None, 1) for i in range(each)
        ]
        for _ in range(2):  # the second is sure to find the subscribers, and to have overlays painted
            target.serves()
        for subscription in subscriptions:
            target.peer.node.destroy_subscription(subscription)
    target.serves()
    assert threads_of(target) == threads
    assert files_of(target) <= files + 2
    target.note("subscribers that come and go", sent=rounds * each)


def test_a_reliable_subscriber_that_freezes_holds_nobody_up(target, start_process):
    topics = [target.peer.topic(f"front/{name}/image_raw") for name in ("label", "overlay")]
    subscriber = start_process(sys.executable, "-c", _FROZEN_SUBSCRIBER, *topics)
    while subscriber.log().count("came") < 2:
        target.serves()
    subscriber.process.send_signal(signal.SIGSTOP)
    before = target.peer.fresh_report("front")
    for _ in range(15):  # more than its topics keep
        target.serves()
    after = target.peer.fresh_report("front")
    assert int(after["processed"]) >= int(before["processed"]) + 15
    assert after["level"] in (DiagnosticStatus.OK, DiagnosticStatus.WARN)
    p95_ms = float(after["publish p50/p95 (ms)"].split("/")[1])
    assert p95_ms < 1000, f"publishing waited for the frozen subscriber: {p95_ms} ms"
    target.note("a reliable subscriber that freezes (SIGSTOP)", sent=1)


def test_a_publisher_that_dies_in_the_middle(target):
    with subprocess.Popen([sys.executable, "-c", _DYING_PUBLISHER, target.FRONT]) as publisher:
        before = target.peer.count("front", "received")
        target.peer.wait_until(lambda: target.peer.count("front", "received") > before + 10, "its images")
        publisher.kill()
    target.peer.wait_until(lambda: target.peer.report("front")["level"] == DiagnosticStatus.STALE, "that it is missed")
    assert "no image for" in target.peer.report("front")["message"]
    target.serves()
    target.note("a camera process killed in the middle", sent=1)


def test_a_model_file_that_is_cut_short_while_it_is_used(target):
    whole = target.model.read_bytes()
    with target.model.open("r+b") as file:  # the very file, not another in its place
        file.truncate(len(whole) // 2)
    target.serves()  # it works from memory
    assert target.peer.change_state(Transition.TRANSITION_DEACTIVATE)
    assert target.peer.change_state(Transition.TRANSITION_CLEANUP)
    assert not target.peer.change_state(Transition.TRANSITION_CONFIGURE)
    report = target.peer.fresh_report("model")
    assert report["level"] == DiagnosticStatus.ERROR and "truncated perhaps" in report["message"]
    target.model.write_bytes(whole)
    assert target.peer.change_state(Transition.TRANSITION_CONFIGURE)
    assert target.peer.change_state(Transition.TRANSITION_ACTIVATE)
    target.serves()
    target.note("the model file cut short while it is used", sent=1, counted={"refused configurations": 1})


def test_a_model_file_that_is_replaced_while_it_is_used(target):
    whole = target.model.read_bytes()
    target.model.unlink()
    target.model.write_bytes(b"something else entirely")
    target.serves()
    target.model.write_bytes(whole)
    assert target.process.is_alive() and "Traceback" not in target.process.log()
    target.note("the model file replaced while it is used", sent=1, counted={})
