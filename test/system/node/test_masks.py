"""One running node with two cameras, one of them compressed: what goes in and what comes out, over DDS."""

from __future__ import annotations

import array
import itertools
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_srvs.srv import Trigger

FRONT, REAR = "/front/image_raw", "/rear/image_raw/compressed"
_stamps = itertools.count(100)


@pytest.fixture(scope="module")
def node(start_node, tiny_checkpoint):
    return start_node(
        model=tiny_checkpoint,
        device="cpu",
        cameras="[front, rear]",
        rear__transport="compressed",
        front__image_topic=FRONT,
        max_gap=5.0,
        **{
            "qos_overrides./segmentation_node/rear/overlay/image_raw.publisher.reliability": "best_effort",
            "qos_overrides./rear/camera_info.subscription.reliability": "reliable",
            "qos_overrides./rear/camera_info.subscription.depth": 7,
        },
    )


@pytest.fixture(scope="module")
def masks(node, peer):
    return peer.collect(peer.topic("front/label/image_raw"), Image)


@pytest.fixture(scope="module")
def send(peer, masks, image) -> Callable:
    """Sends the front camera an image, with the next stamp unless one is given, and returns its mask."""

    def send(pixels: np.ndarray, stamp_s: float | None = None, **fields) -> Image:
        return peer.exchange(FRONT, image(pixels, next(_stamps) if stamp_s is None else stamp_s, **fields), masks)

    return send


def labels_of(mask: Image) -> np.ndarray:
    return np.frombuffer(mask.data, np.uint8).reshape(mask.height, mask.width)


@pytest.mark.parametrize(("size", "stamp_s"), [((120, 160), 12.345678), ((90, 121), 13.345678)])
def test_a_mask_has_the_header_and_size_of_its_image(peer, masks, image, street, size, stamp_s):
    sent = image(street(*size), stamp_s, frame_id="front/optical")
    mask = peer.exchange(FRONT, sent, masks)
    assert mask.header == sent.header
    assert (mask.height, mask.width, mask.step, mask.encoding) == (*size, size[1], "mono8")
    assert len(mask.data) == size[0] * size[1]
    assert labels_of(mask).max() < 11


def test_the_mask_is_that_of_the_segmenter(peer, send, street, tiny_checkpoint):
    from sdcpc_ros.model_files.checkpoint import load_checkpoint
    from sdcpc_ros.streaming.segmenter import StreamingSegmenter

    picture = street(seed=3)
    peer.call(Trigger, "reset", Trigger.Request())
    expected = StreamingSegmenter(load_checkpoint(tiny_checkpoint)).segment(picture).labels
    assert len(np.unique(expected)) > 1
    assert (labels_of(send(picture)) == expected).mean() > 0.999  # thread counts may differ


def test_encoding_and_padding_make_no_difference(peer, send, street):
    picture = street(seed=4)
    padded = np.concatenate([picture[..., ::-1].reshape(120, 480), np.full((120, 17), 255, np.uint8)], axis=1)
    answers = []
    for fields in ({"pixels": picture}, {"pixels": padded, "encoding": "bgr8", "width": 160, "step": 497}):
        peer.call(Trigger, "reset", Trigger.Request())
        answers.append(labels_of(send(**fields)))
    assert np.array_equal(*answers)


def test_cameras_are_told_apart_and_compressed_images_are_taken(peer, send, street):
    rear_masks = peer.collect(peer.topic("rear/label/image_raw"), Image)
    for extension in (".jpg", ".png"):
        message = CompressedImage(format="jpeg" if extension == ".jpg" else "png")
        message.header.frame_id, message.header.stamp.sec = "rear", next(_stamps)
        encoded = cv2.imencode(extension, street(80, 100, seed=5))[1]
        message.data = array.array("B", encoded.tobytes())
        mask = peer.exchange(REAR, message, rear_masks)
        assert (mask.header.frame_id, mask.height, mask.width) == ("rear", 80, 100)
    assert send(street()).header.frame_id == "optical_frame"
    assert peer.count("rear", "lost to faults") == peer.count("front", "lost to faults") == 0


def test_the_compressed_mask_is_the_mask(peer, send, street):
    """Under the name that image_transport gives it, with the same header and the same ids."""
    compressed = peer.collect(peer.topic("front/label/image_raw/compressed"), CompressedImage)
    picture = street(seed=7)

    def pair() -> tuple | None:
        mask = send(picture)
        peer.spin_for(0.2)
        return next(((mask, c) for c in compressed if c.header == mask.header), None)

    mask, small = peer.wait_until(pair, "mask and compressed mask of one image")
    assert small.format == "mono8; png compressed"
    ids = cv2.imdecode(np.frombuffer(small.data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert ids.dtype == np.uint8 and np.array_equal(ids, labels_of(mask))


def test_overlay_and_confidence_come_only_to_those_who_subscribe(peer, send, street):
    topics = [peer.topic(f"front/{name}/image_raw") for name in ("overlay", "confidence")]
    overlays, confidences = (peer.collect(topic, Image) for topic in topics)
    peer.wait_until(lambda: all(peer.node.count_publishers(topic) for topic in topics), "the publishers")
    picture = street(seed=6)

    def all_came() -> bool:
        mask = send(picture)
        peer.spin_for(0.2)
        return any(o.header == mask.header for o in overlays) and any(c.header == mask.header for c in confidences)

    peer.wait_until(all_came, "overlay and confidence of one image")
    overlay, confidence = overlays[-1], confidences[-1]
    assert (overlay.encoding, overlay.height, overlay.width, overlay.step) == ("rgb8", 120, 160, 480)
    assert (confidence.encoding, confidence.height, confidence.width) == ("mono8", 120, 160)
    drawn = np.frombuffer(overlay.data, np.uint8).reshape(120, 160, 3)
    assert 1 < np.abs(drawn.astype(int) - picture).mean() < 128  # tinted, half
    assert np.frombuffer(confidence.data, np.uint8).max() > 255 / 11


def test_camera_info_goes_along_with_the_mask(peer, send, street):
    answers = peer.collect(peer.topic("front/label/camera_info"), CameraInfo)
    info = CameraInfo(height=240, width=320, distortion_model="plumb_bob", d=[0.1, 0.0, 0.0, 0.0, 0.0])
    info.k, info.p = [200.0, 0.0, 160.0, 0.0, 200.0, 120.0, 0.0, 0.0, 1.0], [1.0] * 12
    publisher = peer.publisher("/front/camera_info", CameraInfo)
    before = peer.count("front", "camera_info refused")

    def answered() -> list:
        publisher.publish(info)
        peer.spin_for(0.1)
        mask = send(street())
        peer.spin_for(0.2)
        return [answer for answer in answers if answer.header == mask.header]

    (answer, *_) = peer.wait_until(answered, "a CameraInfo")
    assert (answer.height, answer.width, answer.d[0]) == (120, 160, 0.1)
    assert answer.k[0] == pytest.approx(100) and answer.k[2] == pytest.approx(79.75)

    info.k[0] = float("nan")

    def refused() -> bool:
        publisher.publish(info)
        peer.spin_for(0.2)
        return peer.count("front", "camera_info refused") > before

    peer.wait_until(refused, "the refusal of a CameraInfo with NaN")
    assert send(street())


BAD_IMAGES = {
    "truncated": {"data": array.array("B", bytes(1000))},
    "wrong_step": {"step": 100},
    "unknown_encoding": {"encoding": "32FC1"},
    "zero_size": {"width": 0},
    "too_small": {"width": 8, "height": 8, "step": 24},
    "too_large": {"width": 60_000, "height": 60_000, "step": 180_000},
}


@pytest.mark.parametrize("cause", BAD_IMAGES)
def test_a_bad_image_is_rejected_and_the_next_good_one_served(node, peer, send, image, street, cause, note_fault):
    publisher, bad = peer.publisher(FRONT), image(street(), next(_stamps), **BAD_IMAGES[cause])
    before, sent = peer.count("front", f"rejected: {cause}"), 0

    def counted() -> bool:
        nonlocal sent
        publisher.publish(bad)
        sent += 1
        peer.spin_for(0.3)
        return peer.count("front", f"rejected: {cause}") > before

    peer.wait_until(counted, f"a count of {cause}")
    assert send(street())
    warning = f"{FRONT}: image with stamp {bad.header.stamp.sec}.000000000 rejected ({cause})"
    assert node.log().count(warning) == 1  # throttled, and it names topic, stamp and cause
    rejected = peer.count("front", f"rejected: {cause}") - before
    note_fault(
        f"an Image that is {cause}", sent=sent, counted={f"rejected: {cause}": rejected, "warnings": 1}, served=1
    )


def test_bytes_that_are_no_image_do_not_end_the_node(node, peer, send, image, street):
    serialised = bytes(serialize_message(image(street(), next(_stamps))))
    publisher = peer.publisher(FRONT)
    for garbage in (
        serialised.replace(b"rgb8", b"\xff\xfe\xff\xfe"),  # a string that is not UTF-8
        serialised[:60],
        serialised[:4] + b"\xff" * 40,
    ):
        for _ in range(5):  # best effort: some may get lost
            publisher.publish(garbage)
            peer.spin_for(0.02)
    assert send(street())
    assert node.is_alive()


def test_a_corrupt_jpeg_is_rejected_and_the_next_good_one_served(node, peer, street, note_fault):
    encoded = cv2.imencode(".jpg", street())[1].tobytes()
    bad, good = CompressedImage(format="jpeg"), CompressedImage(format="jpeg")
    bad.data = array.array("B", encoded.replace(b"\xff\xdb", b"\xff\xfe"))  # its quantisation tables become comments
    good.data = array.array("B", encoded)
    bad.header.stamp.sec = good.header.stamp.sec = next(_stamps)
    publisher, masks = peer.publisher(REAR, CompressedImage), peer.collect(peer.topic("rear/label/image_raw"), Image)
    sent = 0

    def is_counted() -> bool:
        nonlocal sent
        publisher.publish(bad)
        sent += 1
        peer.spin_for(0.3)
        return peer.count("rear", "rejected: corrupt") > 0

    peer.wait_until(is_counted, "a count of corrupt")
    assert peer.exchange(REAR, good, masks)
    assert f"{REAR}: image with stamp {bad.header.stamp.sec}.000000000 rejected (corrupt)" in node.log()
    counted = {"rejected: corrupt": peer.count("rear", "rejected: corrupt")}
    note_fault("a corrupt JPEG", sent=sent, counted=counted, served=1)


@pytest.mark.parametrize(
    ("cause", "second"),
    [
        ("backward", {"stamp_s": 5_000.0}),
        ("gap", {"stamp_s": 10_020.0}),
        ("frame_id", {"frame_id": "another"}),
        ("encoding", {"encoding": "bgr8"}),
    ],
)
def test_a_break_in_the_stream_empties_the_buffer_and_is_counted(peer, send, street, cause, second):
    picture = street(seed=7)
    send(picture, 9_990.0)
    peer.call(Trigger, "reset", Trigger.Request())
    send(picture, 10_000.0)
    before = peer.fresh_report("front")
    send(**({"pixels": picture, "stamp_s": 10_000.1} | second))
    after = peer.fresh_report("front")
    assert int(after[f"resets: {cause}"]) == int(before[f"resets: {cause}"]) + 1
    assert int(after["resets"]) == int(before["resets"]) + 1
    assert send(picture, 10_000.2)  # and it goes on


def test_reset_forgets_the_frames(peer, send, street):
    picture = street(seed=8)
    for _ in range(3):
        send(picture)
    peer.wait_until(lambda: float(peer.report("front").get("buffer fill", 0)) == 1, "a full buffer")
    answer = peer.call(Trigger, "reset", Trigger.Request())
    assert answer.success and "front" in answer.message
    send(picture)
    peer.wait_until(lambda: float(peer.report("front")["buffer fill"]) < 1, "an emptied buffer")


def test_parameters_that_may_change_do_and_others_say_why_not(peer, send, street):
    refused = peer.set_parameter("overlay_opacity", 3.0)
    assert not refused.successful and "0.0" in refused.reason and "1.0" in refused.reason
    refused = peer.set_parameter("model", "other")
    assert not refused.successful and "unconfigured" in refused.reason
    assert peer.set_parameter("confidence_threshold", 1.0).successful
    try:
        assert (labels_of(send(street())) == 255).mean() > 0.9
    finally:
        assert peer.set_parameter("confidence_threshold", 0.0).successful
    assert labels_of(send(street())).max() < 11


def test_a_reliable_publisher_is_heard_too(peer, masks, image, street):
    publisher = peer.node.create_publisher(Image, FRONT, QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE))
    peer.wait_until(lambda: publisher.get_subscription_count() > 0, "the node's subscription")
    sent = image(street(), next(_stamps))

    def answered() -> bool:
        publisher.publish(sent)
        peer.spin_for(0.5)
        return any(mask.header == sent.header for mask in masks)

    peer.wait_until(answered, "a mask")
    peer.node.destroy_publisher(publisher)


def test_quality_of_service_can_be_overridden(peer, send, street):
    send(street())
    reliabilities = {
        camera: [info.qos_profile.reliability for info in peer.node.get_publishers_info_by_topic(topic)]
        for camera in ("front", "rear")
        for topic in [peer.topic(f"{camera}/overlay/image_raw")]
    }
    assert reliabilities == {"front": [ReliabilityPolicy.RELIABLE], "rear": [ReliabilityPolicy.BEST_EFFORT]}
    subscribed = {
        camera: [info.qos_profile.reliability for info in peer.node.get_subscriptions_info_by_topic(topic)]
        for camera, topic in (("front", "/front/camera_info"), ("rear", "/rear/camera_info"))
    }
    assert subscribed == {"front": [ReliabilityPolicy.BEST_EFFORT], "rear": [ReliabilityPolicy.RELIABLE]}


def test_diagnostics_tell_of_model_and_cameras(node, peer, send, street):
    send(street())
    report = peer.wait_until(lambda: peer.report("front").get("total p50/p95 (ms)") and peer.report("front"), "times")
    assert {"decode", "preprocess", "network", "postprocess", "publish"} <= {key.split()[0] for key in report}
    assert int(report["received"]) >= int(report["processed"]) > 0
    assert peer.report("model")["message"] == "active" and peer.report("model")["backend"] == "auto"
    assert peer.report("model")["backend status"].startswith("eager (auto: backend 'aot' compiles")
    assert peer.report("model")["precision"] == "float32"  # auto, on a CPU
    assert node.is_alive() and "Traceback" not in node.log()
