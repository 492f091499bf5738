"""The benchmark itself, on tiny sizes: that it measures what it says, and loses nothing."""

from __future__ import annotations

import itertools
import json
import logging
import platform
import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
import torch

from benchmarks import gpu, labels, record, rows, window_attention
from benchmarks.__main__ import main
from benchmarks.measure import Effort, Timing, gflop, interleaved, peak_mib
from benchmarks.rows import Row

pytestmark = pytest.mark.slow

CPU = Effort(torch.device("cpu"), rounds=2, quick=True)


def test_two_questions_give_tables_and_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Compiling FlexAttention takes a minute: here it is a peer that isn't there.
    def absent(*_: object) -> None:
        raise window_attention._Absent("not in this test")

    monkeypatch.setitem(window_attention._PEERS, window_attention.FLEX, absent)
    file = tmp_path / "rows.json"
    assert main(["--only", "b,a", "--quick", "--rounds", "2", "--device", "cpu", "--json", str(file)]) == 0
    written = json.loads(file.read_text())
    assert [row["question"] for row in written] == sorted(row["question"] for row in written)
    assert {row["question"] for row in written} == {"a", "b"}
    needed = {"question", "name", "ours_ms", "peer_ms", "ratio", "low", "high", "device", "command"}
    assert all(needed <= row.keys() for row in written)
    measured = [row for row in written if row["ours_ms"] is not None]
    assert len(measured) >= 8
    for row in measured:
        assert row["ratio"] > 0
        assert row["low"] <= row["ratio"] <= row["high"]
        assert row["ours_gflop"] > 0
    assert [row["note"] for row in written if "FlexAttention" in row["name"]] == ["not in this test"]
    shown = capsys.readouterr().out
    assert window_attention.TITLE in shown
    assert "streaming / encoding 2 frames" in shown


def test_a_batch_is_measured_by_the_frame(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    assert main(["--only", "f", "--quick", "--rounds", "2", "--device", "cpu", "--json", str(file)]) == 0
    rows = json.loads(file.read_text())
    assert [row["name"].rpartition(": ")[2][0] for row in rows] == ["1", "2", "4", "8"]
    assert rows[0]["ratio"] == 1
    for row in rows:
        assert row["low"] <= row["ratio"] <= row["high"] and 0.2 < row["ours_ms"] / row["peer_ms"] / row["ratio"] < 5
        assert re.fullmatch(r"p50 .* ms, p95 .* frames a second; first .* ms; \d+ operators, \d+ copies", row["note"])


def test_a_gpu_run_is_tried_on_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that it cannot rot: every part gives its rows, and nothing is kept."""
    monkeypatch.setattr("benchmarks.__main__.FOLDER", tmp_path / "results")
    file = tmp_path / "rows.json"
    assert main(["--gpu", "--rounds", "2", "--device", "cpu", "--json", str(file)]) == 0
    rows = json.loads(file.read_text())
    assert not [row for row in rows if row["note"].startswith(("failed", "not measured"))]
    names = " ".join(row["name"] for row in rows)
    for part in (
        "8 at once",
        "float16: SD-CPC streaming / SegFormer-B0",
        "bfloat16: ours / dense",
        "float32, eager: enc",
    ):
        assert part in names
    assert all(" / " in row["name"] for row in rows) and not (tmp_path / "results").exists()


def test_a_gpu_run_tells_what_ran_without_a_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    def warn(*_: object) -> Iterator[Row]:
        for _ in range(2):
            logging.getLogger("sdcpc_ros.streaming.frame_runner").warning("this backend runs without a CUDA graph")
        yield Row("a / b", ratio=1.0)

    for part in ("segformer.compare", "batches.rows", "gpu._layouts"):
        monkeypatch.setattr(f"benchmarks.{part}", lambda *_: iter(()))
    monkeypatch.setattr("benchmarks.window_attention.against_peers", warn)
    found = [(row.name, row.note) for row in gpu.rows(CPU)]
    warned = ("window attention", "warned: this backend runs without a CUDA graph")
    assert found == [("a / b", ""), ("a / b", ""), warned]


def test_a_gpu_run_ends_in_time_and_a_part_that_fails_costs_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("out of memory\nand more")

    monkeypatch.setattr("benchmarks.segformer.compare", fail)
    monkeypatch.setattr("benchmarks.batches.rows", lambda effort: iter([Row("a / b", ratio=1.0)]))
    monkeypatch.setattr("benchmarks.window_attention.against_peers", lambda *_: iter(()))
    by_name = {row.name: row for row in gpu.rows(CPU)}
    assert by_name["a / b"].ratio == 1
    assert by_name["mit_b0 float16 / SegFormer"].note == "failed: RuntimeError: out of memory"
    assert any(name.startswith("mit_b0 96x64 float32, eager") for name in by_name)
    now_s = itertools.count(step=200.0)
    monkeypatch.setattr("benchmarks.gpu.time.monotonic", lambda: next(now_s))
    notes = [row.note for row in gpu.rows(CPU)]
    assert notes[0] == "" and set(notes[2:]) == {"not measured: the run had taken 270 s"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "a,z"], "'a,z' names no question"),
        (["--only", ","], "names no question"),
        (["--rounds", "0"], "'0' is not a number of rounds"),
        (["--device", "tpu"], "'tpu' is not a device"),
        (["--record"], "--record does not go with --quick"),
        (["--json", "/no/such/folder/rows.json"], "no folder /no/such/folder"),
    ],
)
def test_bad_arguments_are_named(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status = main([*arguments, "--quick"])
    except SystemExit as error:
        status = error.code
    assert status == 2
    output = capsys.readouterr()
    assert message in " ".join((output.out + output.err).split())


def test_a_question_that_fails_does_not_take_the_others_along(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def one_row_then_failure(effort: Effort):  # type: ignore[no-untyped-def]
        yield Row("measured")
        raise RuntimeError("the machine is on fire")

    monkeypatch.setattr("benchmarks.window_attention.rows", one_row_then_failure)
    monkeypatch.setattr("benchmarks.streaming.rows", lambda effort: iter([Row("also measured", ratio=1.0)]))
    file = tmp_path / "rows.json"
    assert main(["--only", "a,b", "--quick", "--device", "cpu", "--json", str(file)]) == 1
    assert [row["name"] for row in json.loads(file.read_text())] == ["measured", "also measured"]
    assert "the machine is on fire" in capsys.readouterr().out


def test_rounds_are_interleaved_and_short_calls_repeated() -> None:
    order: list[str] = []
    result = interleaved({"x": lambda: order.append("x"), "y": lambda: order.append("y")}, CPU)
    assert [len(timing.samples_ms) for timing in result.values()] == [2, 2]
    turns = [name for name, before in zip(order, ["", *order]) if name != before]
    assert turns[-4:] == ["x", "y", "x", "y"]
    assert len(order) > 1000  # a call of nanoseconds fills its two milliseconds


def test_ratios_are_taken_round_by_round() -> None:
    ours, peer = Timing((1.0, 10.0, 3.0)), Timing((2.0, 20.0, 2.0))  # a neighbour slows the second round down tenfold
    assert ours.ratio_to(peer)[0] == 0.5
    assert ours.compared_to(peer)["ours_ms"] == 3.0


def test_peak_memory_is_seen_though_it_is_gone_afterwards() -> None:
    def call() -> torch.Tensor:
        return torch.zeros(64 * 2**18).add_(1).sum()  # 64 MiB for a moment

    assert 64 <= peak_mib(call, CPU) < 65


def test_operations_of_attention_are_counted_on_meta_tensors() -> None:
    query = torch.empty(1, 1, 10, 8, device="meta")
    counted = gflop(lambda: torch.nn.functional.scaled_dot_product_attention(query, query, query))
    assert counted == pytest.approx(4 * 10 * 10 * 8 / 1e9)


def test_operations_of_a_window_leave_out_what_lies_beyond_the_frame() -> None:
    problem = window_attention.Problem(height=3, width=2, channels=5, radius=1, references=2)
    seen = (2 + 3 + 2) * (2 + 2)
    assert problem.window_gflop == pytest.approx(4e-9 * seen * 5 * 2)


def test_dense_attention_is_ours_where_the_window_holds_the_whole_frame() -> None:
    problem = window_attention.Problem(height=3, width=2, channels=4, radius=2)
    inputs = problem.inputs(torch.device("cpu"))
    found = window_attention._PEERS[window_attention.DENSE](problem, inputs)()[:, 0].transpose(1, 2)
    torch.testing.assert_close(found.unflatten(2, (3, 2)), window_attention._ours(problem, inputs))


def test_unfolded_attention_is_ours_inside_the_frame() -> None:
    """F.unfold sees zeros beyond the border."""
    problem = window_attention.Problem(height=6, width=5, channels=4, radius=1)
    inputs = problem.inputs(torch.device("cpu"))
    found = window_attention._PEERS[window_attention._UNFOLD](problem, inputs)().unflatten(2, (6, 5))
    ours = window_attention._ours(problem, inputs)
    torch.testing.assert_close(found[..., 1:-1, 1:-1], ours[..., 1:-1, 1:-1])


def test_a_table_says_which_targets_hold() -> None:
    assert Row("x", ratio=0.3, target=0.35).verdict == "holds"
    assert Row("x", ratio=0.4, target=0.35).verdict == "missed"
    assert Row("x", target=0.35).verdict == ""
    columns = [column.header for column in rows.to_table("t", [Row("x", ratio=0.3, note="why")]).columns]
    assert columns == ["ours / peer", "ratio", "note"]  # what no row fills is left out


def test_a_record_is_named_by_day_and_kind_of_device_only() -> None:
    name = record.record_name(torch.device("cpu"), date(2026, 11, 24))
    assert re.fullmatch(r"2026-11-24-cpu-[a-z0-9-]+-\d+-threads", name)
    assert platform.node().lower() not in name


def test_a_run_is_kept_and_a_question_run_again_replaces_its_rows_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home_note = f"no package in {Path.home()}/.cache"
    results = {"a": [Row("x | y", ratio=0.05, target=0.07, ours_ms=1.0, peer_ms=20.0)], "b": [Row("z", note=home_note)]}
    monkeypatch.setattr("benchmarks.window_attention.rows", lambda effort: iter(results["a"]))
    monkeypatch.setattr("benchmarks.streaming.rows", lambda effort: iter(results["b"]))
    monkeypatch.setattr("benchmarks.__main__.FOLDER", tmp_path)
    arguments = ["--device", "cpu", "--json", str(tmp_path / "rows.json"), "--record"]
    assert main(["--only", "a,b", *arguments]) == 0
    results["a"] = [Row("x | y", ratio=0.09, target=0.07)]
    assert main(["--only", "a", *arguments]) == 0
    (file,) = tmp_path.glob("*-cpu-*.json")
    assert [(row["question"], row["ratio"]) for row in json.loads(file.read_text())] == [("a", 0.09), ("b", None)]
    page = file.with_suffix(".md").read_text()
    assert "0 of 1 targets hold" in page and "x \\| y: 0.09, not 0.07" in page and "0.07 missed" in page
    assert "`python -m benchmarks --only a --device cpu`" in page and "--only a,b --device cpu" in page
    assert "no package in ~/.cache" in page and str(tmp_path) not in page + file.read_text()
    assert file.stem in capsys.readouterr().out


def test_a_record_does_not_overwrite_what_is_not_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("benchmarks.window_attention.rows", lambda effort: iter([Row("x", ratio=1.0)]))
    monkeypatch.setattr("benchmarks.__main__.FOLDER", tmp_path)
    there = tmp_path / f"{record.record_name(torch.device('cpu'), date.today())}.json"
    there.write_text('{"something": "else"}')
    assert main(["--only", "a", "--device", "cpu", "--record"]) == 2
    assert "holds no rows of a benchmark" in " ".join(capsys.readouterr().out.split())
    assert there.read_text() == '{"something": "else"}'


def test_what_labels_are_timed_against_gives_the_same_labels() -> None:
    logits, size = labels._logits((72, 128)), (72, 128)
    ours, *peers = (call() for call in labels._on_cpu(logits, size).values())
    assert len(peers) == 2
    for peer in peers:
        assert (peer == ours).mean() > 0.999
    timed = list(labels.rows(CPU))
    assert [row.target is not None for row in timed] == [True, False]
    assert all(row.ours_ms and row.ratio for row in timed)
