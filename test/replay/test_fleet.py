from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from sdcpc_ros.bags.errors import FleetError
from sdcpc_ros.evaluation.gates import MEASURES
from sdcpc_ros.evaluation.metrics import ConfusionMatrix
from sdcpc_ros.evaluation.report_file import read_report
from sdcpc_ros.replay import fleet
from sdcpc_ros.replay.bag_source import BagSettings
from sdcpc_ros.replay.evaluation_job import Job
from sdcpc_ros.replay.fleet import Outcome, fleet_report, output_folders, run_here, run_in_processes, run_on_ray
from sdcpc_ros.replay.image_bags import StreetBag, write_street_bag
from sdcpc_ros.replay.segmented_frames import ModelChoice

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick_page")]


@pytest.fixture
def jobs(street, tiny_checkpoint, tmp_path) -> list[Job]:
    """Two streets, and between them a file that is no bag."""
    bags = [tmp_path / "first", tmp_path / "torn.mcap", tmp_path / "second"]
    shutil.copytree(street, bags[0])
    bags[1].write_bytes(b"\x89MCAP0\r\n" + bytes(50))
    write_street_bag(bags[2], StreetBag(seed=5, size=(64, 96), length=10, rate_hz=15.0))
    model = ModelChoice(tiny_checkpoint)
    folders = output_folders(bags, tmp_path / "out")
    return [Job(bag, folder, model, BagSettings()) for bag, folder in zip(bags, folders)]


def told(outcomes: list[Outcome]) -> list[tuple[str, str]]:
    return [(outcome.job.bag.name, outcome.status) for outcome in outcomes]


def test_a_bag_that_fails_fails_alone_and_what_is_done_is_not_done_again(jobs):
    outcomes = list(run_here(jobs, force=False))
    assert told(outcomes) == [("first", "done"), ("torn.mcap", "failed"), ("second", "done")]
    assert "torn.mcap" in outcomes[1].problem and outcomes[0].problem == ""
    again = list(run_here(jobs, force=False))
    assert told(again) == [("first", "reused"), ("torn.mcap", "failed"), ("second", "reused")]
    forced = list(run_here(jobs[:1], force=True))
    assert told(forced) == [("first", "done")]


def test_a_bug_is_not_an_outcome(jobs):
    with pytest.raises(AttributeError, match="'NoneType' object has no attribute 'truth'"):
        list(run_here([replace(jobs[0], settings=None)], force=True))


def test_the_report_pools_what_the_bags_hold(jobs, tmp_path):
    outcomes = list(run_here(jobs, force=False))
    gate = next(measure for measure in MEASURES if measure.name == "miou").gate(1.0)
    report = fleet_report(outcomes, [gate], tmp_path / "out")
    assert [(bag["name"], bag["status"]) for bag in report["bags"]] == [
        *(("first", "done"), ("torn", "failed"), ("second", "done"))
    ]
    assert (report["failed"], report["missed"]) == (1, 2)
    assert "--min-miou 1 is missed" in report["bags"][0]["missed"][0]
    assert (tmp_path / "out" / report["bags"][2]["report"]).is_file()
    assert report["scores"]["frames"] == 28
    singles = [read_report(job.report_path) for job in (jobs[0], jobs[2])]
    pooled = ConfusionMatrix(11)
    for single in singles:
        assert single is not None
        pooled.matrix += single["confusion"]
        pooled.unlabelled += single["unlabelled"]
    assert report["scores"]["miou"] == pytest.approx(pooled.miou(), abs=1e-6)
    windows = [value for single in singles if single for value in single["frames"]["mvc8"] if value is not None]
    assert len(windows) == 11 + 3
    assert report["scores"]["mvc8"] == pytest.approx(sum(windows) / 14, abs=1e-6)
    empty = fleet_report([outcomes[1]], [], tmp_path / "out")
    assert (empty["scores"], empty["failed"], empty["classes"]) == (None, 1, [])


def test_folders_are_named_for_their_bags_and_never_shared(tmp_path):
    bags = [tmp_path / "a" / "drive", tmp_path / "b" / "drive.mcap", tmp_path / "night.db3"]
    first, second, third = output_folders(bags, tmp_path / "out")
    assert third == tmp_path / "out" / "night"
    assert first != second and first.name.startswith("drive-") and second.name.startswith("drive-")
    assert output_folders(bags[::-1], tmp_path / "out") == [third, second, first]


@pytest.mark.parametrize("bag", ["drive", "drive/drive.mcap"])
def test_no_folder_of_results_is_in_a_bag(tmp_path, bag):
    with pytest.raises(FleetError, match="would be written into the bag itself; name another --output"):
        output_folders([tmp_path / bag], tmp_path)


class TestWorkers:
    def test_they_do_what_one_process_does(self, jobs, street):
        expected = list(run_here(jobs, force=True))
        reports = [read_report(job.report_path) for job in (jobs[0], jobs[2])]
        outcomes = list(run_in_processes(jobs, 2, force=True))
        assert sorted(told(outcomes)) == sorted(told(expected))
        for job, before in zip((jobs[0], jobs[2]), reports):
            after = read_report(job.report_path)
            assert before is not None and after is not None
            assert after["labels_sha256"] == before["labels_sha256"] and after["settings"]["threads"] == 1
            assert "<html" in job.page_path.read_text()  # another process, where nothing is patched

    def test_a_worker_that_dies_takes_no_other_bag_along(self, jobs):
        def kill_first() -> None:
            deadline = time.monotonic() + 60
            while not (children := multiprocessing.active_children()) and time.monotonic() < deadline:
                time.sleep(0.05)
            assert children[0].pid is not None
            os.kill(children[0].pid, signal.SIGKILL)  # as the kernel does when memory runs out

        with ThreadPoolExecutor(1) as killer:
            killed = killer.submit(kill_first)
            outcomes = list(run_in_processes(jobs[:2], 1, force=False))
        killed.result()
        assert told(outcomes) == [("first", "failed"), ("torn.mcap", "failed")]
        assert outcomes[0].problem == f"the process that evaluated '{jobs[0].bag}' ended abruptly"
        assert "torn.mcap' cannot be read" in outcomes[1].problem

    def test_a_bug_in_a_worker_comes_out(self, jobs):
        wrong = replace(jobs[0], settings=None)
        with pytest.raises(AttributeError, match="'NoneType' object has no attribute 'truth'"):
            list(run_in_processes([wrong], 1, force=False))


# Kills the process that opens a damaged bag, as a crash in a decoder would.
DIES_OF_TORN_BAGS = """
import os, pathlib, signal
exists = pathlib.Path.exists
def exists_or_dies(path):
    if path.name == "torn.mcap":
        os.kill(os.getpid(), signal.SIGKILL)
    return exists(path)
pathlib.Path.exists = exists_or_dies
"""


@pytest.mark.skipif("SDCPC_TEST_RAY" not in os.environ, reason="takes a minute: set SDCPC_TEST_RAY to run it")
class TestRay:
    @pytest.fixture(autouse=True)
    def needs_ray(self, monkeypatch):
        pytest.importorskip("ray", reason="Ray is not here: pip install 'sdcpc_ros[fleet]'")
        # The workers import this package as this process does.
        monkeypatch.setenv("PYTHONPATH", str(Path(fleet.__file__).parents[2]))
        monkeypatch.setenv("RAY_worker_niceness", "0")  # at Ray's own 15 they starve on a machine that is busy

    def test_a_local_cluster_does_what_one_process_does(self, jobs):
        outcomes = list(run_on_ray(jobs, "local", 2, force=False))
        assert sorted(told(outcomes)) == [("first", "done"), ("second", "done"), ("torn.mcap", "failed")]
        again = list(run_here(jobs, force=False))
        assert told(again) == [("first", "reused"), ("torn.mcap", "failed"), ("second", "reused")]

    def test_a_worker_that_dies_takes_no_other_bag_along(self, jobs, tmp_path):
        (tmp_path / "sitecustomize.py").write_text(DIES_OF_TORN_BAGS)
        os.environ["PYTHONPATH"] += os.pathsep + str(tmp_path)
        outcomes = list(run_on_ray(jobs, "local", 2, force=False))
        assert sorted(told(outcomes)) == [("first", "done"), ("second", "done"), ("torn.mcap", "failed")]
        (problem,) = [outcome.problem for outcome in outcomes if outcome.status == "failed"]
        assert problem.startswith(f"the process that evaluated '{jobs[1].bag}' ended abruptly: ")


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "127.0.0.1:99999"])
def test_a_cluster_that_is_not_there_is_a_sentence(address):
    pytest.importorskip("ray", reason="Ray is not here: pip install 'sdcpc_ros[fleet]'")
    with pytest.raises(FleetError, match=f"no Ray cluster answers at '{address}'"):
        list(run_on_ray([], address, 2, force=False))
