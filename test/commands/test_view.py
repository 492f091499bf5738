"""`sdcpc view` and `evaluate-bag --rerun`, read back by Rerun's own reader."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from bag_fixtures import write_all

pytest.importorskip("rerun", reason="rerun-sdk is not installed: pip install '.[rerun]'")

from sdcpc_ros import cli
from sdcpc_ros.bags.messages import LABEL_INFO, decode_labels, serialise_image, serialise_label_info
from sdcpc_ros.bags.reader import BagReader, RawMessage
from sdcpc_ros.bags.writer import BagWriter
from sdcpc_ros.labels.label_set import CAMVID_11
from sdcpc_ros.replay.image_bags import StreetBag, write_street_bag

_FILE = Path(__file__).parents[1] / "viewing" / "reading.py"
_SPEC = importlib.util.spec_from_file_location("reading", _FILE)
_READING = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_READING)

LABEL, INFO = "/segmentation_node/camera/label/image_raw", "/segmentation_node/camera/label/label_info"


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bags") / "street"
    write_street_bag(path, StreetBag(seed=4, size=(64, 96), length=5, rate_hz=15.0))
    return path


@pytest.fixture(scope="module")
def evaluated(street: Path, tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an evaluation with --rerun, evaluated twice: the recording is written again."""
    out = tmp_path_factory.mktemp("out")
    command = ["evaluate-bag", str(street), "--model", str(tiny_checkpoint), "-o", str(out), "--labelled-bag"]
    assert cli.main(command) == 0
    recording = out / "street" / "street.rrd"
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert cli.main([*command, "--rerun", str(recording)]) == 0
    assert f"recording    {recording}\n" in printed.getvalue()
    return out / "street"


@pytest.fixture
def view(tmp_path: Path, tiny_checkpoint: Path) -> Callable[..., object]:
    """Runs it with these arguments and reads what it has written."""

    def run(*arguments: object) -> object:
        assert cli.main(["view", *map(str, arguments), "-o", str(tmp_path / "out.rrd")]) == 0
        return _READING.Recording(tmp_path / "out.rrd")

    return run


def check_frames(recording, frames: int) -> None:
    for entity, column in (
        ("/camera/image", "EncodedImage:blob"),
        ("/camera/labels", "SegmentationImage:buffer"),
        ("/camera/confidence", "EncodedImage:blob"),
    ):
        assert recording.frames(entity, column) == list(range(frames))
    assert [name for name, _ in recording.classes().values()] == [*CAMVID_11.class_names, "unlabelled"]


def test_an_evaluation_leaves_its_frames_and_their_scores(evaluated, street):
    recording = _READING.Recording(evaluated / "street.rrd")
    report = json.loads((evaluated / "report.json").read_text())
    check_frames(recording, 5)
    assert recording.stamps_ns("/camera/labels") == report["frames"]["stamp_ns"]
    assert recording.scores("miou") == report["frames"]["miou"]
    assert recording.frames("/camera/truth", "SegmentationImage:buffer") == [0, 1, 2, 3, 4]


def test_a_labelled_bag_is_shown_as_it_is(view, evaluated):
    """No model is loaded; masks, confidence and scores are those of the evaluation."""
    recording, made = view(evaluated / "labelled_bag"), _READING.Recording(evaluated / "street.rrd")
    check_frames(recording, 5)
    for row, other in zip(recording.rows["/camera/labels"], made.rows["/camera/labels"]):
        assert row["SegmentationImage:buffer"] == other["SegmentationImage:buffer"]
        assert row["stamp"] == other["stamp"]
    for name in ("miou", "steady", "confidence"):
        assert recording.scores(name) == made.scores(name)


def test_masks_in_16sc1_are_shown_as_those_in_mono8(view, evaluated, tmp_path):
    """The node publishes them with label_encoding 16SC1."""
    with BagReader(evaluated / "labelled_bag") as bag, BagWriter(tmp_path / "signed") as signed:
        for message in bag.messages():
            if message.topic == LABEL:
                ids = decode_labels(bag.deserialise(message)).astype("<i2")
                data = serialise_image(np.where(ids == 255, -1, ids).astype("<i2"), "16SC1", message.stamp_ns, "")
                message = replace(message, data=data)
            signed.write(message)
    shown, expected = view(tmp_path / "signed"), _READING.Recording(evaluated / "street.rrd")
    for row, other in zip(shown.rows["/camera/labels"], expected.rows["/camera/labels"], strict=True):
        assert row["SegmentationImage:buffer"] == other["SegmentationImage:buffer"]


def test_a_bag_without_masks_is_segmented_and_judged(view, street, tiny_checkpoint):
    recording = view(street, "--model", tiny_checkpoint)
    check_frames(recording, 5)
    assert len(recording.scores("miou")) == 5


def test_a_mask_that_is_missing_is_told(view, evaluated, tmp_path):
    with BagReader(evaluated / "labelled_bag") as bag:
        masks = list(bag.messages(LABEL))
        others = [message for message in bag.messages() if message.topic != LABEL]
        with BagWriter(tmp_path / "lossy") as lossy:
            write_all(lossy, sorted([*others, *masks[:2], *masks[3:]], key=lambda message: message.time_ns))
    recording = view(tmp_path / "lossy")
    assert recording.frames("/camera/labels", "SegmentationImage:buffer") == [0, 1, 3, 4]
    assert recording.log() == [f"image 2 has no mask on {LABEL}"]


def test_images_are_segmented_at_their_rate(view, tiny_checkpoint, tmp_path):
    (tmp_path / "images").mkdir()
    for number in range(3):
        picture = np.full((48, 64, 3), 60 * number, np.uint8)
        assert cv2.imwrite(str(tmp_path / "images" / f"{number}.png"), picture)
    recording = view(tmp_path / "images", "--model", tiny_checkpoint, "--rate", 10)
    check_frames(recording, 3)
    assert recording.stamps_ns("/camera/image") == [0, 100_000_000, 200_000_000]
    assert recording.rows["/scores/miou"] == []


def with_two_nodes(evaluated: Path, path: Path, *, infos: bool) -> Path:
    """A labelled bag with the masks under a second name too; or without what names the classes."""
    with BagReader(evaluated / "labelled_bag") as bag, BagWriter(path) as out:
        for message in bag.messages():
            if message.topic == INFO and not infos:
                continue
            out.write(message)
            if infos and message.topic == LABEL:
                out.write(RawMessage("/other/camera/label/image_raw", message.type, message.time_ns, message.data))
        if infos:
            info = serialise_label_info(CAMVID_11, 0, "")
            out.write(RawMessage("/other/camera/label/label_info", LABEL_INFO, message.time_ns, info))
    return path


def fails(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert cli.main(["view", *map(str, arguments)]) == 1
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    return told


def test_of_several_masks_one_is_chosen(view, evaluated, tmp_path, capsys):
    bag = with_two_nodes(evaluated, tmp_path / "two", infos=True)
    told = fails(capsys, bag, "-o", tmp_path / "a.rrd")
    assert "several topics of masks" in told and f"(--labels): /other/camera/label/image_raw, {LABEL}" in told
    assert "no masks on '/nope'; it has them on: " in fails(capsys, bag, "--labels", "/nope", "-o", tmp_path / "a.rrd")
    recording = view(bag, "--labels", "/other/camera/label/image_raw")
    assert recording.frames("/camera/labels", "SegmentationImage:buffer") == [0, 1, 2, 3, 4]
    assert "/camera/confidence" not in recording.rows


def test_what_cannot_be_shown_is_a_sentence(evaluated, tmp_path, capsys):
    nameless = with_two_nodes(evaluated, tmp_path / "nameless", infos=False)
    assert "label_info that names the classes; with --model" in fails(capsys, nameless, "-o", tmp_path / "a.rrd")
    assert "there is no file at 'nowhere.mp4'" in fails(capsys, "nowhere.mp4", "-o", tmp_path / "a.rrd")
    assert "'a.mp4' is not the name of a recording; a file that" in fails(capsys, nameless, "-o", "a.mp4")
    (tmp_path / "folder.rrd").mkdir()
    assert "is not the name of a recording" in fails(capsys, nameless, "-o", tmp_path / "folder.rrd")
    assert not (tmp_path / "a.rrd").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "either an input or --live is needed"),
        (["drive.mp4", "--live"], "either an input or --live is needed"),
        (["drive.mp4", "--node", "/a"], "--node goes with --live"),
        (["--live", "--rate", "2"], "do not go with --live: the node segments"),
        (["drive.mp4", "--labels", "/a/label/image_raw"], "--labels goes with a bag that holds masks"),
    ],
)
def test_options_that_do_not_go_together_are_refused(arguments, said, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["view", *arguments])
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err


def test_of_several_bags_no_recording_is_written(capsys):
    with pytest.raises(SystemExit):
        cli.main(["evaluate-bag", "a.mcap", "b.mcap", "--rerun", "a.rrd"])
    assert "--rerun goes with one bag" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["view", "a.mp4", "-o", "a.rrd"], ["evaluate-bag", "a.mcap", "--rerun", "a.rrd"]])
def test_without_rerun_a_sentence_says_how_to_get_it(command):
    code = "import sys; sys.modules['rerun'] = None\nfrom sdcpc_ros.cli import main\nsys.exit(main(sys.argv[1:]))"
    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith(f"sdcpc {command[0]}: no Python package 'rerun'; to get it: ")
    assert "sdcpc_ros[rerun]" in done.stderr or "rerun-sdk" in done.stderr
    assert done.stderr.count("\n") == 1
