"""`segmentation_node`: camera images in, masks out, as a managed node. Wiring only.

Threads (picture: docs/architecture.md): the executor's thread takes messages and answers services, the worker's thread
runs the network and publishes, a thread loads the model during *configure*, and the main thread waits for a signal to
end. The executor is single-threaded: its callbacks only check and store, and rclpy's MultiThreadedExecutor spins while
a callback of a busy group is due, which holds the GIL and makes the network ten times as slow.
"""

from __future__ import annotations

if __name__ == "__main__":  # before the imports that take long
    from sdcpc_ros.nodes.stop_signals import exit_on_stop_signals

    exit_on_stop_signals()

import gc
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.clock import Clock, ClockType
from rclpy.executors import Executor, ExternalShutdownException, ShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.logging import LoggingSeverity
from rclpy.signals import SignalHandlerOptions
from std_srvs.srv import Trigger

from sdcpc_ros.nodes import REFUSED_BY_ROS, topics
from sdcpc_ros.nodes.batch_processor import BatchProcessor, largest_batch
from sdcpc_ros.nodes.camera_interface import CameraInterface
from sdcpc_ros.nodes.camera_watch import SILENCE_S
from sdcpc_ros.nodes.declared_parameters import DeclaredParameters
from sdcpc_ros.nodes.diagnostics import BackendReporter, make_status
from sdcpc_ros.nodes.frame_worker import FrameWorker
from sdcpc_ros.nodes.managed_node import ManagedNode
from sdcpc_ros.nodes.model_loading import load_segmenter
from sdcpc_ros.nodes.parameter_file import files_for_others
from sdcpc_ros.nodes.stop_signals import StopSignals
from sdcpc_ros.runtime.openmp import limit_omp_spin
from sdcpc_ros.runtime.process_memory import configure_malloc, device_mib, release_freed_memory, resident_mib
from sdcpc_ros.runtime.wording import count_noun

if TYPE_CHECKING:
    from sdcpc_ros.streaming.segmenter import StreamingSegmenter

#: Clean-up that takes longer is abandoned, so that Ctrl-C ends the process within two seconds. While a model loads
#: there is nothing to wait for, and the loading of PyTorch's libraries blocks every thread.
_SHUTDOWN_DEADLINE_S, _SHUTDOWN_DEADLINE_WHILE_LOADING_S = 1.2, 0.3


class SegmentationNode(ManagedNode):
    """Configure loads the model and creates the publishers; activate subscribes and starts the worker."""

    def __init__(self) -> None:
        super().__init__("segmentation_node")
        self._segmenter: StreamingSegmenter | None = None
        self._backend: BackendReporter | None = None
        self._cameras: dict[str, CameraInterface] = {}
        self._worker: FrameWorker | None = None
        self._failure = ""  # of the last transition, for /diagnostics
        self.is_configuring = self._is_finalized = False
        self._failed_callbacks = self._reported_failures = self._seconds_without_clock = 0
        self._transition_lock = threading.RLock()  # a signal may end the node while a service call configures it
        self._declared = DeclaredParameters(self, lambda: self.is_configuring or self._segmenter is not None)
        self.create_service(Trigger, "~/reset", self._on_reset)
        self._diagnostics = self.create_publisher(DiagnosticArray, topics.DIAGNOSTICS.name, topics.DIAGNOSTICS.depth)
        # The steady clock, because simulated time may stand still.
        steady_clock = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(1.0, self._publish_diagnostics, clock=steady_clock)
        self._log_missing_packages()
        if self.get_parameter("autostart").value:
            # The first thing that the executor does.
            self._autostart_timer = self.create_timer(
                0.0, self._autostart, clock=steady_clock, callback_group=self.transition_callbacks
            )

    def count_failed_callback(self, error: Exception) -> None:
        """Counts an exception of a callback, or of a message that cannot be deserialised, for /diagnostics."""
        self._failed_callbacks += 1
        self.get_logger().error(f"a callback failed: {type(error).__name__}: {error}", throttle_duration_sec=5.0)

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.is_configuring = True
        try:
            return self._attempt("configure", self._configure, undo=self._release)
        finally:
            self.is_configuring = False

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        super().on_activate(state)  # enables the publishers
        result = self._attempt("activate", self._start, undo=self._stop)
        if result != TransitionCallbackReturn.SUCCESS:
            super().on_deactivate(state)
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._stop()
        self.get_logger().info("deactivated: no camera is subscribed")
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState, done: str = "cleaned up") -> TransitionCallbackReturn:
        self._release()
        release_freed_memory()
        self.get_logger().info(f"{done}: no model is loaded")
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._is_finalized = True
        return self.on_cleanup(state, "finalized")

    on_error = on_cleanup

    def destroy_node(self) -> None:
        self._release()
        super().destroy_node()

    def _attempt(self, what: str, step: Callable[[], None], undo: Callable[[], None]) -> TransitionCallbackReturn:
        """Runs a lifecycle step. If it fails, logs the reason and undoes the step."""
        with self._transition_lock:
            try:
                step()
            except Exception as error:  # rclpy would drop it without a log line
                self._failure = f"cannot {what}: {error or type(error).__name__}"
                self.get_logger().error(self._failure)
                self.get_logger().debug(traceback.format_exc())
                undo()
                return TransitionCallbackReturn.FAILURE
            self._failure = ""
            return TransitionCallbackReturn.SUCCESS

    def _configure(self) -> None:
        parameters = self._declared.read()
        on = f"device {parameters.device}, backend {parameters.backend}"
        self.get_logger().info(f"loading model '{parameters.model}' ({on})")
        begun = time.monotonic()
        self._segmenter, label_map = load_segmenter(parameters)
        self._backend = BackendReporter(self._segmenter, self.get_logger())
        for camera in parameters.cameras:
            self._cameras[camera.name] = CameraInterface(self, camera, self._segmenter, label_map, self._declared)
        height, width = self._segmenter.input_size or self._segmenter.model_size
        self.get_logger().info(
            f"model '{parameters.model}' is ready after {time.monotonic() - begun:.1f} s: "
            f"{len(self._segmenter.label_set)} classes, input {width} x {height}, on {self._segmenter.device}"
        )

    def _start(self) -> None:
        assert self._segmenter is not None  # an inactive node is a configured one
        cameras = self._cameras.values()
        processor = BatchProcessor(self._cameras, self._segmenter, self._declared)
        self._worker = FrameWorker([camera.stream for camera in cameras], processor)
        self._worker.start()
        for camera in cameras:
            camera.subscribe(self._worker.offer)

    def _stop(self) -> None:
        with self._transition_lock:
            if self._worker is not None:
                self._worker.stop()
                self._worker = None
                for camera in self._cameras.values():
                    camera.unsubscribe()

    def _release(self) -> None:
        with self._transition_lock:
            self._stop()
            cameras, self._cameras = self._cameras, {}
            for camera in cameras.values():
                camera.outputs.destroy()
            # Removed before it is closed: /diagnostics may read it meanwhile.
            segmenter, self._segmenter, self._backend = self._segmenter, None, None
            if segmenter is not None:
                segmenter.close()

    async def _autostart(self) -> None:
        self.destroy_timer(self._autostart_timer)
        if await self.run_in_thread(self.trigger_configure) == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        cameras, segmenter = list(self._cameras), self._segmenter  # a snapshot: a configure may be adding to them
        if segmenter is not None:
            segmenter.reset()
        response.success = bool(cameras)
        response.message = (
            f"the frame buffers of {', '.join(cameras)} are emptied before their next frame"
            if cameras
            else "no frame buffers: the node is not configured"
        )
        return response

    def _publish_diagnostics(self) -> None:
        message = DiagnosticArray(status=[self._model_status()])
        now = self.get_clock().now()
        message.header.stamp = now.to_msg()
        self._seconds_without_clock = 0 if now.nanoseconds else self._seconds_without_clock + 1
        if self._seconds_without_clock == SILENCE_S:
            self.get_logger().warning(
                f"use_sim_time is true, but no /clock has arrived for {SILENCE_S:.0f} s, so the node's time is 0: "
                "ros2 bag play BAG --clock, or set use_sim_time to false"
            )
        for camera in list(self._cameras.values()):
            message.status.append(camera.report())
        self._diagnostics.publish(message)

    def _model_status(self) -> DiagnosticStatus:
        segmenter, failed = self._segmenter, self._failed_callbacks
        device = "" if segmenter is None else segmenter.device
        values: dict[str, Any] = {
            "process memory (MiB)": _in_mib(resident_mib()),
            "device memory (MiB)": _in_mib(device_mib(device)),
            "failed callbacks": failed,
        }
        if segmenter is not None:
            height, width = segmenter.input_size or segmenter.model_size
            values |= {
                "model": Path(self._declared.current.model).stem,
                "device": device,
                "precision": segmenter.precision,
                "backend": segmenter.backend,
                "backend status": segmenter.backend_status,
                "label set": segmenter.label_set.name,
                "input size (px)": f"{width} x {height}",
                "largest batch": largest_batch(self._declared.current, device),
                "batches held up by": segmenter.batching_disabled_reason,
                "failed batches": segmenter.failed_batches,
            }
        new_failures, self._reported_failures = failed - self._reported_failures, failed
        level = DiagnosticStatus.OK
        if self._failure:
            level, message = DiagnosticStatus.ERROR, self._failure
        elif new_failures:
            level, message = DiagnosticStatus.WARN, f"{count_noun(new_failures, 'callback')} failed: see the log"
        elif self.is_configuring:
            message = "configuring: the model is being loaded"
        elif self._is_finalized:
            message = "finalized"
        else:
            message = "unconfigured" if segmenter is None else "inactive" if self._worker is None else "active"
            if self._backend is not None:
                level, words = self._backend.report()
                message += f"; {words}" if words else ""
        return make_status(self.get_fully_qualified_name(), "model", level, message, values, hardware_id=device)

    def _log_missing_packages(self) -> None:
        for topic, cause in (
            (topics.LABEL_INFO, "vision_msgs is not installed"),
            (topics.CLASS_STATISTICS, "the messages of sdcpc_ros are not built"),
        ):
            if topics.message_type(topic.type_name) is None:
                self.get_logger().info(f"{cause}: {topic.name} is not published")


def _in_mib(memory: float | None) -> str:
    return "" if memory is None else f"{memory:.0f}"


def main(args: Sequence[str] | None = None) -> int:
    """Runs the node until SIGINT or SIGTERM; returns the exit status."""
    signals = StopSignals()  # instead of rclpy's handlers, which end the ROS context while the worker still publishes
    configure_malloc()
    limit_omp_spin()
    try:
        rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
        node = SegmentationNode()
        for sentence in files_for_others(sys.argv if args is None else args, node.get_fully_qualified_name()):
            node.get_logger().warning(sentence)
    except RuntimeError as error:  # rclpy's RCLError: an invalid name, a keystore without the enclave, ...
        print(f"error: ROS does not let the node start: {error}", file=sys.stderr)
        rclpy.try_shutdown()
        return REFUSED_BY_ROS
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    stop = threading.Event()
    spinner = threading.Thread(target=_spin, args=(executor, node, stop), name="executor", daemon=True)
    spinner.start()
    signals.wait()
    stop.set()
    signals.ignore()
    node.get_logger().info("shutting down")
    node.get_logger().set_level(LoggingSeverity.ERROR)  # a configuration that still runs must not log
    # Neither a network run nor the import of PyTorch can be interrupted; the timer ends the process regardless.
    deadline_s = _SHUTDOWN_DEADLINE_WHILE_LOADING_S if node.is_configuring else _SHUTDOWN_DEADLINE_S
    deadline = threading.Timer(deadline_s, os._exit, args=(0,))
    deadline.daemon = True
    deadline.start()
    executor.shutdown()
    spinner.join()
    node.destroy_node()
    rclpy.shutdown()
    if any(thread not in (threading.current_thread(), deadline) for thread in threading.enumerate()):
        # For example a backend build: C++ code that returns into an interpreter which has ended aborts the process.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
    # The interpreter's last garbage collection would take a second for PyTorch's objects, with nothing to free.
    gc.freeze()
    return 0


def _spin(executor: Executor, node: SegmentationNode, stop: threading.Event) -> None:
    """Runs callbacks until `stop` is set; an exception of a callback is counted."""
    while not stop.is_set():
        try:
            executor.spin_once()
        except (ShutdownException, ExternalShutdownException):
            return
        except Exception as error:
            node.count_failed_callback(error)


if __name__ == "__main__":
    sys.exit(main())
