"""What only shows from within: that cleanup lets go of the model, and that a callback's exception ends nothing."""

from __future__ import annotations

import gc
import threading
import weakref

import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn

from sdcpc_ros.network import SDCPC
from sdcpc_ros.nodes import segmentation_node


@pytest.fixture
def node(module_ros_domain, tiny_checkpoint):
    arguments = ["-p", f"model:={tiny_checkpoint}", "-p", "device:=cpu", "-p", "autostart:=false"]
    rclpy.init(args=["--ros-args", *arguments])
    node = segmentation_node.SegmentationNode()
    yield node
    node.destroy_node()
    rclpy.shutdown()


def networks() -> int:
    """How many networks there are in this process."""
    return sum(type(thing) is SDCPC for thing in gc.get_objects())


def test_cleanup_lets_go_of_the_model_and_the_threads(node):
    gc.collect()
    others, threads = networks(), threading.active_count()  # of tests before this one
    for _ in range(3):
        assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
        segmenter = weakref.ref(node._segmenter)
        assert networks() == others + 1
        assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS
        assert threading.active_count() == threads + 1
        assert node.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
        assert node.trigger_cleanup() == TransitionCallbackReturn.SUCCESS
        assert segmenter() is None and networks() == others
        assert threading.active_count() == threads


def test_an_exception_in_a_callback_is_counted_and_ends_nothing(node):
    def fail() -> None:
        raise RuntimeError("injected into a callback")

    timer = node.create_timer(0.01, fail)
    executor, stop = SingleThreadedExecutor(), threading.Event()
    executor.add_node(node)
    spinner = threading.Thread(target=segmentation_node._spin, args=(executor, node, stop))
    spinner.start()
    try:
        while node._failed_callbacks < 3:
            assert spinner.is_alive()
            stop.wait(0.02)
        status = node._model_status()
        assert "could not be taken" in status.message
    finally:
        node.destroy_timer(timer)
        stop.set()
        executor.shutdown()
        spinner.join()
