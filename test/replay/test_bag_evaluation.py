from __future__ import annotations

import json
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from bag_fixtures import write_all
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from sdcpc_ros.bags.errors import BagError
from sdcpc_ros.bags.messages import COMPRESSED_IMAGE, IMAGE, RawMessage, serialise_compressed, serialise_image
from sdcpc_ros.bags.reader import BagReader
from sdcpc_ros.bags.writer import BagWriter
from sdcpc_ros.evaluation.metrics import ConfusionMatrix
from sdcpc_ros.model_files.checkpoint import load_checkpoint
from sdcpc_ros.replay.bag_evaluation import Model, evaluate_bag
from sdcpc_ros.replay.bag_source import BagSettings
from sdcpc_ros.replay.image_bags import GROUND_TRUTH_TOPIC, IMAGE_TOPIC
from sdcpc_ros.replay.segmented_frames import SegmentedFrame, Unusable
from sdcpc_ros.streaming.segmenter import StreamingSegmenter

FRAMES = 18


def untimed(report: dict) -> dict:
    return {key: value for key, value in report.items() if key != "timing"}


def messages(street: Path) -> list[RawMessage]:
    with BagReader(street) as bag:
        return list(bag.messages())


def packed(street: Path, path: Path, storage: StoragePlugin, mode: CompressionMode) -> None:
    """As `ros2 bag record --compression-mode file|message --compression-format zstd` leaves it."""
    with BagReader(street) as bag:
        writer = Writer(path, version=8, storage_plugin=storage)
        writer.set_compression(mode, CompressionFormat.ZSTD)
        with writer:
            connections = {
                topic.name: writer.add_connection(topic.name, topic.type, typestore=bag.typestore)
                for topic in bag.topics.values()
            }
            for message in bag.messages():
                writer.write(connections[message.topic], message.time_ns, message.data)


def split(street: Path, path: Path, storage: str) -> None:
    """Two files in one bag, as `ros2 bag record --max-bag-duration` leaves them."""
    everything, parts = messages(street), []
    for index, part in enumerate((everything[: len(everything) // 2], everything[len(everything) // 2 :])):
        with BagWriter(path.parent / f"part{index}", storage=storage) as bag:
            write_all(bag, part)
        parts.append(path.parent / f"part{index}")
    metadata = [yaml.safe_load((part / "metadata.yaml").read_text())["rosbag2_bagfile_information"] for part in parts]
    path.mkdir()
    for part, one in zip(parts, metadata):
        shutil.copy(part / one["relative_file_paths"][0], path)
    first, second = metadata
    for mine, other in zip(first["topics_with_message_count"], second["topics_with_message_count"], strict=True):
        assert mine["topic_metadata"]["name"] == other["topic_metadata"]["name"]
        mine["message_count"] += other["message_count"]
    first["relative_file_paths"] += second["relative_file_paths"]
    first["files"] += second["files"]
    first["message_count"] += second["message_count"]
    first["duration"] = {"nanoseconds": everything[-1].time_ns - everything[0].time_ns}
    (path / "metadata.yaml").write_text(yaml.safe_dump({"rosbag2_bagfile_information": first}))


@pytest.fixture(scope="module")
def report(street, tiny_model) -> dict:
    return evaluate_bag(street, tiny_model).report


def test_the_report_has_what_the_frames_amount_to(street, tiny_model: Model, report):
    expected: list[int] = []
    passed: list[SegmentedFrame | Unusable] = []
    evaluation = evaluate_bag(street, tiny_model, on_start=expected.append, sinks=[passed.append])
    assert expected == [FRAMES]
    confusion = ConfusionMatrix(11)
    for frame in passed:
        assert isinstance(frame, SegmentedFrame)
        confusion.update(frame.source.truth, frame.segmentation.labels)
    assert evaluation.report["scores"]["miou"] == pytest.approx(confusion.miou(), abs=1e-6)
    assert evaluation.report["confusion"] == confusion.matrix.tolist()
    assert report["bag"]["camera"] == IMAGE_TOPIC and report["bag"]["truth"] == f"topic {GROUND_TRUTH_TOPIC}"
    assert report["bag"]["topics"][IMAGE_TOPIC] == [IMAGE, FRAMES]
    assert report["frames"]["references"][:4] == [0, 1, 2, 2]
    assert all(len(column) == FRAMES for name, column in report["frames"].items() if name in ("miou", "reset"))
    assert len(report["frames"]["intersection"]) == FRAMES * 11
    timing = report["timing"]
    assert timing["network_s"] <= timing["segmenter_s"] + 0.002 and len(timing["frames_ms"]) == FRAMES
    json.dumps(report, allow_nan=False)
    worst = evaluation.pictures.worst.frames
    assert worst[0].number == int(np.argmin(report["frames"]["miou"])) and worst[0].image.shape == (64, 96, 3)
    assert evaluation.pictures.flicker.shape == (64, 96) and evaluation.pictures.backdrop is not None


def test_the_same_bag_gives_the_same_report_but_for_times(street, tiny_model: Model, report):
    assert untimed(evaluate_bag(street, tiny_model).report) == untimed(report)


@pytest.mark.parametrize("storage", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
@pytest.mark.parametrize("mode", [CompressionMode.FILE, CompressionMode.MESSAGE, CompressionMode.STORAGE])
def test_a_packed_bag_has_the_same_labels(street, tiny_model: Model, report, tmp_path, storage, mode):
    if (storage, mode) == (StoragePlugin.SQLITE3, CompressionMode.STORAGE):
        pytest.skip("SQLite packs nothing itself")
    packed(street, tmp_path / "packed", storage, mode)
    result = evaluate_bag(tmp_path / "packed", tiny_model).report
    assert (result["labels_sha256"], result["scores"]) == (report["labels_sha256"], report["scores"])


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_split_bag_is_one_stream(street, tiny_model: Model, report, tmp_path, storage):
    split(street, tmp_path / "split", storage)
    result = evaluate_bag(tmp_path / "split", tiny_model).report
    assert (result["labels_sha256"], result["scores"]) == (report["labels_sha256"], report["scores"])


def test_lossless_compressed_images_have_the_same_labels(street, tiny_model: Model, report, tmp_path):
    topic = "/front/image_raw/compressed"
    with BagReader(street) as bag, BagWriter(tmp_path / "png") as writer:
        for frame in bag.frames(IMAGE_TOPIC):
            _, png = cv2.imencode(".png", cv2.cvtColor(frame.image(), cv2.COLOR_RGB2BGR))
            data = serialise_compressed(png.tobytes(), "png", frame.stamp_ns, "camera_optical_frame")
            writer.write(RawMessage(topic, COMPRESSED_IMAGE, frame.camera.time_ns, data))
    result = evaluate_bag(tmp_path / "png", tiny_model).report
    assert result["bag"]["camera"] == topic and result["bag"]["truth"] == "none"
    assert result["labels_sha256"] == report["labels_sha256"]
    assert result["scores"]["miou"] is None and result["scores"]["steady"] is not None
    assert len(result["worst"]) > 0  # by confidence


def test_a_part_of_a_bag(street, tiny_model: Model, report):
    expected: list[int] = []
    settings = BagSettings(start_s=0.35, duration_s=0.5)
    part = evaluate_bag(street, tiny_model, settings, on_start=expected.append).report
    stamps = report["frames"]["stamp_ns"]
    assert part["frames"]["stamp_ns"] == [stamp for stamp in stamps if 0.35e9 <= stamp - stamps[0] < 0.85e9]
    assert abs(expected[0] - part["scores"]["frames"]) <= 1
    assert part["frames"]["references"][0] == 0


def test_resets_are_listed_with_their_cause(street, tiny_model: Model):
    result = evaluate_bag(street, tiny_model, BagSettings(max_gap_s=0.01)).report
    assert result["resets"] == [{"number": number, "cause": "gap"} for number in range(1, FRAMES)]
    assert set(result["frames"]["references"]) == {0}
    assert result["scores"]["mvc8"] is None


def test_unusable_images_are_counted_and_some_are_quoted(street, tiny_model: Model, report, tmp_path):
    with BagWriter(tmp_path / "broken") as writer:
        for message in messages(street):
            writer.write(message)
            if message.topic == IMAGE_TOPIC:
                for offset in range(1, 9):
                    stamp = message.stamp_ns + offset
                    data = serialise_image(np.zeros((2, 2), np.uint8), "smell", stamp, "optical")
                    writer.write(RawMessage(IMAGE_TOPIC, IMAGE, message.time_ns + offset, data))
    result = evaluate_bag(tmp_path / "broken", tiny_model).report
    assert result["bag"]["unusable"] == 8 * FRAMES and len(result["problems"]) == 100
    assert "the encoding 'smell' is not known" in result["problems"][0]
    assert result["labels_sha256"] == report["labels_sha256"]
    assert result["frames"]["number"] == list(range(0, 9 * FRAMES, 9))


def test_a_bag_without_a_usable_image_is_refused(write_bag: Callable[..., Path], camera_messages, tiny_model: Model):
    path = write_bag(camera_messages(2))  # of 6 x 8 pixels
    with pytest.raises(BagError, match=r"no usable image on /camera/image_raw \(2 unusable; the first: .*8x6 px"):
        evaluate_bag(path, tiny_model)


def test_a_truth_that_does_not_fit_is_refused(street, tiny_model: Model, tmp_path):
    with BagWriter(tmp_path / "wrong") as writer:
        for message in messages(street):
            if message.topic == GROUND_TRUTH_TOPIC:
                data = serialise_image(np.full((64, 96), 11, np.uint8), "mono8", message.stamp_ns, "")
                message = RawMessage(message.topic, IMAGE, message.time_ns, data)
            writer.write(message)
    with pytest.raises(BagError, match="the topic /camera/ground_truth cannot judge the labels: the truth holds id 11"):
        evaluate_bag(tmp_path / "wrong", tiny_model)
    evaluate_bag(tmp_path / "wrong", tiny_model, BagSettings(void=(11,), duration_s=0.2))


def test_a_truth_that_belongs_to_no_image_is_told(street, tiny_model: Model, tmp_path):
    with BagWriter(tmp_path / "late") as writer:
        for message in messages(street):
            if message.topic == GROUND_TRUTH_TOPIC:
                data = serialise_image(np.zeros((64, 96), np.uint8), "mono8", message.stamp_ns + 1, "")
                message = RawMessage(message.topic, IMAGE, message.time_ns, data)
            writer.write(message)
    result = evaluate_bag(tmp_path / "late", tiny_model, BagSettings(duration_s=0.1)).report
    assert result["problems"] == ["no image has a ground truth: topic /camera/ground_truth"]
    assert result["scores"]["judged_frames"] == 0
    (tmp_path / "masks").mkdir()
    for number in (1, 7):
        assert cv2.imwrite(str(tmp_path / "masks" / f"{number}.png"), np.zeros((64, 96), np.uint8))
    part = {"truth": str(tmp_path / "masks"), "duration_s": 0.1}
    assert evaluate_bag(street, tiny_model, BagSettings(**part)).report["scores"]["judged_frames"] == 1
    with pytest.raises(BagError, match="no image has a mask of the masks in masks/, matched by number"):
        evaluate_bag(street, tiny_model, BagSettings(**part, every=2, max_gap_s=9.0))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"start_s": -1}, "the start is -1 s"),
        ({"start_s": float("nan")}, "the start is nan s"),
        ({"duration_s": 0}, "the duration is 0 s"),
        ({"max_gap_s": float("inf")}, "the longest gap is inf s"),
        ({"void": (256,)}, r"void ids are \[256\]; 0 to 255 are allowed"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, sentence):
    with pytest.raises(BagError, match=sentence):
        BagSettings(**settings)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_bag(tiny_checkpoint: Path, tmp_path):
    """Of fifty frames more, each of a quarter of a megabyte, a row of numbers stays."""
    segmenter = StreamingSegmenter(load_checkpoint(tiny_checkpoint), input_size=(32, 48))

    def peak(frames: int) -> int:
        random = np.random.default_rng(0)
        with BagWriter(tmp_path / str(frames)) as writer:
            for number in range(frames):
                image = np.repeat(np.repeat(random.integers(0, 256, (24, 32, 3), np.uint8), 10, 0), 10, 1)
                stamp = 1 + number * 66_666_667
                writer.write(RawMessage(IMAGE_TOPIC, IMAGE, stamp, serialise_image(image, "rgb8", stamp, "")))
        tracemalloc.start()
        try:
            evaluate_bag(tmp_path / str(frames), Model(segmenter, "tiny", ""))
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(80) - peak(30) < 50 * 230_400 / 4
