"""`sdcpc compare` and its gates."""

from __future__ import annotations

import json
import re

import pytest
from html_page import Page

from sdcpc_ros.evaluation.comparison import ComparisonSettings, check_gates, compare, comparison_report
from sdcpc_ros.evaluation.gates import Gate
from sdcpc_ros.evaluation.report_file import ReportError

QUICK = ComparisonSettings(replicates=300)


class TestGates:
    @pytest.mark.parametrize(
        ("text", "name", "operator", "threshold"),
        [
            ("miou<-0.5", "miou", "<", -0.5),
            (" mvc8.high <= 0 ", "mvc8.high", "<=", 0.0),
            ("iou.traffic light>=.5", "iou.traffic light", ">=", 0.5),
            ("ms>+12.", "ms", ">", 12.0),
        ],
    )
    def test_what_is_understood(self, text, name, operator, threshold):
        gate = Gate.parse(text)
        assert (gate.name, gate.operator, gate.threshold) == (name, operator, threshold)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "miou",
            "miou<",
            "<1",
            "miou=1",
            "miou<1e999",
            "miou<nan",
            "miou<a",
            "miou<1<2",
            "__import__('os')",
            "a\n<",
        ],
    )
    def test_what_is_not(self, text):
        with pytest.raises(ValueError, match="is no condition; METRIC<NUMBER"):
            Gate.parse(text)

    @pytest.mark.parametrize(
        ("text", "failed"),
        [
            ("miou<-0.5", True),
            ("miou<-50", False),
            ("miou>-50", True),
            ("miou.high<0", True),
            ("miou.low<-50", False),
            ("iou.car<0", True),
            ("ms>0", False),
            ("ms>=0", True),
        ],
    )
    def test_what_fails(self, pair, text, failed):
        comparisons = compare(["a", "b"], pair, QUICK)
        (result,) = check_gates(comparisons, [Gate.parse(text)])
        assert result.failed == failed
        assert comparison_report(comparisons, [result])["gates"][0]["failed"] == failed

    def test_an_unknown_metric_is_named_with_those_there_are(self, pair):
        comparison = compare(["a", "b"], pair, QUICK)
        with pytest.raises(ReportError, match=r"--fail-if 'miu<0': there is no 'miu' in these reports; miou, weighted"):
            check_gates(comparison, [Gate.parse("miu<0")])

    def test_a_gate_on_what_was_not_judged_is_no_pass(self, make_report):
        blind = [make_report(truth=False, seed=seed)[0] for seed in (1, 2)]
        with pytest.raises(ReportError, match="there is no 'miou'"):
            check_gates(compare(["a", "b"], blind, QUICK), [Gate.parse("miou<-0.5")])
        few = [make_report(frames=3, seed=seed)[0] for seed in (1, 2)]
        with pytest.raises(ReportError, match="too few frames for an interval"):
            check_gates(compare(["a", "b"], few, QUICK), [Gate.parse("miou.high<0")])


class TestCommand:
    @pytest.fixture
    def files(self, pair, tmp_path):
        paths = [tmp_path / "a.json", tmp_path / "b.json"]
        for path, report in zip(paths, pair):
            path.write_text(json.dumps(report))
        return paths

    def run(self, *arguments):
        from sdcpc_ros import cli

        return cli.main(["compare", *map(str, arguments), "--draws", "200"])

    def test_tells_and_writes(self, files, tmp_path, capsys):
        hostile = '<script>alert("a")</script>'
        for path in files:
            report = json.loads(path.read_text())
            report["bag"]["name"], report["settings"]["backend"] = hostile, f"{hostile}{path.name}"
            path.write_text(json.dumps(report))
        written = ("--json", tmp_path / "c.json", "--html", tmp_path / "c.html", "--fail-if", "mvc8<-90")
        assert self.run(*files, *written) == 0
        assert "b.json" in capsys.readouterr().out
        as_json = json.loads((tmp_path / "c.json").read_text())
        assert as_json["format"] == "sdcpc comparison 1"
        assert as_json["compared"][0]["metrics"]["miou"]["verdict"] == "worse"
        reports, settings = [json.loads(path.read_text()) for path in files], ComparisonSettings(replicates=200)
        comparisons = compare([str(path) for path in files], reports, settings)
        assert as_json["compared"] == comparison_report(comparisons)["compared"]

        page = (tmp_path / "c.html").read_text(encoding="utf-8")
        tags = Page(page)
        assert "script" not in tags.names and tags.names.count("svg") == 4
        assert not [name for _, found in tags.tags for name in found if name.startswith("on") or name == "src"]
        for told in ("mvc8&lt;-90", "passed", "beyond chance", "--draws 200", "&lt;script&gt;"):
            assert told in page

    def test_a_failed_gate_exits_1_and_says_why(self, files, tmp_path, capsys):
        gates = ["--fail-if", "miou<-0.5", "--fail-if", "mvc8<-90"]
        assert self.run(*files, *gates, "--json", tmp_path / "c.json") == 1
        captured = capsys.readouterr()
        assert re.search(r"b.json: miou is -\d+\.\d\d against the baseline", captured.err)
        assert captured.err.count("\n") == 1
        written = json.loads((tmp_path / "c.json").read_text())
        assert [gate["failed"] for gate in written["gates"]] == [True, False]
        assert self.run(*files, "--fail-if", "mvc8<-90") == 0

    def test_what_is_wrong_is_one_sentence(self, files, tmp_path, capsys):
        (tmp_path / "empty.json").write_text("{}")
        for arguments, sentence in (
            ((files[0], tmp_path / "empty.json"), "is no report: its format is None"),
            ((files[0], tmp_path / "none.json"), "No such file or directory"),
            ((*files, "--fail-if", "miou"), "'miou' is no condition"),
            ((*files, "--fail-if", "miu<1"), "there is no 'miu'"),
            ((*files, "--level", "2"), "the level is 2.0"),
        ):
            assert self.run(*arguments) == 1
            captured = capsys.readouterr()
            assert sentence in captured.err and captured.err.count("\n") == 1

    @pytest.mark.parametrize("option", ["--json", "--html"])
    def test_neither_a_folder_nor_a_report_is_replaced(self, files, tmp_path, capsys, option):
        before = files[1].read_bytes()
        for path, sentence in ((tmp_path, "is a folder; the name of a file"), (files[1], "this is the input")):
            with pytest.raises(SystemExit):
                self.run(*files, option, path)
            assert f"{option}: " in (said := capsys.readouterr().err) and sentence in said
        assert files[1].read_bytes() == before
