"""How long does the node take to end? python -m benchmarks.shutdown

From SIGINT or SIGTERM to the end of the process: while it waits, while frames come faster than it segments them, while
it loads the model, and while it compiles the network. The rule: 2 s, exit status 0, no stack trace, and nothing that it
has started outlives it.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.node_load import START_S, Bench
from sdcpc_ros import DEFAULT_MODEL
from sdcpc_ros.bags.errors import PlaybackError
from sdcpc_ros.replay.node_process import NodeProcess, ros_environment

LIMIT_S = 2.0
_SIZE = (480, 640)  # of the images, height and width
_FRAME_S = 1 / 30
_BUSY_S = 2.0  # for which frames come, or the compiler runs, before the signal
_ORPHAN_S = 5.0  # for children to notice that the node has gone
_COMPILED = ("-p", "backend:=inductor", "-p", "input_height:=360", "-p", "input_width:=480")


@dataclass(frozen=True)
class Ending:
    """One end of a node."""

    seconds: float
    status: int
    stack_trace: bool
    left: int  # processes that it had started, and that are still there

    @property
    def is_clean(self) -> bool:
        return self.seconds <= LIMIT_S and self.status == 0 and not self.stack_trace and self.left == 0


def wait_for_log(process: NodeProcess, text: str) -> None:
    """Raises PlaybackError when it does not come."""
    give_up_s = time.monotonic() + START_S
    while text not in process.log_path.read_text(errors="replace"):
        process.require_running()
        if time.monotonic() > give_up_s:
            raise PlaybackError(f"{text!r} is not in {process.log_path} after {START_S:g} s")
        time.sleep(0.02)


def idle(process: NodeProcess) -> None:
    wait_for_log(process, "is ready")
    time.sleep(1.0)


def in_inference(process: NodeProcess) -> None:
    import rclpy

    wait_for_log(process, "is ready")
    rclpy.init()
    bench = Bench(["camera"], _SIZE, process)
    try:
        bench.wait_for_masks()
        end_s, number = time.monotonic() + _BUSY_S, 5000
        while time.monotonic() < end_s:
            number += 1
            bench.publish("camera", number, number * _FRAME_S)
            time.sleep(_FRAME_S)
    finally:
        bench.close()
        rclpy.shutdown()


def in_configure(process: NodeProcess) -> None:
    wait_for_log(process, "loading model")
    time.sleep(0.5)  # into the import of PyTorch


def in_compilation(process: NodeProcess) -> None:
    wait_for_log(process, "is being built")
    time.sleep(_BUSY_S)


#: Moment -> parameters of the node, and what to wait for.
MOMENTS: dict[str, tuple[tuple[str, ...], Callable[[NodeProcess], None]]] = {
    "idle": ((), idle),
    "in inference": ((), in_inference),
    "while it loads": ((), in_configure),
    "while it compiles": (_COMPILED, in_compilation),
}


def descendants(pid: int) -> set[int]:
    """All processes below one, as /proc tells."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue  # it has ended meanwhile
    found, new = set(), {pid}
    while new := {child for child, parent in parents.items() if parent in new} - found:
        found |= new
    return found


def end(moment: str, number: signal.Signals, model: str, output: Path) -> Ending:
    """Starts a node, waits for the moment and sends the signal. Raises PlaybackError when it does not come to that."""
    parameters, wait = MOMENTS[moment]
    options = ("-p", f"model:={model}", "-p", "max_gap:=3600.0", *parameters)
    words = [sys.executable, "-m", "sdcpc_ros.nodes.segmentation_node", "--ros-args", *options]
    with NodeProcess(words, output / "node.log") as process:
        wait(process)
        children = descendants(process.pid)
        begun_s = time.monotonic()
        os.kill(process.pid, number)
        status = process.wait_for_end(30.0)
        seconds = time.monotonic() - begun_s
        give_up_s = time.monotonic() + _ORPHAN_S
        while children := {child for child in children if Path("/proc", str(child)).exists()}:
            if time.monotonic() > give_up_s:
                break
            time.sleep(0.1)
        return Ending(seconds, status, "Traceback" in process.log_path.read_text(errors="replace"), len(children))


def table(endings: dict[tuple[str, str], list[Ending]]) -> Table:
    shown = Table("moment", "signal", "s, slowest of all", "exit status", "stack traces", "processes left", "")
    for (moment, name), ends in endings.items():
        shown.add_row(
            moment,
            name,
            f"{max(e.seconds for e in ends):.2f} of {len(ends)}",
            ", ".join(sorted({str(e.status) for e in ends})),
            str(sum(e.stack_trace for e in ends)),
            str(max(e.left for e in ends)),
            "holds" if all(e.is_clean for e in ends) else "[bold red]broken",
        )
    return shown


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shutdown", description=__doc__)
    parser.add_argument("--model", default=DEFAULT_MODEL, metavar="NAME_OR_PATH", help="default %(default)s")
    parser.add_argument("--rounds", type=int, default=2, metavar="N", help="of each, default %(default)s")
    parser.add_argument("--moments", nargs="+", choices=MOMENTS, default=list(MOMENTS))
    arguments = parser.parse_args()
    endings: dict[tuple[str, str], list[Ending]] = {}
    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(ros_environment(Path(folder)))
        # Else what an earlier run has compiled is taken, at once.
        os.environ["TORCHINDUCTOR_FORCE_DISABLE_CACHES"] = "1"
        for moment in arguments.moments:
            for number in (signal.SIGINT, signal.SIGTERM):
                for _ in range(arguments.rounds):
                    ending = end(moment, number, arguments.model, Path(folder))
                    endings.setdefault((moment, number.name), []).append(ending)
    Console().print(table(endings))
    return 0 if all(ending.is_clean for ends in endings.values() for ending in ends) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except PlaybackError as error:
        sys.exit(f"shutdown: {error}")
