"""Starts the installed node, shows it a picture, prints the class statistics that come back; for test_colcon_build.py.

A program of its own because the package's built messages have to be on the library path when a process starts.
"""

from __future__ import annotations

import array
import subprocess
import sys
import time

import rclpy
from rclpy.qos import qos_profile_sensor_data
from sdcpc_ros.msg import ClassStatistics
from sensor_msgs.msg import Image


def main(executable: str, model: str, deadline_s: float) -> None:
    rclpy.init()
    node = rclpy.create_node("peer")
    received: list[ClassStatistics] = []
    node.create_subscription(ClassStatistics, "/segmentation_node/camera/class_statistics", received.append, 1)
    publisher = node.create_publisher(Image, "/camera/image_raw", qos_profile_sensor_data)
    picture = Image(height=96, width=128, encoding="mono8", step=128, data=array.array("B", bytes(range(128)) * 96))
    picture.header.frame_id = "optical_frame"
    settings = ["--ros-args", "-p", f"model:={model}", "-p", "device:=cpu"]
    with subprocess.Popen([sys.executable, executable, *settings], stdout=sys.stderr) as process:
        give_up_s = time.monotonic() + deadline_s
        while not received and time.monotonic() < give_up_s and process.poll() is None:
            publisher.publish(picture)
            rclpy.spin_once(node, timeout_sec=0.5)
        process.terminate()
    for statistics in received:
        print(statistics.header.frame_id, len(statistics.class_ids), round(sum(statistics.pixel_share), 4))
    rclpy.shutdown()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], deadline_s=120)
