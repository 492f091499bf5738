"""A segmentation node as a process, cameras that load it at a given rate, and what is measured of both."""

from __future__ import annotations

import array
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sdcpc_ros.bags.errors import PlaybackError
from sdcpc_ros.replay.node_process import NodeProcess, ros_environment

NODE = "/segmentation_node"
CAMERA = "camera"
START_S = 600.0  # the longest that a node may take until it segments with its final backend
_UNSETTLED = ("auto: chosen at the first frame", "eager, while")  # a backend status begins so before that
SETTLE_S = 2.5  # until /diagnostics counts what was sent


@dataclass(frozen=True)
class Resources:
    """Of a process, from /proc."""

    rss_mib: float
    threads: int
    files: int

    @classmethod
    def of(cls, pid: int) -> Resources:
        folder = Path("/proc", str(pid))
        pages = int((folder / "statm").read_text().split()[1])
        counts = [len(list((folder / name).iterdir())) for name in ("task", "fd")]
        return cls(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, *counts)


def cpu_s(pid: int) -> float:
    """The processor time that all threads of a process have used so far, s."""
    after_name = Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")


@dataclass
class Answers:
    """Latencies of the masks that came back, by camera, ms; emptied by whoever takes them."""

    sent_s: dict[tuple[str, int], float] = field(default_factory=dict)  # (camera, number) -> steady clock
    latencies_ms: list[float] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def sent(self, camera: str, number: int) -> None:
        with self.lock:
            self.sent_s[camera, number] = time.monotonic()
            while len(self.sent_s) > 10_000:  # frames that were dropped are never answered
                del self.sent_s[next(iter(self.sent_s))]

    def came(self, camera: str, number: int) -> None:
        now_s = time.monotonic()
        with self.lock:
            sent_s = self.sent_s.pop((camera, number), None)
            if sent_s is not None:
                self.latencies_ms.append((now_s - sent_s) * 1e3)

    def take(self) -> list[float]:
        with self.lock:
            taken, self.latencies_ms = self.latencies_ms, []
            return taken


class Bench:
    """The node, a publisher for each camera, and subscribers of their masks. Frames carry their number in frame_id."""

    def __init__(self, cameras: Sequence[str], size: tuple[int, int], process: NodeProcess) -> None:
        import rclpy
        from diagnostic_msgs.msg import DiagnosticArray
        from rclpy.qos import qos_profile_sensor_data
        from sensor_msgs.msg import Image

        height, width = size
        pixels = np.random.default_rng(0).integers(0, 256, (-(-height // 20), -(-width // 20), 3), np.uint8)
        pixels = np.ascontiguousarray(pixels.repeat(20, 0).repeat(20, 1)[:height, :width])
        self.process, self.answers = process, Answers()
        self._node = rclpy.create_node("bench")
        self._reports: dict[str, dict[str, str]] = {}
        self._failure, self._backend = "", _UNSETTLED[0]
        self._publishers, self._images = {}, {}
        for camera in cameras:
            self._publishers[camera] = self._node.create_publisher(
                Image, f"/{camera}/image_raw", qos_profile_sensor_data
            )
            data = array.array("B", pixels.tobytes())
            self._images[camera] = Image(height=height, width=width, encoding="rgb8", step=3 * width, data=data)
            self._node.create_subscription(
                Image, f"{NODE}/{camera}/label/image_raw", lambda mask, camera=camera: self._on_mask(camera, mask), 5
            )
        self._node.create_subscription(DiagnosticArray, "/diagnostics", self._on_report, 10)
        self._executor = rclpy.executors.SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self._stop = threading.Event()
        self._spinner = threading.Thread(target=self._spin, daemon=True)
        self._spinner.start()

    def publish(self, camera: str, number: int, stamp_s: float) -> None:
        image = self._images[camera]
        image.header.stamp.sec, image.header.stamp.nanosec = int(stamp_s), int(stamp_s % 1 * 1e9)
        # The number names the frame when stamps come again: it goes where the node leaves it alone and does not look.
        image.header.stamp.nanosec = image.header.stamp.nanosec // 10_000 * 10_000 + number % 10_000
        self.answers.sent(camera, number % 10_000)
        self._publishers[camera].publish(image)

    def report(self, camera: str) -> dict[str, str]:
        """What /diagnostics said last of a camera."""
        return dict(self._reports.get(camera, {}))

    def counts(self) -> dict[str, int]:
        """received, processed, dropped, ... of all cameras together, as last reported."""
        total: dict[str, int] = {}
        for report in list(self._reports.values()):
            for key, value in report.items():
                if value.isdecimal():
                    total[key] = total.get(key, 0) + int(value)
        return total

    def wait_for_masks(self) -> None:
        """Returns when every camera has been answered by the backend that stays. Raises PlaybackError otherwise."""
        give_up_s, number = time.monotonic() + START_S, 0
        for camera in self._publishers:
            self.answers.take()
            while not self.answers.take() or self._backend.startswith(_UNSETTLED):
                self.process.require_running()
                if self._failure:
                    raise PlaybackError(f"the node {self._failure}")
                if time.monotonic() > give_up_s:
                    raise PlaybackError(f"no mask came within {START_S:g} s; see {self.process.log_path}")
                number += 1
                self.publish(camera, number, float(number))
                time.sleep(0.2)

    def close(self) -> None:
        self._stop.set()
        self._spinner.join()
        self._executor.shutdown()
        self._node.destroy_node()

    def _spin(self) -> None:
        while not self._stop.is_set():
            self._executor.spin_once(timeout_sec=0.1)

    def _on_mask(self, camera: str, mask: Any) -> None:
        self.answers.came(camera, mask.header.stamp.nanosec % 10_000)

    def _on_report(self, message: Any) -> None:
        from diagnostic_msgs.msg import DiagnosticStatus

        for status in message.status:
            part = status.name.rpartition(": ")[2]
            values = {pair.key: pair.value for pair in status.values}
            if part == "model":
                self._failure = status.message if status.level == DiagnosticStatus.ERROR else self._failure
                self._backend = values.get("backend status", self._backend)
            if part in self._publishers:
                self._reports[part] = values


@dataclass(frozen=True)
class Flow:
    """What was sent to one camera at a steady rate, and what became of it."""

    seconds: float
    sent: int
    latencies_ms: list[float]  # of the masks that came back
    counts: dict[str, int]  # by the node's own /diagnostics: received, processed, "dropped: newer", ...
    node_cores: float  # processor time by wall time
    camera_cores: float  # of this process, which is camera and reader of the masks

    @property
    def lost(self) -> int:
        """Images that did not reach the node: best effort may lose them on the way."""
        return self.sent - self.counts["received"]

    @property
    def all_served(self) -> bool:
        return self.sent == self.counts["processed"] == len(self.latencies_ms)

    @property
    def rates_hz(self) -> tuple[float, float]:
        """Of the images and of the masks."""
        return self.sent / self.seconds, len(self.latencies_ms) / self.seconds

    def latency_ms(self, percent: float) -> float:
        return percentile(self.latencies_ms, percent)


#: What /diagnostics counts of a camera, as far as an overload can change it.
COUNTED = ("received", "processed", "dropped: newer", "rejected", "lost to faults")


def one_at_a_time(bench: Bench, seconds: float, frames: int = 1_000_000) -> list[float]:
    """Latencies, ms, of at most `frames` frames, each sent after the last was answered. Raises PlaybackError."""
    latencies: list[float] = []
    end_s = time.monotonic() + seconds
    for number in range(1001, 1001 + frames):
        if time.monotonic() >= end_s:
            break
        bench.publish(CAMERA, number, number / 10)
        give_up_s = time.monotonic() + 10
        while not (came := bench.answers.take()) and time.monotonic() < give_up_s:
            bench.process.require_running()
            time.sleep(0.001)
        latencies += came
    if not latencies:
        raise PlaybackError(f"the node answered nothing in {seconds:g} s")
    return latencies


def steady_flow(bench: Bench, camera: str, rate_hz: float, seconds: float, first_stamp_s: float) -> Flow:
    """Sends `rate_hz` frames a second, or as many as this process can, and counts when all have been reported."""
    time.sleep(SETTLE_S)
    before, sent = bench.counts(), 0
    bench.answers.take()
    processes = (bench.process.pid, os.getpid())
    cpu_before_s, begun_s = [cpu_s(pid) for pid in processes], time.monotonic()
    while (elapsed_s := time.monotonic() - begun_s) < seconds:
        early_s = sent / rate_hz - elapsed_s
        if early_s > 0:
            time.sleep(min(early_s, seconds - elapsed_s))
            continue
        bench.process.require_running()
        sent += 1
        bench.publish(camera, 2000 + sent, first_stamp_s + elapsed_s)
    cores = [(cpu_s(pid) - then_s) / seconds for pid, then_s in zip(processes, cpu_before_s)]
    time.sleep(SETTLE_S)
    after = bench.counts()
    counts = {key: after.get(key, 0) - before.get(key, 0) for key in COUNTED}
    return Flow(seconds, sent, bench.answers.take(), counts, *cores)


@contextmanager
def running_bench(model: str, cameras: Sequence[str], size: tuple[int, int], output: Path) -> Iterator[Bench]:
    """A node with this model that segments images of `size` (height, width); ends it with the block."""
    output.mkdir(parents=True, exist_ok=True)
    os.environ.update(ros_environment(output))
    import rclpy
    from rclpy.signals import SignalHandlerOptions

    parameters = {"model": model, "device": "auto", "cameras": f"[{', '.join(cameras)}]", "max_gap": "3600.0"}
    options = [word for name, value in parameters.items() for word in ("-p", f"{name}:={value}")]
    words = [sys.executable, "-m", "sdcpc_ros.nodes.segmentation_node", "--ros-args", *options]
    with NodeProcess(words, output / "node.log") as process:
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)  # Ctrl-C is ours: what was measured is kept
        bench = Bench(cameras, size, process)
        try:
            bench.wait_for_masks()
            yield bench
        finally:
            bench.close()
            rclpy.try_shutdown()


def percentile(values: Sequence[float], share: float) -> float:
    """nan of nothing."""
    return float(np.percentile(values, share)) if values else float("nan")
