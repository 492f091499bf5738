"""An evaluation that is stopped, wherever that is, goes on to the very results that it was on its way to."""

from __future__ import annotations

import multiprocessing
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from sdcpc_ros.bags import evaluation_job, evaluation_state, fleet
from sdcpc_ros.bags.bag_evaluation import BagEvaluation, BagSettings, Model, evaluate_bag
from sdcpc_ros.bags.evaluation_job import Job, ModelChoice, read_report, run_job
from sdcpc_ros.bags.evaluation_state import read_state, write_state
from sdcpc_ros.bags.messages import IMAGE, serialise_image
from sdcpc_ros.bags.reader import BagReader, RawMessage
from sdcpc_ros.bags.split_writer import parts_folder
from sdcpc_ros.bags.street_bag import GROUND_TRUTH_TOPIC, IMAGE_TOPIC, StreetBag, write_street_bag
from sdcpc_ros.bags.writer import BagWriter

FRAMES = 18  # of the street


@pytest.fixture(scope="module")
def drive(street: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The street with all that a state has to remember: broken images, a gap, frames without truth, a late truth."""
    path = tmp_path_factory.mktemp("bags") / "drive"
    with BagReader(street) as bag, BagWriter(path, latched=["/tf_static"]) as writer:
        images = [message.stamp_ns for message in bag.messages(IMAGE_TOPIC)]
        moved: list[RawMessage] = []
        for message in bag.messages():
            index = images.index(message.stamp_ns)
            if message.topic == GROUND_TRUTH_TOPIC and index in (5, 6, 13):
                continue
            leap_ns = 3_000_000_000 if index >= 11 else 0
            late_ns = 150_000_000 if message.topic == GROUND_TRUTH_TOPIC and index in (3, 8) else 0
            data = message.data[:4] + _stamp(message.stamp_ns + leap_ns) + message.data[12:]
            moved.append(replace(message, time_ns=message.time_ns + leap_ns + late_ns, data=data))
            if message.topic == IMAGE_TOPIC and index in (0, 2, 9, 12):
                broken = serialise_image(np.zeros((2, 2), np.uint8), "smell", message.stamp_ns + leap_ns + 7, "")
                moved.append(RawMessage(IMAGE_TOPIC, IMAGE, message.time_ns + leap_ns + 7, broken))
        writer.write_all(sorted(moved, key=lambda message: message.time_ns))
    return path


def _stamp(stamp_ns: int) -> bytes:
    seconds, nanoseconds = divmod(stamp_ns, 10**9)
    return np.array([seconds, nanoseconds], "<u4").tobytes()


def with_states(bag: Path, model: Model, folder: Path, settings: BagSettings | None = None) -> BagEvaluation:
    """Evaluate without a stop, and leave the state behind each frame in a file of its own."""
    numbers = iter(range(1000))
    return evaluate_bag(bag, model, settings, keep=lambda make: write_state(folder / f"{next(numbers)}", {}, make()))


def assert_same(one: BagEvaluation, other: BagEvaluation) -> None:
    assert {**one.report, "timing": None} == {**other.report, "timing": None}
    pictures, others = (asdict(evaluation.pictures) for evaluation in (one, other))
    np.testing.assert_equal(pictures, others)


def test_stopped_after_any_frame_it_comes_to_the_same_report_and_pictures(
    drive, tiny_model: Model, recurrent_model: Model, tmp_path
):
    alone = with_states(drive, tiny_model, tmp_path)
    whole = with_states(drive, recurrent_model, tmp_path)
    assert whole.report["labels_sha256"] != alone.report["labels_sha256"]  # what was seen before does count
    report = whole.report
    assert len(report["resets"]) == 1 and report["bag"]["unusable"] == 4 and report["scores"]["judged_frames"] == 15
    used = report["frames"]["number"]
    for frame in range(FRAMES):
        left: list[int] = []
        again = evaluate_bag(
            drive, recurrent_model, earlier=read_state(tmp_path / f"{frame}", {}), on_start=left.append
        )
        assert_same(again, whole)
        assert again.report["timing"]["resumed_at"] == [used[frame] + 1]
        assert left == [report["bag"]["images"] - used[frame] - 1]
        assert len(again.report["timing"]["frames_ms"]) == FRAMES
    assert report["timing"]["resumed_at"] == []


@pytest.mark.parametrize(
    "settings",
    [
        BagSettings(truth="none"),
        BagSettings(start_s=0.35, duration_s=3.4, max_gap_s=0.05),
        BagSettings(every=3, max_gap_s=10.0),
    ],
)
def test_the_same_of_a_part_of_a_bag_and_without_a_truth(drive, tiny_model: Model, tmp_path, settings):
    whole = with_states(drive, tiny_model, tmp_path, settings)
    for frame in (0, 4, len(whole.report["frames"]["number"]) - 1):
        assert_same(evaluate_bag(drive, tiny_model, settings, earlier=read_state(tmp_path / f"{frame}", {})), whole)


@pytest.mark.parametrize(
    ("storage", "mode"),
    [
        (StoragePlugin.SQLITE3, CompressionMode.NONE),
        (StoragePlugin.SQLITE3, CompressionMode.MESSAGE),
        (StoragePlugin.SQLITE3, CompressionMode.FILE),
        (StoragePlugin.MCAP, CompressionMode.STORAGE),
        (StoragePlugin.MCAP, CompressionMode.FILE),
    ],
)
def test_the_same_of_every_kind_of_storage(drive, tiny_model: Model, tmp_path, storage, mode):
    with BagReader(drive) as bag:
        writer = Writer(tmp_path / "packed", version=8, storage_plugin=storage)
        writer.set_compression(mode, CompressionFormat.ZSTD)
        with writer:
            connections = {t: writer.add_connection(t, bag.topics[t].type, typestore=bag.typestore) for t in bag.topics}
            for message in bag.messages():
                writer.write(connections[message.topic], message.time_ns, message.data)
    whole = with_states(tmp_path / "packed", tiny_model, tmp_path)
    for frame in (7, 12):
        assert_same(evaluate_bag(tmp_path / "packed", tiny_model, earlier=read_state(tmp_path / f"{frame}", {})), whole)


@pytest.fixture
def job(drive: Path, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    """Saves after every frame, and draws no page."""
    monkeypatch.setattr(evaluation_state, "LARGEST_SHARE", float("inf"))
    monkeypatch.setattr(evaluation_job, "write_report", lambda path, report, pictures: path.write_text("a page"))
    shutil.copytree(drive, tmp_path / "drive")
    model = ModelChoice(tiny_checkpoint)
    return Job(tmp_path / "drive", tmp_path / "out", model, BagSettings(), labelled_bag=True, save_every_s=1e-9)


def stop(job: Job, after: int) -> None:
    """Begin, or go on, and be interrupted with so many images."""
    left = after

    def count() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_job(job, on_frame=count)


def messages(path: Path) -> list[RawMessage]:
    with BagReader(path) as bag:
        assert sum(topic.message_count for topic in bag.topics.values()) == len(list(bag.messages()))
        return list(bag.messages())


def untimed(report: dict[str, Any] | None) -> dict[str, Any]:
    assert report is not None
    return {**report, "timing": None}


def test_a_job_that_is_stopped_again_and_again_leaves_the_same_files(job, tmp_path):
    reference = replace(job, output=tmp_path / "reference", save_every_s=1000.0)
    run_job(reference)
    assert len(list(reference.files.labelled_bag.glob("*.mcap"))) == 1
    for after in (4, 3, 9):
        stop(job, after)
    notes: list[str] = []
    report = run_job(job, on_note=notes.append)
    assert untimed(report) == untimed(read_report(reference.files.report))
    assert len(report["timing"]["resumed_at"]) == 3
    assert notes == [f"'{job.bag}' goes on with image {report['timing']['resumed_at'][-1]}"]
    assert len(list(job.files.labelled_bag.glob("*.mcap"))) > 3
    assert messages(job.files.labelled_bag) == messages(reference.files.labelled_bag)
    assert sorted(path.name for path in job.output.iterdir()) == ["labelled_bag", "report.html", "report.json"]
    with BagReader(job.files.labelled_bag) as bag, BagReader(reference.files.labelled_bag) as other:
        assert bag.topics == other.topics and (bag.start_ns, bag.duration_s) == (other.start_ns, other.duration_s)


def test_every_file_of_a_labelled_bag_that_was_stopped_is_whole_and_what_came_after_it_is_dropped(job):
    stop(job, 8)
    folder = parts_folder(job.files.labelled_bag)
    files = sorted(folder.glob("*.mcap"))
    assert len(files) > 2
    for file in files:
        assert messages(file)
    (folder / "labelled_bag_99.mcap").write_bytes(b"half a file")
    (folder / ".labelled_bag_98.x").mkdir()
    run_job(job)
    assert not list(job.files.labelled_bag.glob("*_9?.*"))
    with BagReader(job.files.labelled_bag) as bag:
        assert bag.topics["/segmentation_node/camera/label/image_raw"].message_count == FRAMES


def test_a_job_that_is_stopped_between_its_labelled_bag_and_its_report_goes_on(job, monkeypatch):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(evaluation_job, "write_report", interrupted)
        run_job(job)
    assert job.files.labelled_bag.is_dir()
    before = messages(job.files.labelled_bag)
    notes: list[str] = []
    run_job(job, on_note=notes.append)
    assert "goes on with image" in notes[0] and messages(job.files.labelled_bag) == before


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("bag", "has changed since: the bag"),
        ("model", "has changed since: the model"),
        ("settings", "has changed since: the settings"),
        ("labelled bag", "has changed since: the settings"),
        ("version", "has changed since: a version"),
        ("threads", "has changed since: the machine or its number of threads"),
        ("state", "it is damaged"),
        ("part", "is not there any more, or not as it was"),
    ],
)
def test_what_has_changed_begins_anew_and_says_why(job, monkeypatch, tiny_checkpoint, tmp_path, change, sentence):
    job = replace(job, settings=BagSettings(duration_s=0.4))
    stop(job, 5)
    if change == "bag":
        write_street_bag(job.bag, StreetBag(seed=4, size=(64, 96), length=6, rate_hz=15.0))
    elif change == "model":
        shutil.copy(tiny_checkpoint, tmp_path / "other.safetensors")
        job = replace(job, model=ModelChoice(tmp_path / "other.safetensors"))
    elif change == "settings":
        job = replace(job, settings=BagSettings(duration_s=0.4, void=(7,)))
    elif change == "labelled bag":
        job = replace(job, labelled_bag=False)
    elif change == "version":
        monkeypatch.setattr(evaluation_job, "versions", lambda: {"torch": "0"})
    elif change == "threads":
        monkeypatch.setattr(torch, "get_num_threads", lambda: 99)
    elif change == "state":
        content = job.files.state.read_bytes()
        job.files.state.write_bytes(content[: len(content) // 2])
    elif change == "part":
        (parts_folder(job.files.labelled_bag) / "labelled_bag_1.mcap").unlink()
    notes: list[str] = []
    report = run_job(job, on_note=notes.append)
    assert f"'{job.bag}' begins anew; the state of the evaluation that was stopped is of no use: " in notes[-1]
    assert sentence in notes[-1] and report["timing"]["resumed_at"] == []
    assert not job.files.state.exists() and not parts_folder(job.files.labelled_bag).exists()
    afresh = run_job(replace(job, output=tmp_path / "afresh"))
    assert untimed(report) == untimed(afresh)
    if job.labelled_bag:
        assert messages(job.files.labelled_bag) == messages(tmp_path / "afresh" / "labelled_bag")


def test_what_cannot_be_evaluated_leaves_no_state(job):
    stop(job, 6)
    wrong = replace(job, settings=BagSettings(truth="/nowhere"))
    with pytest.raises(ValueError, match="no topic /nowhere"):
        run_job(wrong)
    assert not job.files.state.exists() and not parts_folder(job.files.labelled_bag).exists()


def test_workers_and_ray_go_on_too_and_say_so_and_force_does_not(job, monkeypatch):
    monkeypatch.setattr(fleet, "_use_one_core", lambda: None)  # it is this process that works
    for work in (fleet._work_for_ray, fleet._work):
        monkeypatch.setattr(fleet, "_frames_done", multiprocessing.Value("q", 0))
        job.files.clear()
        stop(job, 6)
        outcome = work(job, False)
        assert outcome.status == "done" and "goes on with image" in outcome.notes[0]
        stopped = replace(job, output=job.output / work.__name__)
        stop(stopped, 6)
        assert work(stopped, True).notes == ()
        report = read_report(stopped.files.report)
        assert report is not None and report["timing"]["resumed_at"] == []
