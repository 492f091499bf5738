"""`sdcpc evaluate-bag` of two bags, killed in the second one, and started again."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import torch

from sdcpc_ros.bags.messages import RawMessage
from sdcpc_ros.bags.reader import BagReader
from sdcpc_ros.cli import main
from sdcpc_ros.replay import evaluation_job
from sdcpc_ros.replay.image_bags import StreetBag, write_street_bag

FRAMES = 150


def words(bags: list[Path], model: Path, output: Path) -> list[str]:
    return ["evaluate-bag", *map(str, bags), "--model", str(model), "-o", str(output), "--labelled-bag"]


def kill_in_the_second_bag(command: list[str], folder: Path) -> None:
    """Runs it until it writes the labelled bag in `folder`, and kills it."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list(folder.glob(".labelled_bag.*/*/*.mcap")):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.kill()
    process.wait()
    assert not (folder / "report.json").exists() and not (folder / "labelled_bag").exists()


def messages(bag_path: Path) -> list[RawMessage]:
    with BagReader(bag_path) as bag:
        return list(bag.messages())


def test_a_finished_bag_is_skipped_and_an_unfinished_one_is_evaluated_again(
    recurrent_checkpoint, tmp_path, monkeypatch
):
    bags = [tmp_path / "first", tmp_path / "second"]
    for seed, (bag, length) in enumerate(zip(bags, (3, FRAMES))):
        write_street_bag(bag, StreetBag(seed=seed, size=(48, 64), length=length, rate_hz=15.0))
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    script = "import torch; torch.set_num_threads(1); from sdcpc_ros.cli import main; raise SystemExit(main())"
    kill_in_the_second_bag(
        [sys.executable, "-c", script, *words(bags, recurrent_checkpoint, killed)], killed / "second"
    )
    first_report = (killed / "first" / "report.json").read_bytes()

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr(evaluation_job, "write_report", lambda path, report, pictures: path.write_text("a page"))
    try:
        for output in (killed, whole):
            assert main(words(bags, recurrent_checkpoint, output)) == 0
    finally:
        torch.set_num_threads(threads)
    assert [bag["status"] for bag in json.loads((killed / "fleet.json").read_text())["bags"]] == ["reused", "done"]
    assert (killed / "first" / "report.json").read_bytes() == first_report
    reports = [json.loads((output / "second" / "report.json").read_text()) for output in (killed, whole)]
    assert {**reports[0], "timing": None} == {**reports[1], "timing": None}
    assert messages(killed / "second" / "labelled_bag") == messages(whole / "second" / "labelled_bag")
    left = sorted(path.name for path in (killed / "second").iterdir())
    assert left == ["labelled_bag", "report.html", "report.json"]
