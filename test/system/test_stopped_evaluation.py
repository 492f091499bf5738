"""`sdcpc evaluate-bag` killed in the middle of a bag, as a crash or a power cut does it, and started again."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path

from sdcpc_ros.bags import evaluation_job
from sdcpc_ros.bags.reader import BagReader, RawMessage
from sdcpc_ros.bags.street_bag import StreetBag, write_street_bag
from sdcpc_ros.cli import main

FRAMES = 150


def words(bag: Path, model: Path, output: Path, save_every_s: float) -> list[str]:
    options = ("--labelled-bag", "--save-every", str(save_every_s))
    return ["evaluate-bag", str(bag), "--model", str(model), "-o", str(output), *options]


def killed_in_the_middle(command: list[str], results: Path) -> None:
    """Run it until it has saved a state, some frames more, and kill it."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    stop_s = None
    while stop_s is None or time.monotonic() < stop_s:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        if stop_s is None and (results / "evaluation.state").exists():
            stop_s = time.monotonic() + random.random() * 0.2
        time.sleep(0.002)
    process.kill()
    process.wait()
    assert not (results / "report.json").exists()


def messages(bag_path: Path) -> list[RawMessage]:
    with BagReader(bag_path) as bag:
        return list(bag.messages())


def test_a_killed_evaluation_goes_on_to_the_same_report_and_labelled_bag(
    recurrent_checkpoint, tmp_path, monkeypatch, capsys
):
    model = recurrent_checkpoint
    bag = tmp_path / "street"
    write_street_bag(bag, StreetBag(seed=3, size=(48, 64), length=FRAMES, rate_hz=15.0))
    killed, whole = tmp_path / "killed" / "street", tmp_path / "whole" / "street"
    script = "import torch; torch.set_num_threads(1); from sdcpc_ros.cli import main; raise SystemExit(main())"
    command = [sys.executable, "-c", script, *words(bag, model, killed.parent, 0.01)]
    killed_in_the_middle(command, killed)

    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr(evaluation_job, "write_report", lambda path, report, pictures: path.write_text("a page"))
    try:
        assert main(words(bag, model, killed.parent, 30)) == 0
        assert f"'{bag}' goes on with image" in capsys.readouterr().err
        assert main(words(bag, model, whole.parent, 30)) == 0
    finally:
        torch.set_num_threads(threads)
    reports = [json.loads((folder / "report.json").read_text()) for folder in (killed, whole)]
    (resumed_at,) = reports[0]["timing"]["resumed_at"]
    assert 0 < resumed_at < FRAMES and reports[1]["timing"]["resumed_at"] == []
    assert {**reports[0], "timing": None} == {**reports[1], "timing": None}
    assert len(list((killed / "labelled_bag").glob("*.mcap"))) > 1
    assert messages(killed / "labelled_bag") == messages(whole / "labelled_bag")
    assert sorted(path.name for path in killed.iterdir()) == ["labelled_bag", "report.html", "report.json"]
