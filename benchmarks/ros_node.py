"""Question e: what the ROS side costs: from an image's stamp to its labels at a subscriber, less the network."""

from __future__ import annotations

import array
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import Effort, Timing
from benchmarks.networks import make_config, make_step
from benchmarks.rows import Row

TITLE = "e. The node over DDS: an image's way to its labels, less the network"
_TARGET_MS = 8.0
_DEADLINE_S = 180.0  # importing PyTorch and loading the model, on a busy machine
_ANSWER_DEADLINE_S = 5.0
_WARM_UP_FRAMES = 5


def rows(effort: Effort) -> Iterator[Row]:
    """Rows as they are measured."""
    try:
        import rclpy
    except ImportError as error:
        yield Row("the node, 1280x720 rgb8", note=f"no ROS 2 in this environment: {error}")
        return
    size = (120, 160) if effort.quick else (720, 1280)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # Read before rclpy starts: a domain of its own, and a transport that takes whole images.
        from sdcpc_ros.replay.node_process import NodeProcess, node_command, ros_environment, write_parameters
        from sdcpc_ros.runtime.process_memory import configure_malloc

        configure_malloc()  # the variables for it, below, are too late for this process
        before = dict(os.environ)
        os.environ.update(ros_environment(folder))
        rclpy.init()
        try:
            model, parameters = folder / "model.safetensors", folder / "parameters.yaml"
            _save_model(model, effort)
            write_parameters(parameters, model=model, image_topic="/camera/image_raw", compressed=False)
            # Stamps are of the system's clock here, so that an answer's arrival can be compared with them.
            parameters.write_text(parameters.read_text().replace("use_sim_time: true", "use_sim_time: false"))
            with NodeProcess(node_command(parameters), folder / "node.log") as process:
                yield from _measure(process, size, effort)
        finally:
            rclpy.try_shutdown()
            os.environ.clear()
            os.environ.update(before)


def _save_model(path: Path, effort: Effort) -> None:
    from sdcpc_ros.labels.label_set import CAMVID_11
    from sdcpc_ros.model_files.checkpoint import Checkpoint, save_checkpoint
    from sdcpc_ros.network import SDCPC

    # Small, so that what is left of a frame's time is the ROS side's; its time is taken off anyway.
    config = make_config("", num_classes=len(CAMVID_11), quick=True)
    make_step(config, effort.device)  # refuses here what the node would refuse
    save_checkpoint(
        path,
        Checkpoint(
            config=config,
            label_set=CAMVID_11,
            mean=(123.7, 116.3, 103.5),
            std=(58.4, 57.1, 57.4),
            input_size=(96, 128),
            state_dict=SDCPC(config).state_dict(),
        ),
    )


def _measure(process: Any, size: tuple[int, int], effort: Effort) -> Iterator[Row]:
    import rclpy
    from diagnostic_msgs.msg import DiagnosticArray
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.qos import QoSProfile, ReliabilityPolicy
    from sensor_msgs.msg import Image

    from sdcpc_ros.replay.node_process import CAMERA, DIAGNOSTICS_TOPIC, LABEL_TOPIC

    node = rclpy.create_node("benchmark")
    executor = SingleThreadedExecutor()  # rclpy.spin_once would take the node in and out of one at every call
    executor.add_node(node)
    best_effort = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    arrived: dict[int, float] = {}  # stamp -> seconds
    diagnostics: dict[str, str] = {}

    def on_labels(message: Image) -> None:
        arrived[_nanoseconds(message.header.stamp)] = time.time()

    def on_diagnostics(message: DiagnosticArray) -> None:
        for status in message.status:
            if status.hardware_id == CAMERA:
                diagnostics.update({pair.key: pair.value for pair in status.values})

    node.create_subscription(Image, LABEL_TOPIC, on_labels, best_effort)
    node.create_subscription(DiagnosticArray, DIAGNOSTICS_TOPIC, on_diagnostics, 10)
    publisher = node.create_publisher(Image, "/camera/image_raw", best_effort)
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    image = Image(height=size[0], width=size[1], step=3 * size[1], encoding="rgb8")
    image.data = array.array("B", pixels.tobytes())
    image.header.frame_id = "camera"

    give_up_s = time.monotonic() + _DEADLINE_S
    while publisher.get_subscription_count() == 0:
        process.require_running()
        if time.monotonic() > give_up_s:
            raise RuntimeError(f"the node did not listen within {_DEADLINE_S:.0f} s")
        executor.spin_once(timeout_sec=0.05)

    whole_ms, lost = [], 0
    for frame in range(_WARM_UP_FRAMES + effort.rounds):
        image.header.stamp = node.get_clock().now().to_msg()
        stamp_ns = _nanoseconds(image.header.stamp)
        publisher.publish(image)
        give_up_s = time.monotonic() + _ANSWER_DEADLINE_S
        while stamp_ns not in arrived and time.monotonic() < give_up_s:
            executor.spin_once(timeout_sec=0.02)
        if stamp_ns not in arrived:
            process.require_running()
            lost += 1
        elif frame >= _WARM_UP_FRAMES:
            whole_ms.append(1e3 * arrived[stamp_ns] - stamp_ns / 1e6)
    if not whole_ms:
        raise RuntimeError(f"none of {lost} images came back as labels")
    _wait_for_report(executor, diagnostics, processed=len(arrived))
    executor.shutdown()
    node.destroy_node()

    whole = Timing(tuple(whole_ms))
    stages = {
        key.removesuffix(" p50/p95 (ms)"): tuple(float(part) for part in value.split("/"))
        for key, value in diagnostics.items()
        if key.endswith(" p50/p95 (ms)")
    }
    network_ms = stages["network"][0]
    in_node_ms = stages["total"][0]
    label = f"{size[1]}x{size[0]} rgb8"
    note = f"{len(whole_ms)} images, {lost} lost; p95 {whole.percentile_ms(95) - network_ms:.1f} ms"
    ros_side_ms = whole.median_ms - network_ms
    yield Row(
        f"{label}: the ROS side, stamp to labels at a subscriber less the network / the target of 8 ms",
        ours_ms=ros_side_ms,
        peer_ms=_TARGET_MS,
        ratio=ros_side_ms / _TARGET_MS,
        low=(whole.percentile_ms(10) - network_ms) / _TARGET_MS,
        high=(whole.percentile_ms(90) - network_ms) / _TARGET_MS,
        target=1.0,
        ours_mb=(pixels.nbytes + size[0] * size[1]) / 1e6,
        note=note,
    )
    working = {stage: p50 for stage, (p50, _) in stages.items() if stage not in ("total", "network")}
    split = {
        "over DDS, both ways": whole.median_ms - in_node_ms,
        **working,
        "waiting inside the node": in_node_ms - network_ms - sum(working.values()),
    }
    for stage, milliseconds in split.items():
        p95 = f"p95 {stages[stage][1]:.1f} ms" if stage in stages else ""
        ratio = milliseconds / ros_side_ms
        yield Row(f"{label}: of which {stage}", ours_ms=milliseconds, peer_ms=ros_side_ms, ratio=ratio, note=p95)


def _wait_for_report(executor: Any, diagnostics: dict[str, str], *, processed: int) -> None:
    """Until the node's report, which comes once a second, counts all frames that were answered."""
    give_up_s = time.monotonic() + _ANSWER_DEADLINE_S
    while int(diagnostics.get("processed", 0)) < processed:
        if time.monotonic() > give_up_s:
            raise RuntimeError("the node's diagnostics did not come, or count fewer frames than were answered")
        executor.spin_once(timeout_sec=0.05)


def _nanoseconds(stamp: Any) -> int:
    return stamp.sec * 10**9 + stamp.nanosec
