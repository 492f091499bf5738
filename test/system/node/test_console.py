"""What the node's console says of its cameras, to who starts it for the first time."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

from sensor_msgs.msg import CompressedImage, Image

TROUBLED = str(Path(__file__).with_name("troubled_node.py"))


def warnings(node) -> list[str]:
    return [line.partition("]: ")[2] for line in node.log().splitlines() if "[WARN]" in line]


def test_what_is_connected_is_said_and_a_topic_that_nobody_publishes_warned_of(start_node, peer, tiny_checkpoint):
    images = peer.node.create_publisher(Image, "/realsense/color/image_raw", 1)
    compressed = peer.node.create_publisher(CompressedImage, "/rear/image_raw", 1)
    topics = {"front__image_topic": "/front/image", "front__transport": "raw", "rear__transport": "raw"}
    node = start_node(model=tiny_checkpoint, device="cpu", cameras="[front, rear]", **topics)
    node.wait_for_log("camera 'rear': subscribes to")
    (told,) = [line for line in node.log().splitlines() if "camera 'front': subscribes to" in line]
    assert "subscribes to /front/image (sensor_msgs/msg/Image) and /front/camera_info; publishes /segm" in told
    assert "/segmentation_node/front/label/image_raw" in told
    peer.wait_until(lambda: len(warnings(node)) == 2, "a warning for each camera")
    assert [re.sub(r"for \d+ s", "for 5 s", warning) for warning in warnings(node)] == [
        "camera 'front': no image for 5 s on /front/image (sensor_msgs/msg/Image): it has no publisher. "
        "Topics of this type: /realsense/color/image_raw",
        "camera 'rear': no image for 5 s on /rear/image_raw (sensor_msgs/msg/Image): it is published as "
        "sensor_msgs/msg/CompressedImage; set rear.transport to compressed",
    ]
    assert node.stop() == 0
    for publisher in (images, compressed):
        peer.node.destroy_publisher(publisher)


def test_a_clock_that_nobody_publishes_is_warned_of_once(start_node, peer):
    node = start_node(autostart="false", use_sim_time="true")
    node.wait_for_log("use_sim_time is true, but no /clock has arrived for 5 s")
    peer.fresh_report("model")
    assert len(warnings(node)) == 1 and node.stop() == 0


def test_dropped_frames_are_said_with_the_cause(start_node, peer, image, street, tiny_checkpoint):
    node = start_node(program=(TROUBLED, "--delay", "0.3", "--fail-every", "0"), model=tiny_checkpoint, device="cpu")
    node.wait_for_log("subscribes to")
    publisher, picture = peer.publisher("/camera/image_raw"), street()
    for stamp_ms in itertools.count(100, 100):
        assert stamp_ms < 60_000, node.log()
        publisher.publish(image(picture, stamp_ms / 1000))
        peer.spin_for(0.1)
        if "dropped for newer ones" in node.log():
            break
    told = next(text for text in warnings(node) if "dropped for newer ones" in text)
    # 0.3 s of every frame are spent waiting; a busy machine adds to that.
    assert told.startswith("camera 'camera': ") and re.search(r"Hz, masks leave at [123]\.\d Hz", told)
    assert told.endswith("A smaller input_height and input_width, another backend or a slower camera helps")
