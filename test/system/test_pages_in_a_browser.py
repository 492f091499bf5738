"""The pages in a real browser: Chromium without a window, where there is one."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from sdcpc_ros.evaluation.comparison import ComparisonSettings, check_gates, compare
from sdcpc_ros.evaluation.comparison_report import write_comparison
from sdcpc_ros.evaluation.gates import Gate
from sdcpc_ros.evaluation.html_report import write_fleet_page, write_report
from sdcpc_ros.model_files.checkpoint import load_checkpoint
from sdcpc_ros.replay.bag_evaluation import Model, evaluate_bag
from sdcpc_ros.replay.bag_source import BagSettings
from sdcpc_ros.replay.image_bags import StreetBag, write_street_bag
from sdcpc_ros.streaming.segmenter import StreamingSegmenter

pytestmark = pytest.mark.browser

WIDTHS = (1280, 390)
PAPER = {"light": "rgb(248, 247, 244)", "dark": "rgb(20, 23, 27)"}
# Loads the page in a frame of each width, lets it settle, and leaves what it measured as the document's only text.
PROBE = """<!DOCTYPE html><body><script type="application/json" id="page">%s</script><script>
const page = JSON.parse(document.getElementById("page").textContent);
const frames = %s.map(width => {
  const frame = document.createElement("iframe");
  frame.style.width = width + "px"; frame.style.height = "900px"; frame.style.border = "0"; frame.srcdoc = page;
  document.body.append(frame);
  return frame;
});
Promise.all(frames.map(frame => new Promise(done => frame.onload = done))).then(() => {
  const found = frames.map(frame => {
    const root = frame.contentDocument.documentElement, width = frame.contentWindow.innerWidth;
    const scrolls = element => element.closest(".scroll, svg");
    const over = [...root.querySelectorAll("body *")].filter(
      element => !scrolls(element) && element.getBoundingClientRect().right > width + 0.5);
    const charts = [...root.querySelectorAll("svg, .confusion, .bar div, .interval div")].filter(
      chart => chart.getBoundingClientRect().width > 0);
    const texts = [...root.querySelectorAll("body *")].filter(
      element => [...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim()));
    const images = [...root.querySelectorAll("img")];
    return {
      width, scrolls_to: root.scrollWidth, over: over.map(element => element.outerHTML.slice(0, 90)),
      charts: charts.length, images: images.length, shown: images.filter(image => image.naturalWidth > 0).length,
      smallest_text_px: Math.min(...texts.map(element => parseFloat(getComputedStyle(element).fontSize))),
      paper: getComputedStyle(root.querySelector("body")).backgroundColor,
    };
  });
  document.body.textContent = "measured" + JSON.stringify(found) + "measured";
});
</script></body>"""


@pytest.fixture(scope="module")
def chromium() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no Chromium here (Debian: apt install chromium)")
    return found


@pytest.fixture(scope="module")
def pages(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Of a short drive down the synthetic street, by a network that knows nothing yet."""
    folder = tmp_path_factory.mktemp("pages")
    bag = folder / "a_street_with_a_name_that_is_too_long_for_any_telephone_in_one_line"
    write_street_bag(bag, StreetBag(size=(96, 128), length=18))
    model = Model(StreamingSegmenter(load_checkpoint(tiny_checkpoint)), tiny_checkpoint.stem, "0" * 64)
    evaluation = evaluate_bag(bag, model, BagSettings())
    report = json.loads(json.dumps(evaluation.report))
    report["frames"]["reset"][5] = "gap"
    report["command"] = f"sdcpc evaluate-bag {bag} --model {tiny_checkpoint} " + "--an-option with-a-value " * 8
    other = {**report, "settings": {**report["settings"], "backend": "a_backend_of_a_long_name"}}
    comparison = compare(["baseline.json", "other.json"], [report, other], ComparisonSettings(replicates=100))
    results = check_gates(comparison, [Gate.parse("miou<-0.5")])
    write_comparison(folder / "comparison.html", comparison, results, command=report["command"])
    entry = {"name": bag.name, "status": "done", "page": "x/report.html", "problem": "", "scores": report["scores"]}
    lost = {"name": "lost", "status": "failed", "problem": f"there is no bag at '{bag}/somewhere/else'"}
    fleet = {**report, "bags": [entry, lost], "failed": 1, "missed": 0}
    write_fleet_page(folder / "fleet.html", fleet)
    write_report(folder / "report.html", report, evaluation.pictures)
    return {name: (folder / f"{name}.html").read_text(encoding="utf-8") for name in ("report", "comparison", "fleet")}


def look_at(chromium: str, folder: Path, page: str, *options: str) -> tuple[list[dict], str]:
    """What the probe measured at each width, and what the browser logged."""
    wrapper = folder / "probe.html"
    data = json.dumps(page).replace("</", "<\\/").replace("<!--", "<\\!--")
    wrapper.write_text(PROBE % (data, json.dumps(WIDTHS)), encoding="utf-8")
    command = [
        *(
            chromium,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            f"--user-data-dir={folder}/user",
        ),
        *("--enable-logging=stderr", "--log-level=0", "--virtual-time-budget=20000", *options),
        *("--dump-dom", wrapper.as_uri()),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    measured = re.search("measured(.*)measured", done.stdout)
    assert measured, done.stderr
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return json.loads(html.unescape(measured[1])), "\n".join(console)


@pytest.mark.parametrize(
    ("name", "scheme", "charts", "images"),
    [("report", "light", 12, 5), ("report", "dark", 12, 5), ("comparison", "dark", 16, 0), ("fleet", "light", 9, 0)],
)
def test_a_page_fits_and_is_quiet(
    chromium: str, pages: dict[str, str], tmp_path: Path, name: str, scheme: str, charts: int, images: int
) -> None:
    preferred = f"--blink-settings=preferredColorScheme={0 if scheme == 'dark' else 1}"
    measured, console = look_at(chromium, tmp_path, pages[name], preferred)
    assert console == ""
    assert [each["width"] for each in measured] == list(WIDTHS)
    for each in measured:
        assert each["scrolls_to"] == each["width"] and each["over"] == []
        assert each["charts"] >= charts
        assert each["shown"] == each["images"] >= images
        assert each["smallest_text_px"] > 10
        assert each["paper"] == PAPER[scheme]


def test_the_probe_sees_what_is_wrong(chromium: str, tmp_path: Path) -> None:
    """The test above can fail: a page that is too wide, shows a broken picture and complains."""
    bad = (
        '<!DOCTYPE html><body><div style="width:600px">wide</div><img src="data:image/png;base64,AAAA">'
        "<b style='font-size:6px'>small</b><script>console.error('trouble')</script></body>"
    )
    measured, console = look_at(chromium, tmp_path, bad)
    assert "trouble" in console
    wide, narrow = measured
    assert wide["over"] == [] and narrow["over"] != [] and narrow["scrolls_to"] > 390
    assert (wide["shown"], wide["images"]) == (0, 1)
    assert wide["smallest_text_px"] == 6
