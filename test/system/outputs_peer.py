"""Starts the installed node, shows it a picture, prints what comes back as JSON; for tests of the built package.

A program of its own because the package's built messages have to be on the library path when a process starts.
"""

from __future__ import annotations

import array
import json
import subprocess
import sys
import time
from collections.abc import Sequence

import numpy as np
import rclpy
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from sdcpc_ros.msg import ClassStatistics
from sensor_msgs.msg import Image
from vision_msgs.msg import LabelInfo


def main(executable: str, settings: Sequence[str], deadline_s: float) -> None:
    """settings: of the node's parameters, "name:=value" each."""
    rclpy.init()
    node = rclpy.create_node("peer")
    statistics: list[ClassStatistics] = []
    infos: list[LabelInfo] = []
    masks: list[Image] = []
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    outputs = "/segmentation_node/camera"
    node.create_subscription(ClassStatistics, f"{outputs}/class_statistics", statistics.append, 1)
    node.create_subscription(LabelInfo, f"{outputs}/label/label_info", infos.append, latched)
    node.create_subscription(Image, f"{outputs}/label/image_raw", masks.append, 1)
    publisher = node.create_publisher(Image, "/camera/image_raw", qos_profile_sensor_data)
    # Bands of red, green and blue, brighter to the right.
    colours = np.repeat(np.eye(3, dtype=np.uint8), 32, 0)[:, None] * np.linspace(60, 250, 128).astype(np.uint8)[:, None]
    picture = Image(height=96, width=128, encoding="rgb8", step=384, data=array.array("B", colours.tobytes()))
    picture.header.frame_id = "optical_frame"
    options = ["--ros-args", *(part for setting in settings for part in ("-p", setting))]
    with subprocess.Popen([sys.executable, executable, *options], stdout=sys.stderr) as process:
        give_up_s = time.monotonic() + deadline_s
        while not (statistics and infos and masks) and time.monotonic() < give_up_s and process.poll() is None:
            publisher.publish(picture)
            rclpy.spin_once(node, timeout_sec=0.5)
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            sys.exit("the node did not end after SIGTERM")
    mask, found = masks[-1], statistics[-1]
    dtype = {"mono8": "u1", "16SC1": "<i2"}[mask.encoding]
    print(
        json.dumps(
            {
                "frame_id": found.header.frame_id,
                "encoding": mask.encoding,
                "ids": np.unique(np.frombuffer(mask.data, dtype)).tolist(),
                "label_info": [[entry.class_id, entry.class_name] for entry in infos[-1].class_map],
                "pixel_share": dict(zip(map(str, found.class_ids), found.pixel_share)),
            }
        )
    )
    rclpy.shutdown()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:], deadline_s=120)
