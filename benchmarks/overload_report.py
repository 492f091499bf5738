"""What `benchmarks.overload` measured, as a page and a chart: overload.md and .svg."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.keep_up import PROFILES
from benchmarks.node_load import Flow, percentile
from benchmarks.pages import Verdict, markdown_table, provenance, verdict_table, write_line_charts

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

    def inference_ms(self, percent: float) -> float:
        return percentile(self.alone_ms, percent)

    def ratio(self, percent: float, of: float | None = None) -> float:
        """A percentile of the latency, in inference times: of the same percentile, unless `of` names another."""
        return self.flow.latency_ms(percent) / self.inference_ms(percent if of is None else of)

    def cells(self) -> list[str]:
        flow, counts = self.flow, self.flow.counts
        return [
            f"x{self.factor:g}",
            *(f"{hz:.1f}" for hz in flow.rates_hz),
            f"{self.inference_ms(50):.0f} / {self.inference_ms(99):.0f}",
            f"{self.flow.latency_ms(50):.0f}",
            f"{self.flow.latency_ms(99):.0f}",
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
    keeping_up: Mapping[str, Flow]  # by Fast DDS profile
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
        if (flow := self.keeping_up.get("shipped")) is not None:
            rule = "30 Hz of 1280 x 720, a network that keeps up: every image is served"
            dropped = flow.counts["dropped: newer"]
            measured = f"{len(flow.latencies_ms)} of {flow.sent} (lost {flow.lost}, dropped {dropped})"
            verdicts.append(Verdict(rule, measured, flow.all_served))
        return verdicts


def _keep_up_cells(profile: str, flow: Flow) -> list[str]:
    return [
        f"{profile}: {PROFILES[profile]}",
        *(f"{hz:.1f}" for hz in flow.rates_hz),
        *(str(count) for count in (flow.sent, flow.lost, flow.counts["dropped: newer"], len(flow.latencies_ms))),
        *(f"{flow.latency_ms(percent):.0f}" for percent in (50, 99)),
        *(f"{cores:.2f}" for cores in (flow.node_cores, flow.camera_cores)),
    ]


def write_results(result: Overload, folder: Path) -> list[Path]:
    """overload.md and .svg; their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    page, chart = folder / "overload.md", folder / "overload.svg"
    page.write_text(_markdown(result), encoding="utf-8")
    charts = {"one frame at a time, ms": [ms for load in result.loads for ms in load.alone_ms]}
    charts |= {f"x{load.factor:g}, latency, ms": load.flow.latencies_ms for load in result.loads}
    lines = {name: [percentile(values, percent) for percent in _PERCENTS] for name, values in charts.items()}
    write_line_charts(chart, _PERCENTS, lines, "percentile")
    return [page, chart]


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
            *markdown_table(_KEEP_UP_COLUMNS, [_keep_up_cells(*run) for run in result.keeping_up.items()]),
            "",
            "## Rules",
            *verdict_table(result.verdicts),
            "",
            "The latency by percentile:",
            "",
            "![Latency by percentile at each rate](overload.svg)",
            "",
        ]
    )
