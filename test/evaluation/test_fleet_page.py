from __future__ import annotations

import re

import pytest
from html_page import Page

from sdcpc_ros.evaluation.html_report import write_fleet_page

HOSTILE = "javascript:alert(1)//<script>alert(2)</script> 100%\ud800"


@pytest.fixture
def fleet(make_report):
    """Two bags and one that failed."""
    report, _ = make_report()
    entry = {"status": "done", "problem": "", "scores": report["scores"], "unusable": 0, "missed": []}
    return {
        "format": "sdcpc fleet evaluation 1",
        "bags": [
            {**entry, "name": "monday", "path": "bags/monday", "page": "monday/report.html"},
            {**entry, "name": HOSTILE, "path": HOSTILE, "page": f"{HOSTILE}/report.html", "missed": ["miou is 0.4"]},
            {"name": "lost", "path": "bags/lost", "status": "failed", "problem": "there is no bag at 'bags/lost'"},
        ],
        "failed": 1,
        "missed": 1,
        "scores": report["scores"],
        "classes": [{name: each[name] for name in ("name", "colour", "iou")} for each in report["classes"]],
        "confusion": report["confusion"],
        "unlabelled": report["unlabelled"],
    }


def test_every_bag_has_a_line_and_leads_to_its_page(fleet, tmp_path):
    write_fleet_page(tmp_path / "fleet.html", fleet)
    page = Page((tmp_path / "fleet.html").read_text(encoding="utf-8"))
    for told in ("3 bags", "monday", "1 bag could not be evaluated", "1 bag missed a gate", "miou is 0.4", "no bag at"):
        assert told in page.text
    links = page.attributes("href")
    assert links[0] == "./monday/report.html" and len(links) == 2
    assert re.fullmatch(r"\./[\w./%()-]+", links[1]), "a name is never a scheme"
    assert "script" not in page.names
    assert "IoU of each class" in page.text and "Confusion matrix" in page.text


def test_a_fleet_without_any_scores_is_told(fleet, tmp_path):
    empty = {**fleet, "bags": fleet["bags"][2:], "scores": None, "classes": [], "missed": 0}
    del empty["confusion"], empty["unlabelled"]
    write_fleet_page(tmp_path / "fleet.html", empty)
    page = Page((tmp_path / "fleet.html").read_text(encoding="utf-8"))
    assert "there is no bag at 'bags/lost'" in page.text
    assert "IoU of each class" not in page.text and "Confusion matrix" not in page.text
