"""What `benchmarks.overload` measured, as tables, verdicts and files: overload.md, .csv and .svg."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from benchmarks.keep_up import PROFILES, KeepUp
from benchmarks.line_chart import line_chart
from benchmarks.markdown import markdown_table, provenance
from benchmarks.node_load import COUNTED, Flow, percentile
from benchmarks.verdict import Verdict

_LATENCY_RULE = 2.0  # inference times
_PERCENTS = range(1, 100)

_LOAD_COLUMNS = (
    *("input", "Hz in", "Hz out", "one frame p50 / p99, ms", "latency p50, ms", "p99, ms", "p50 / p50", "p99 / p99"),
    *("p99 / p50", "dropped: newer", "lost on the way", "cores: node", "cores: camera"),
)
_KEEP_UP_COLUMNS = (
    *("Fast DDS profile", "Hz in", "Hz out", "sent", "lost on the way", "dropped: newer", "masks back"),
    *("latency p50, ms", "p99, ms", "cores: node", "cores: camera"),
)


@dataclass(frozen=True)
class Load:
    """One input rate and what came of it."""

    factor: float  # of the rate that the node manages
    alone_ms: Sequence[float]  # latencies of frames sent one at a time, before and after
    flow: Flow

    def latency_ms(self, percent: float) -> float:
        return percentile(self.flow.latencies_ms, percent)

    def inference_ms(self, percent: float) -> float:
        return percentile(self.alone_ms, percent)

    def ratio(self, percent: float, of: float | None = None) -> float:
        """A percentile of the latency, in inference times: of the same percentile, unless `of` names another."""
        return self.latency_ms(percent) / self.inference_ms(percent if of is None else of)

    def cells(self) -> list[str]:
        flow, counts = self.flow, self.flow.counts
        return [
            f"x{self.factor:g}",
            f"{flow.sent / flow.seconds:.1f}",
            f"{len(flow.latencies_ms) / flow.seconds:.1f}",
            f"{self.inference_ms(50):.0f} / {self.inference_ms(99):.0f}",
            f"{self.latency_ms(50):.0f}",
            f"{self.latency_ms(99):.0f}",
            f"{self.ratio(50):.2f}",
            f"{self.ratio(99):.2f}",
            f"{self.ratio(99, of=50):.2f}",
            f"{counts['dropped: newer']} of {counts['received']}",
            str(flow.lost),
            f"{flow.node_cores:.2f}",
            f"{flow.camera_cores:.2f}",
        ]


@dataclass(frozen=True)
class Overload:
    """All that one run of `benchmarks.overload` measured, and how it was called."""

    model: str
    size: tuple[int, int]  # of the images, height and width, px
    seconds: float
    loads: Sequence[Load]
    keeping_up: Sequence[KeepUp]
    arguments: Sequence[str]

    @property
    def verdicts(self) -> list[Verdict]:
        """The rules of the contract, percentile against percentile, and no image lost with the shipped profile."""
        verdicts = []
        for load in self.loads:
            for percent in (50, 99):
                rule = f"x{load.factor:g}: p{percent} of the latency is at most two inference times (p{percent})"
                ratio = load.ratio(percent)
                verdicts.append(Verdict(rule, f"{ratio:.2f}", ratio <= _LATENCY_RULE))
        for result in self.keeping_up:
            if result.profile == "shipped":
                rule = "30 Hz of 1280 x 720, a network that keeps up: every image is served"
                measured = f"{result.masks} of {result.sent} (lost {result.lost}, dropped {result.dropped})"
                verdicts.append(Verdict(rule, measured, result.all_served))
        return verdicts


def _keep_up_cells(result: KeepUp) -> list[str]:
    return [
        f"{result.profile}: {PROFILES[result.profile]}",
        f"{result.input_hz:.1f}",
        f"{result.published_hz:.1f}",
        *(str(count) for count in (result.sent, result.lost, result.dropped, result.masks)),
        *(f"{milliseconds:.0f}" for milliseconds in (result.p50_ms, result.p99_ms)),
        *(f"{cores:.2f}" for cores in (result.node_cores, result.camera_cores)),
    ]


def tables(result: Overload) -> list[Table]:
    """For a terminal: what was measured below each other, the runs beside each other."""
    shown = []
    for title, names, rows in (
        (f"more than {result.model} manages", _LOAD_COLUMNS, [load.cells() for load in result.loads]),
        ("1280 x 720 at 30 Hz", _KEEP_UP_COLUMNS, [_keep_up_cells(run) for run in result.keeping_up]),
    ):
        table = Table(names[0], *(row[0] for row in rows), title=title)
        for cells in list(zip(names, *rows))[1:]:
            table.add_row(*cells)
        shown.append(table)
    verdicts = Table("rule", "measured", "")
    for verdict in result.verdicts:
        verdicts.add_row(verdict.rule, verdict.measured, "holds" if verdict.holds else "[bold red]broken")
    return [*shown, verdicts]


def write_results(result: Overload, folder: Path) -> list[Path]:
    """overload.md, .csv and .svg; their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"overload.{ending}" for ending in ("md", "csv", "svg")]
    paths[0].write_text(_markdown(result), encoding="utf-8")
    with paths[1].open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(_csv_columns())
        writer.writerows(_csv_row(load) for load in result.loads)
    charts = {"one frame at a time, ms": [ms for load in result.loads for ms in load.alone_ms]}
    charts |= {f"x{load.factor:g}, latency, ms": load.flow.latencies_ms for load in result.loads}
    lines = {name: [percentile(values, percent) for percent in _PERCENTS] for name, values in charts.items()}
    paths[2].write_text(line_chart([float(p) for p in _PERCENTS], lines, "percentile"), encoding="utf-8")
    return paths


def _csv_columns() -> list[str]:
    columns = ["factor", "input_hz", "published_hz", "sent", "lost", *(name.replace(": ", "_") for name in COUNTED)]
    columns += [f"{name}_{p}_ms" for name in ("inference", "latency") for p in ("p50", "p90", "p99")]
    return [*columns, "node_cores", "camera_cores"]


def _csv_row(load: Load) -> list[object]:
    flow = load.flow
    rates = [round(count / flow.seconds, 3) for count in (flow.sent, len(flow.latencies_ms))]
    times = [round(of(percent), 1) for of in (load.inference_ms, load.latency_ms) for percent in (50, 90, 99)]
    cores = [round(flow.node_cores, 3), round(flow.camera_cores, 3)]
    return [load.factor, *rates, flow.sent, flow.lost, *(flow.counts[name] for name in COUNTED), *times, *cores]


def _markdown(result: Overload) -> str:
    command = " ".join(["python -m benchmarks.overload", *result.arguments])
    height, width = result.size
    strict = [load for load in result.loads if not load.ratio(99, of=50) <= _LATENCY_RULE]
    exceeded = ", ".join(f"x{load.factor:g} ({load.ratio(99, of=50):.2f})" for load in strict) or "none of them"
    return "\n".join(
        [
            "# Overload",
            provenance(command),
            "",
            f"## More than the network manages: {result.model}, {width} x {height}",
            f"{result.seconds:g} s at each rate: 1, 3 and 10 times, or what was asked for, of what the node manages. "
            "Camera, node and the reader of the masks share the machine. *One frame* is sent when the last was "
            "answered, before and after each rate: that is what an inference time is held to be.",
            "",
            *markdown_table(_LOAD_COLUMNS, [load.cells() for load in result.loads]),
            "",
            "p50 / p50 and p99 / p99 are the latency in inference times of the same percentile, which the rule is "
            "about; p99 / p50 is the slowest hundredth against a usual inference. "
            f"The latter is over 2 at: {exceeded}.",
            "",
            "## 1280 x 720, raw colour, 30 Hz, and a network that keeps up",
            "A network of milliseconds with random weights (`benchmarks/keep_up.py`), so that what is lost is lost by "
            "transport and node. *Dropped: newer* waited when the next came: network or machine did not keep up.",
            "",
            *markdown_table(_KEEP_UP_COLUMNS, [_keep_up_cells(run) for run in result.keeping_up]),
            "",
            "## Rules",
            *markdown_table(
                ("rule", "measured", ""),
                [(v.rule, v.measured, "holds" if v.holds else "**broken**") for v in result.verdicts],
            ),
            "",
            "[The rows](overload.csv), and the latency by percentile:",
            "",
            "![Latency by percentile at each rate](overload.svg)",
            "",
        ]
    )
