"""Compare reports of `sdcpc evaluate-bag` on one bag with the first report: differences and their intervals."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from sdcpc_ros.commands.model_options import check_file_option


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("baseline", type=Path, metavar="BASELINE", help="a report.json of `sdcpc evaluate-bag`")
    parser.add_argument("reports", type=Path, nargs="+", metavar="REPORT", help="reports to compare with it")
    parser.add_argument(
        "--fail-if",
        action="append",
        default=[],
        metavar="CONDITION",
        help="exit with 1 if a difference from the baseline meets this, in percent points (ms: in ms): 'miou<-0.5', "
        "'iou.car<-2', 'ms>5'; .low and .high are the ends of the interval: 'miou.high<0'. May be repeated",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the comparison to this file")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page with plots to this file")
    bootstrap = parser.add_argument_group("bootstrap")
    bootstrap.add_argument("--draws", type=int, default=2000, help="number of draws, default %(default)s")
    bootstrap.add_argument("--level", type=float, default=0.95, help="level of the intervals, default %(default)s")
    bootstrap.add_argument(
        "--block", type=int, metavar="FRAMES", help="length of the drawn runs of frames; default: from the data"
    )
    bootstrap.add_argument("--seed", type=int, default=0, help="seed of the draws, default %(default)s")


def run(arguments: argparse.Namespace) -> int:
    paths = [arguments.baseline, *arguments.reports]
    check_file_option(arguments.parser, "--json", arguments.json, *paths)
    check_file_option(arguments.parser, "--html", arguments.html, *paths)

    from rich.console import Console

    from sdcpc_ros.evaluation.comparison import ComparisonSettings, check_gates, compare, comparison_report
    from sdcpc_ros.evaluation.comparison_report import comparison_table, write_comparison
    from sdcpc_ros.evaluation.gates import Gate
    from sdcpc_ros.evaluation.report_file import read_report, write_json

    gates = [Gate.parse(text) for text in arguments.fail_if]
    settings = ComparisonSettings(arguments.draws, arguments.level, arguments.block, arguments.seed)
    comparisons = compare([str(path) for path in paths], [read_report(path) for path in paths], settings)
    results = check_gates(comparisons, gates)
    console = Console()
    for comparison in comparisons:
        console.print(comparison_table(comparison, console.width))
    if arguments.json is not None:
        write_json(arguments.json, comparison_report(comparisons, results), indent=2)
    if arguments.html is not None:
        write_comparison(arguments.html, comparisons, results, command=_command(arguments))
    failed = [result for result in results if result.failed]
    for result in failed:
        print(f"sdcpc compare: {result.sentence}", file=sys.stderr)
    return int(bool(failed))


def _command(arguments: argparse.Namespace) -> str:
    """The command line that repeats the comparison."""
    words = ["sdcpc", "compare", str(arguments.baseline), *map(str, arguments.reports)]
    words += [word for text in arguments.fail_if for word in ("--fail-if", text)]
    words += ["--draws", str(arguments.draws), "--level", str(arguments.level), "--seed", str(arguments.seed)]
    words += ["--block", str(arguments.block)] if arguments.block is not None else []
    return shlex.join(words)
