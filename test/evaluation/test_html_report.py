from __future__ import annotations

import json
import re

import numpy as np
import pytest
from html_page import Page

from sdcpc_ros.evaluation.html_report import write_report
from sdcpc_ros.evaluation.report_file import ReportError, read_report
from sdcpc_ros.labels.label_set import CAMVID_11, VSPW_124, LabelSet

pytestmark = pytest.mark.slow

HOSTILE = '<script>alert(1)</script>"><img src=x onerror=alert(2)> $\\frac{1}{2}$ {{ 7 * 7 }} \x00\x1b\ud800'


@pytest.fixture
def report_page(tmp_path):
    """Writes a report's page and returns its text."""

    def written(report, pictures=None) -> str:
        write_report(tmp_path / "report.html", report, pictures)
        return (tmp_path / "report.html").read_text(encoding="utf-8")

    return written


def assert_harmless(page: str) -> None:
    """Nothing runs, and nothing is fetched."""
    seen = Page(page)
    assert not {"script", "iframe", "object", "embed", "link", "base", "form"} & set(seen.names)
    assert not [name for _, found in seen.tags for name in found if name.startswith("on")]
    addresses = seen.attributes("src", "href", "xlink:href", "srcset", "action", "data", "poster")
    assert not [address for address in addresses if not address.startswith("data:image/jpeg;base64,")]
    assert "url(" not in page and "@import" not in page
    assert "default-src 'none'" in page


def test_the_page_gives_the_span_of_the_frames_that_were_evaluated(make_report, report_page):
    """Not the length of the bag: `--duration` may end the evaluation earlier."""
    report, pictures = make_report()
    report["bag"]["duration_s"] = 5000.0
    stamps_ns = report["frames"]["stamp_ns"]
    span_s = (stamps_ns[-1] - stamps_ns[0]) / 1e9
    assert f"{report['scores']['frames']} in {span_s:.1f} s" in Page(report_page(report, pictures)).text


@pytest.mark.parametrize("truth", [True, False])
def test_a_page_tells_what_the_report_holds(make_report, report_page, truth):
    report, pictures = make_report(truth=truth, resets={20: "gap"})
    page = report_page(report, pictures)
    seen = Page(page)
    assert_harmless(page)
    assert ("Mean IoU" in seen.text) == truth
    assert ("Confusion matrix" in seen.text) == truth
    assert ("There is no ground truth" in seen.text) == (not truth)
    for told in (
        "drive",
        "/camera/image_raw",
        "sdcpc evaluate-bag drive",
        "gap in time",
        "Worst frames",
        "Best frames",
    ):
        assert told in seen.text
    if truth:
        assert f"{100 * report['scores']['miou']:.1f}" in seen.text
        assert f"{100 * report['scores']['mvc16']:.1f}" in seen.text
    assert "Dropped frames" not in seen.text
    for told in ("python", "3.11.2", report["labels_sha256"], "Where labels flicker"):
        assert told in seen.text


def test_pictures_are_in_the_page_and_told_to_those_who_cannot_see_them(make_report, report_page):
    report, pictures = make_report()
    seen = Page(report_page(report, pictures))
    images = [found for tag, found in seen.tags if tag == "img"]
    assert len(images) == 4 * (len(pictures.worst.frames) + len(pictures.best.frames)) + 1
    assert all(len(found["alt"] or "") > 10 and found["width"] and found["height"] for found in images)
    assert any("Ground truth of frame" in found["alt"] and "building" in found["alt"] for found in images)
    charts = [found for tag, found in seen.tags if tag == "svg"]
    assert charts and all(found["role"] == "img" and found["aria-label"] for found in charts)


def test_a_page_can_be_made_of_the_json_alone(make_report, tmp_path):
    report, _ = make_report()
    (tmp_path / "report.json").write_text(json.dumps(report))
    write_report(tmp_path / "report.html", read_report(tmp_path / "report.json"))
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert_harmless(page)
    assert "Over time" in page and "Worst frames" not in page
    assert [path.name for path in tmp_path.iterdir() if path.suffix not in (".html", ".json")] == []


def test_only_what_is_needed_has_to_be_there(make_report, report_page):
    report, _ = make_report(frames=1)
    for name in ("command", "timing", "resets", "problems", "labels_sha256", "worst", "best"):
        del report[name]
    assert_harmless(report_page(report))


def test_names_from_strangers_are_text(make_report, report_page):
    classes = LabelSet(HOSTILE, (HOSTILE, "</svg></title></style><script>", *"abcdefghi"), CAMVID_11.colours)
    report, pictures = make_report(label_set=classes, name=HOSTILE, resets={3: HOSTILE})
    report["bag"] |= {"camera": HOSTILE, "truth": HOSTILE, "camera_type": HOSTILE, "path": HOSTILE}
    report["bag"]["topics"] = {HOSTILE: [HOSTILE, 3]}
    report["model"]["name"] = report["command"] = HOSTILE
    report["problems"], report["versions"]["torch"], report["bag"]["unusable"] = [HOSTILE], HOSTILE, 1
    difference = {"number": 2, "agreement": 0.5, "why": HOSTILE}
    columns = {name: [0.5] * len(report["frames"]["number"]) for name in ("latency_ms", "agreement")}
    report["live"] = live_run(node={HOSTILE: HOSTILE}, causes={HOSTILE: 1}, differences=[difference], frames=columns)
    page = report_page(report, pictures)  # half a character does not stop the writing
    assert_harmless(page)
    assert "<script>alert(1)</script>" in Page(page).text
    assert "{{ 7 * 7 }}" in Page(page).text
    assert "49" not in Page(page).text.split("{{ 7 * 7 }}")[0][-20:]


def test_many_classes_and_many_frames_stay_small(make_report, report_page):
    report, pictures = make_report(label_set=VSPW_124, frames=20)
    frames = report["frames"]
    for name, values in frames.items():
        frames[name] = values * 100
    frames["number"] = list(range(2000))
    frames["stamp_ns"] = [number * 66_666_667 for number in range(2000)]
    report["timing"]["frames_ms"] = [30.0] * 2000
    assert len(report_page(report, pictures)) < 3e6


def live_run(**changes) -> dict:
    """The live part of a report of four frames."""
    return {
        "frames_published": 4,
        "frames_dropped": 1,
        "input_rate_hz": 15.0,
        "frame_rate_hz": 11.2,
        "latency_ms": {"p50": 61.0, "p95": 80.0, "max": 91.0},
        "jitter_ms": {"p50": 2.0, "p95": 9.0, "max": 12.5},
        "compared": 3,
        "equal": 2,
        "agreement": 0.9987,
        "frames": {"latency_ms": [60.0, None, 61.0, 91.0], "agreement": [1.0, None, 0.996, 1.0]},
        "differences": [{"number": 2, "stamp_ns": 1, "agreement": 0.996, "why": "a frame before it was dropped"}],
        "causes": {"a frame before it was dropped": 1},
        "node": {"backend": "eager"},
        **changes,
    }


def test_a_live_run_adds_its_section(make_report, report_page):
    report, _ = make_report(frames=4)
    report["live"] = live_run()
    seen = Page(report_page(report)).text
    for told in ("Dropped frames", "99.87", "a frame before it was dropped", "Stamp to publication", "11.2"):
        assert told in seen


def test_a_live_run_without_a_mask_is_shown(make_report, report_page):
    report, _ = make_report(frames=4)
    nothing = {"p50": None, "p95": None, "max": None}
    unknown = {"frame_rate_hz": None, "latency_ms": nothing, "jitter_ms": nothing, "agreement": None}
    columns = {"latency_ms": [None] * 4, "agreement": [None] * 4}
    report["live"] = live_run(**unknown, frames=columns, differences=[], causes={}, frames_dropped=4)
    seen = Page(report_page(report)).text
    assert "Dropped frames" in seen and "Stamp to publication" not in seen


def test_time_that_jumps_back_is_shown_by_frame(make_report, report_page):
    report, _ = make_report(frames=6, resets={3: "backward"})
    report["frames"]["stamp_ns"][3:] = report["frames"]["stamp_ns"][:3]
    seen = Page(report_page(report)).text
    assert "time jumped back" in seen and "seconds" not in seen


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda report: report.update(format="other 1"), "its format is 'other 1'; 'sdcpc bag evaluation 1' is needed"),
        (lambda report: report.pop("scores"), "it lacks scores"),
        (lambda report: report["frames"].pop("mvc8"), "it lacks frames.mvc8"),
        (lambda report: report["frames"]["mvc8"].pop(), "frames.mvc8 has 2 entries; 3 are needed"),
        (lambda report: report["frames"]["truth"].pop(), "frames.truth has 32 entries; 33 are needed"),
        (lambda report: report["model"].pop("label_set"), "it does not tell its classes"),
        (lambda report: report.update(frames=None), "it lacks frames.number, frames.stamp_ns"),
        (lambda report: report.update(bag=[], versions=None), "it lacks bag.name, bag.path, bag.camera"),
        (lambda report: report["frames"].update(truth="1"), "it lacks frames.truth"),
        (lambda report: report["frames"]["mvc8"].append({}) or report["frames"]["mvc8"].pop(0), "else than numbers"),
        (lambda report: report["frames"]["stamp_ns"].__setitem__(0, 1e308), "its frames hold something else than num"),
        (lambda report: report.update(timing=5), "its frames hold something else than numbers"),
        (lambda report: report["confusion"].pop(), "its confusion matrix or its classes are not those of 11"),
        (lambda report: report.update(frames={name: [] for name in report["frames"]}), "it holds no frame"),
    ],
)
def test_what_is_no_report_is_refused_with_a_sentence(make_report, tmp_path, spoil, sentence):
    report, _ = make_report(frames=3)
    report = json.loads(json.dumps(report))
    spoil(report)
    (tmp_path / "report.json").write_text(json.dumps(report))
    with pytest.raises(ReportError, match=re.escape(sentence)):
        read_report(tmp_path / "report.json")
    with pytest.raises(ReportError, match=re.escape(sentence)):
        write_report(tmp_path / "report.html", report)
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"[1, 2", b"[]", b"null", b'"text"', b"[" * 100_000])
def test_a_file_of_something_else_is_refused(tmp_path, content):
    (tmp_path / "report.json").write_bytes(content)
    with pytest.raises(ReportError, match=r"report.json' is no report: its format is|it is not JSON"):
        read_report(tmp_path / "report.json")


def test_a_page_that_cannot_be_made_leaves_the_old_one(make_report, tmp_path, monkeypatch):
    report, _ = make_report(frames=3)
    (tmp_path / "report.html").write_text("the old one")
    monkeypatch.setattr(np, "median", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_report(tmp_path / "report.html", report)
    assert (tmp_path / "report.html").read_text() == "the old one"
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
