"""What the console is told of a camera, and how often."""

from __future__ import annotations

from collections import Counter

from sdcpc_ros.nodes.camera_stream import StreamStatus
from sdcpc_ros.nodes.camera_watch import CameraWatch, silence_sentence

IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
FRONT = ("front", "/front/image_raw", (IMAGE,))


def silent_at(
    watch: CameraWatch, seconds: range, heard_s: float | None = None, active_since_s: float | None = 100.0
) -> list[int]:
    status = StreamStatus(active_since_s=active_since_s, last_received_s=heard_s)
    return [second for second in seconds if watch.silence_s(status, float(second))]


def test_silence_is_told_after_five_seconds_and_then_once_a_minute() -> None:
    assert silent_at(CameraWatch(), range(100, 240)) == [105, 165, 225]


def test_silence_is_told_again_when_images_stop_again() -> None:
    watch = CameraWatch()
    assert silent_at(watch, range(100, 110)) == [105]
    assert silent_at(watch, range(110, 120), heard_s=110.0) == [115]
    assert silent_at(watch, range(120, 130), active_since_s=None) == []
    assert silent_at(watch, range(130, 140), active_since_s=130.0) == [135]


def test_the_sentence_names_what_is_there() -> None:
    topics = {"/eye/image": [IMAGE], "/eye/points": ["sensor_msgs/msg/PointCloud2"], "/node/front/label": [IMAGE]}
    told = silence_sentence(*FRONT, topics, "/node", 5.4)
    assert told == (
        "camera 'front': no image for 5 s on /front/image_raw (sensor_msgs/msg/Image): it has no publisher. "
        "Topics of this type: /eye/image"
    )
    assert "no image for 342 s on" in silence_sentence(*FRONT, topics, "/node", 342.0)
    assert "is the camera running" in silence_sentence(*FRONT, {"/node/front/label": [IMAGE]}, "/node", 5.4)
    many = {f"/eye_{number}": [IMAGE] for number in range(12)}
    assert silence_sentence(*FRONT, many, "/node", 5.4).endswith(" and 4 more")


def test_a_camera_of_either_type_is_offered_topics_of_both() -> None:
    topics = {"/eye/image": [IMAGE], "/eye/image/compressed": [COMPRESSED]}
    told = silence_sentence("front", "/front/image_raw", (IMAGE, COMPRESSED), topics, "/node", 5.4)
    assert f"({IMAGE} or {COMPRESSED})" in told and told.endswith(": /eye/image, /eye/image/compressed")


def test_the_sentence_knows_a_wrong_type_and_what_is_published_in_vain() -> None:
    told = silence_sentence(*FRONT, {"/front/image_raw": [COMPRESSED]}, "/node", 5.4)
    assert told.endswith(f"it is published as {COMPRESSED}; set front.transport to compressed")
    told = silence_sentence(*FRONT, {"/front/image_raw": ["sensor_msgs/msg/PointCloud2"]}, "/node", 5.4)
    assert told.endswith("it is published as sensor_msgs/msg/PointCloud2")
    assert "nothing arrives" in silence_sentence(*FRONT, {"/front/image_raw": [IMAGE]}, "/node", 5.4)


def overloads(watch: CameraWatch, seconds: range, *, hz: int, dropped_hz: int) -> list[tuple[int, str]]:
    stages = {"decode": (3.0, 5.0), "network": (240.0, 300.0), "total": (400.0, 500.0)}
    told = []
    for second in seconds:
        rates = {"received": hz, "processed": hz - dropped_hz, "dropped: newer": dropped_hz}
        counts = Counter({name: rate * second for name, rate in rates.items()})
        status = StreamStatus(counts, active_since_s=50.0, stage_ms=stages)
        if sentence := watch.overload(status, 50.0 + second):
            told.append((second, sentence))
    return told


def test_dropped_frames_are_told_with_the_cause_once_a_minute() -> None:
    told = overloads(CameraWatch(), range(130), hz=10, dropped_hz=6)
    assert [second for second, _ in told] == [10, 70]
    assert told[0][1] == (
        "60 of 100 images in 10 s were dropped for newer ones: images arrive at 10.0 Hz, masks leave at 4.0 Hz; "
        "the slowest stage is network, 240 ms. A smaller input_height and input_width, another backend or a slower "
        "camera helps"
    )


def test_a_frame_lost_now_and_then_is_not_told() -> None:
    assert not overloads(CameraWatch(), range(130), hz=100, dropped_hz=3)
