"""What a Rerun recording holds, by Rerun's own reader."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

rr = pytest.importorskip("rerun", reason="rerun-sdk is not installed: pip install '.[rerun]'")

from sdcpc_ros.labels.label_set import CAMVID_11  # noqa: E402
from sdcpc_ros.viewing.recording import RerunRecording, ViewingError  # noqa: E402

_SPEC = importlib.util.spec_from_file_location("reading", Path(__file__).with_name("reading.py"))
_READING = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_READING)

START_NS = 1_700_000_000_123_456_789


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Four frames, the first two with truth, the last one after a gap; then a picture that could not be used."""
    file = tmp_path / "drive.rrd"
    with RerunRecording(CAMVID_11, "drive", file) as recording:
        for number in range(4):
            labels = np.full((48, 64), 3, np.uint8)
            truth = labels.copy()
            truth[:24] = 255 if number == 0 else 5
            recording.add(
                number,
                START_NS + number * 100_000_000,
                labels,
                image=np.full((48, 64, 3), 40 * number, np.uint8),
                confidence=np.full((48, 64), 51, np.uint8),
                truth=truth if number < 2 else None,
                reset="gap" if number == 3 else None,
            )
        recording.note(4, "image 4 is no picture")
        assert not file.exists()
    return file


def test_every_frame_is_on_both_timelines(file):
    recording = _READING.Recording(file)
    for entity, column in (
        ("/camera/image", "EncodedImage:blob"),
        ("/camera/labels", "SegmentationImage:buffer"),
        ("/camera/confidence", "EncodedImage:blob"),
    ):
        assert recording.frames(entity, column) == [0, 1, 2, 3]
        assert recording.stamps_ns(entity) == [START_NS + number * 100_000_000 for number in range(4)]
    ids = recording.rows["/camera/labels"][2]["SegmentationImage:buffer"][0]
    assert set(ids) == {3} and len(ids) == 48 * 64


def test_classes_have_the_label_sets_names_and_colours(file):
    classes = _READING.Recording(file).classes()
    assert {number: name for number, (name, _) in classes.items()} == {
        **dict(enumerate(CAMVID_11.class_names)),
        255: "unlabelled",
    }
    for number, (red, green, blue) in enumerate(CAMVID_11.colours):
        assert classes[number][1] == red << 24 | green << 16 | blue << 8 | 255
    assert classes[255][1] & 255 == 0  # transparent


def test_a_truth_is_scored_and_taken_away_again(file):
    recording = _READING.Recording(file)
    assert recording.frames("/camera/truth", "SegmentationImage:buffer") == [0, 1]
    assert recording.frames("/camera/truth", "Clear:is_recursive") == [2]
    assert recording.scores("miou") == [1.0, pytest.approx(0.25)]  # road is half right, the tree was missed
    assert recording.scores("confidence") == [pytest.approx(0.2)] * 4


def test_resets_and_problems_are_told(file):
    recording = _READING.Recording(file)
    assert recording.log() == ["frame 3: memory emptied: gap", "image 4 is no picture"]
    assert recording.frames("/log", "stamp") == [3]


def test_a_recording_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="truth"), RerunRecording(CAMVID_11, "drive", tmp_path / "a.rrd") as recording:
        recording.add(0, 0, np.zeros((4, 4), np.uint8), truth=np.zeros((5, 5), np.uint8))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "said"), [("a.txt", "ends in .rrd"), ("none/a.rrd", "there is no folder '.*none'")])
def test_a_file_that_cannot_be_written_is_refused(tmp_path, name, said):
    with pytest.raises(ViewingError, match=said):
        RerunRecording(CAMVID_11, "drive", tmp_path / name)


def test_without_a_display_there_is_a_sentence(monkeypatch):
    for variable in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    with pytest.raises(ViewingError, match=r"no display for Rerun's viewer; write a file with -o FILE\.rrd"):
        RerunRecording(CAMVID_11, "drive", None)
