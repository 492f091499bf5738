"""`sdcpc evaluate-bag`: options in, files, words and an exit status out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from palette_png import palette_png

from sdcpc_ros import cli
from sdcpc_ros.bags.reader import BagReader
from sdcpc_ros.labels.label_set import CAMVID_11
from sdcpc_ros.replay import evaluation_job
from sdcpc_ros.replay.image_bags import StreetBag, write_street_bag

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def quick_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation_job, "write_report", lambda path, report, pictures: path.write_text("a page"))


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bags") / "street"
    write_street_bag(path, StreetBag(seed=4, size=(64, 96), length=5, rate_hz=15.0))
    return path


@pytest.fixture
def evaluate(tiny_checkpoint: Path, tmp_path: Path) -> Callable[..., int]:
    def run(*arguments: object) -> int:
        options = ["--model", str(tiny_checkpoint), "--output", str(tmp_path / "out")]
        return cli.main(["evaluate-bag", *options, *map(str, arguments)])

    return run


def test_one_bag_is_told_and_not_evaluated_twice(street, evaluate, tmp_path, capsys):
    assert evaluate(street, "--labelled-bag", "--min-confidence", 0) == 0
    told = capsys.readouterr()
    assert "tiny on street" in told.out and "mVC8 %" in told.out and told.err == ""
    assert str(tmp_path / "out" / "street" / "labelled_bag") in told.out
    report = json.loads((tmp_path / "out" / "street" / "report.json").read_text())
    assert (report["scores"]["frames"], report["bag"]["path"]) == (5, str(street))
    assert evaluate(street) == 0
    assert "Nothing has changed since this was evaluated" in capsys.readouterr().out
    assert evaluate(street, "--force") == 0
    assert "Nothing has changed" not in capsys.readouterr().out


def test_every_other_image_alone(street, evaluate, tmp_path):
    assert evaluate(street, "--every", 2) == 0
    report = json.loads((tmp_path / "out" / "street" / "report.json").read_text())
    assert report["frames"]["number"] == [0, 2, 4] and report["scores"]["judged_frames"] == 3
    assert report["settings"]["every"] == 2 and "--every 2" in report["command"]
    assert report["bag"]["unusable"] == 0 and report["resets"] == []


def write_masks(folder: Path, street: Path, form: str) -> Path:
    """The bag's own truth as files that people have."""
    folder.mkdir()
    with BagReader(street) as bag:
        for number, frame in enumerate(bag.frames("/camera/image_raw", "/camera/ground_truth")):
            ids = frame.labels("/camera/ground_truth")
            if form == "palette":
                (folder / f"{number:04d}.png").write_bytes(palette_png(ids, CAMVID_11.colours))
                continue
            picture = {
                "ids": ids,
                "16 bits": np.where(ids == 255, 65535, ids.astype(np.uint16)),
                "colours": CAMVID_11.palette()[ids][..., ::-1],
                "double size": ids.repeat(2, 0).repeat(2, 1),
                "half size": ids[::2, ::2],
                "coarse": ids[::2, ::2].repeat(2, 0).repeat(2, 1),
            }[form]
            assert cv2.imwrite(str(folder / f"{number:04d}.png"), picture)
    return folder


@pytest.mark.parametrize("form", ["ids", "palette", "16 bits", "colours", "double size"])
def test_truth_in_every_form_gives_the_scores_of_the_bags_own(street, evaluate, tmp_path, form):
    assert evaluate(street) == 0
    own = json.loads((tmp_path / "out" / "street" / "report.json").read_text())
    masks = write_masks(tmp_path / "masks", street, form)
    options = ["--resize-truth"] if form == "double size" else []
    assert evaluate(street, "--truth", masks, *options) == 0
    report = json.loads((tmp_path / "out" / "street" / "report.json").read_text())
    assert report["scores"] == own["scores"] and report["confusion"] == own["confusion"]
    assert ("--resize-truth" in report["command"]) == bool(options)


def test_masks_of_half_the_size_are_resized_by_the_nearest_pixel(street, evaluate, tmp_path):
    confusions = []
    for form in ("coarse", "half size"):
        masks = write_masks(tmp_path / form, street, form)
        assert evaluate(street, "--truth", masks, "--resize-truth") == 0
        confusions.append(json.loads((tmp_path / "out" / "street" / "report.json").read_text())["confusion"])
    assert confusions[0] == confusions[1] and np.sum(confusions[0]) > 0


def test_masks_of_another_size_are_resized_only_when_asked_for(street, evaluate, tmp_path, capsys):
    assert evaluate(street, "--truth", write_masks(tmp_path / "masks", street, "double size")) == 1
    told = " ".join(capsys.readouterr().err.split())
    assert "the truth of image 0 is 192x128 and the image 96x64; they must be of one size (`--resize-truth`" in told


def test_a_missed_gate_is_exit_status_1_also_on_what_was_done_before(street, evaluate, capsys):
    for _ in range(2):
        assert evaluate(street, "--min-miou", 0.9, "--max-unusable", 0, "--min-mvc16", 0) == 1
        missed = capsys.readouterr().err.splitlines()
        assert len(missed) == 2
        assert missed[0].startswith("sdcpc evaluate-bag: scores.miou is 0.") and "--min-miou 0.9 is missed" in missed[0]
        assert missed[1] == "sdcpc evaluate-bag: scores.mvc16 is not known, --min-mvc16 0 is missed"


def test_several_bags_have_one_report_and_those_that_fail_are_in_it(street, evaluate, tmp_path, capsys, monkeypatch):
    other, torn = tmp_path / "other", tmp_path / "torn.mcap"
    shutil.copytree(street, other)
    torn.write_bytes(b"")
    assert evaluate(street, other) == 0
    assert evaluate(street, torn, other, "--min-miou", 0.9) == 3
    told = capsys.readouterr()
    assert "3 bags, 1 failed" in told.out and "Traceback" not in told.err
    fleet = json.loads((tmp_path / "out" / "fleet.json").read_text())
    page = (tmp_path / "out" / "fleet.html").read_text()
    assert "torn.mcap" in page and "pixels of all bags" in page and "taken for bicyclist" in page
    assert [bag["status"] for bag in fleet["bags"]] == ["reused", "failed", "reused"]
    assert fleet["bags"][1]["problem"] == f"bag '{torn}' is an empty file"
    assert fleet["scores"]["frames"] == 10
    assert evaluate(street, other, "--min-miou", 0.9) == 1
    assert evaluate(street, street) == 0  # named twice, it is still one bag
    monkeypatch.chdir(tmp_path)
    assert evaluate(street, other, "--output", "out") == 0  # as the default is, a relative folder


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere.mcap"], "there is no bag at '"),
        (["{street}", "--camera", "/up"], "has no image topic '/up'; it has /camera/ground_truth"),
        (["{street}", "--start", "-1"], "the start is -1.0 s; zero or a positive number below 1e+10 is"),
        (["{street}", "--start", "1e300"], "the start is 1e+300 s"),
        (["{street}", "--duration", "1e300"], "the duration is 1e+300 s; a positive number below 1e+10 is"),
        (["{street}", "--input-size", "99999", "64"], "(height, width) of 32 to 8192 px is needed"),
        (["{street}", "--void", "300"], "void ids are [300]; 0 to 255 are allowed"),
        (["{street}", "--start", "60"], "has no usable image on /camera/image_raw (0 unusable)"),
        (
            ["{street}", "--every", "5"],
            "n is 5; a whole number of 1 to 4 is allowed, as /camera/image_raw has 5 images",
        ),
        (["{street}", "--device", "tpu"], "tpu"),
        (["{street}", "--input-size", "8", "8"], "input_size is (8, 8)"),
        (["{street}", "--min-miou", "60"], "--min-miou is 60; a share of 0 to 1 is needed"),
        (["{street}", "--live", "--live-rate", "-2"], "the playing rate is -2.0; a positive number is needed"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(street, evaluate, capsys, arguments, sentence):
    assert evaluate(*(argument.format(street=street) for argument in arguments)) == 1
    told = capsys.readouterr().err
    assert told.startswith("sdcpc evaluate-bag: ") and sentence in told and told.count("\n") == 1


def test_a_model_that_is_not_there_is_one_sentence_for_all_bags(street, tmp_path, capsys):
    assert cli.main(["evaluate-bag", str(street), str(street / "x"), "--model", "nobody", "-o", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("sdcpc evaluate-bag: no model 'nobody'")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: BAG"),
        (["bag", "--workers", "0"], "--workers is 0; 1 or more are needed"),
        (["bag", "--live-rate", "2"], "--live-rate goes with --live"),
        (["bag", "--max-dropped", "2"], "--max-dropped goes with --live"),
        (
            ["bag", "--every", "0"],
            "argument --every: '0' is not a number of images; a whole number of 1 or more is needed",
        ),
        (["bag", "--every", "1.5"], "argument --every: '1.5' is not a number of images"),
        (["bag", "--every", "2", "--live"], "--live plays every image of a bag, so it does not go with --every"),
        (["bag", "--live", "--workers", "2"], "does not go with --workers or --ray"),
    ],
)
def test_wrong_usage_exits_2(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["evaluate-bag", *arguments])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
