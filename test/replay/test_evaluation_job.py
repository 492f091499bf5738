from __future__ import annotations

import json
import os
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from sdcpc_ros import cli
from sdcpc_ros.bags.errors import BagError
from sdcpc_ros.bags.reader import BagReader
from sdcpc_ros.evaluation.report_file import read_report, write_json
from sdcpc_ros.replay import evaluation_job
from sdcpc_ros.replay.bag_source import BagSettings
from sdcpc_ros.replay.evaluation_job import Job, run_job
from sdcpc_ros.replay.live_run import LivePlan
from sdcpc_ros.replay.node_process import NodeTopics
from sdcpc_ros.replay.segmented_frames import ModelChoice
from sdcpc_ros.runtime.progress import ProgressBar


@pytest.fixture
def job(street, tiny_checkpoint, tmp_path) -> Job:
    bag = tmp_path / "drive"
    shutil.copytree(street, bag)
    return Job(bag, tmp_path / "out", ModelChoice(tiny_checkpoint), BagSettings(duration_s=0.3))


def test_a_job_leaves_its_files_and_need_not_be_done_again(job, monkeypatch):
    assert job.earlier_report() is None
    counts: list[int | None] = []

    class Bar(ProgressBar):
        def restart(self, total: int | None, doing: str) -> None:
            counts.append(total)

        def __call__(self) -> None:
            counts.append(1)

    report = run_job(job, Bar(disabled=True))
    assert counts == [None, 5, 1, 1, 1, 1, 1]  # 0.3 s at 15 Hz
    assert read_report(job.report_path) == report == job.earlier_report()
    assert "<html" in job.page_path.read_text() and not job.labelled_bag_path.exists()

    monkeypatch.setattr(evaluation_job, "write_report", lambda path, report, pictures: path.write_text("a page"))
    # A labelled bag that is wanted now is not there yet; one that is there is not in the way.
    with_bag = replace(job, labelled_bag=True)
    assert with_bag.earlier_report() is None
    again = run_job(with_bag)
    assert {**again, "timing": None, "command": None} == {**report, "timing": None, "command": None}
    assert with_bag.earlier_report() is not None and job.earlier_report() is not None
    run_job(job)
    assert not job.labelled_bag_path.exists()  # it was an earlier evaluation's


@pytest.mark.parametrize("missing", ["report", "page"])
def test_a_result_that_is_not_whole_is_made_again(job, missing, quick_page):
    run_job(job)
    file: Path = getattr(job, f"{missing}_path")
    file.unlink()
    assert job.earlier_report() is None
    file.write_text('{"cut')
    assert (job.earlier_report() is None) == (missing == "report")


def test_the_key_changes_with_all_that_matters(job, tiny_checkpoint, tmp_path):
    masks = tmp_path / "masks"
    masks.mkdir()
    jobs = [
        job,
        replace(job, settings=BagSettings()),
        replace(job, settings=BagSettings(void=(11,))),
        replace(job, settings=BagSettings(truth=str(masks))),
        replace(job, model=replace(job.model, input_size=(64, 96))),
        replace(job, model=replace(job.model, backend="inductor")),
        replace(job, live=LivePlan()),
        replace(job, live=LivePlan(rate=0.5)),
    ]
    keys = [one.key() for one in jobs]
    assert len(set(keys)) == len(keys)
    assert replace(job, output=tmp_path / "elsewhere").key() == keys[0]
    (masks / "1.png").touch()
    assert jobs[3].key() != keys[3]
    other = tmp_path / "other.safetensors"
    other.write_bytes(tiny_checkpoint.read_bytes()[:-1])
    assert replace(job, model=ModelChoice(other)).key() != keys[0]
    storage = next(job.bag.glob("*.mcap"))
    os.utime(storage, ns=(0, 0))
    assert job.key() != keys[0]


def test_the_command_in_the_report_gives_the_same_report(job, tmp_path, quick_page):
    settings = BagSettings(camera="/camera/image_raw", truth="none", void=(7, 8), start_s=0.2, duration_s=0.4)
    settings = replace(settings, max_gap_s=0.5)
    report = run_job(replace(job, settings=settings, model=replace(job.model, input_size=(32, 64)), labelled_bag=True))
    words = shlex.split(report["command"])
    assert words[0] == "sdcpc"
    assert cli.main([*words[1:], "--output", str(tmp_path / "again")]) == 0
    again = read_report(tmp_path / "again" / "drive" / "report.json")
    assert {**again, "timing": None} == {**report, "timing": None}
    assert (tmp_path / "again" / "drive" / "labelled_bag").is_dir()


def test_the_command_of_a_live_job_says_so(job):
    plan = LivePlan(0.5, NodeTopics.of("/robot/seg/front/label/image_raw"))
    command = replace(job, live=plan).command()
    assert command.endswith("--live --live-rate 0.5 --live-node /robot/seg/front/label/image_raw")


def test_a_job_that_fails_leaves_no_report(job, quick_page):
    run_job(job)
    shutil.copytree(job.bag, job.bag.parent / "sound")
    storage = next(job.bag.glob("*.mcap"))
    storage.write_bytes(storage.read_bytes()[:-200])
    with pytest.raises(BagError, match="is cut short"):
        run_job(replace(job, labelled_bag=True))
    assert not job.report_path.exists()
    assert not job.labelled_bag_path.exists()
    with BagReader(job.bag.parent / "sound") as sound:
        assert sound.topics


def test_an_interrupted_job_keeps_the_earlier_results(job, quick_page, monkeypatch):
    with_bag = replace(job, labelled_bag=True)
    report = run_job(with_bag)

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluation_job, "evaluate_bag", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_job(with_bag)
    assert with_bag.earlier_report() == report
    assert sorted(path.name for path in job.output.iterdir()) == ["labelled_bag", "report.html", "report.json"]


def test_a_report_appears_whole_or_not_at_all(job, tmp_path):
    path = tmp_path / "report.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError):
        write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": 1} and list(tmp_path.glob("*report*")) == [path]
    assert not list(tmp_path.glob(".*"))


def test_what_a_killed_evaluation_has_left_is_removed(job, quick_page):
    (job.output / ".labelled_bag.x1" / "labelled_bag").mkdir(parents=True)
    (job.output / ".report.json.y2").mkdir()
    run_job(job)
    assert sorted(path.name for path in job.output.iterdir()) == ["report.html", "report.json"]
