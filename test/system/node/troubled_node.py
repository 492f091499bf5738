"""segmentation_node with a model in trouble, for tests: `troubled_node.py [OPTIONS] [--ros-args ...]`."""

from __future__ import annotations

import argparse
import itertools
import sys
import time

import torch

from sdcpc_ros.nodes import segmentation_node
from sdcpc_ros.streaming.segmenter import StreamingSegmenter

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--load", type=float, default=0.0, metavar="S", help="loading the model takes this much longer")
parser.add_argument("--delay", type=float, default=0.0, metavar="S", help="each frame or batch takes this much longer")
parser.add_argument(
    "--fail-every", type=int, default=0, metavar="N", help="every N-th frame or batch ends in an exception"
)
parser.add_argument("--fail-on-white", action="store_true", help="a frame that is all white ends in an exception")
parser.add_argument("--failure", choices=("fault", "memory"), default="fault", help="which exception")
trouble, ros_arguments = parser.parse_known_args()

segment, load_segmenter = StreamingSegmenter._segment, segmentation_node.load_segmenter
frames = itertools.count(1)


def troubled_segment(self, requests, streams):  # frames that are run at once
    time.sleep(trouble.delay)  # without using the processor
    if trouble.fail_every and next(frames) % trouble.fail_every == 0:
        if trouble.failure == "memory":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB (injected)")
        raise RuntimeError("injected fault")
    if trouble.fail_on_white and any(request.image.min() == 255 for request in requests):
        raise RuntimeError("injected fault: white")
    return segment(self, requests, streams)


def troubled_load(parameters):
    time.sleep(trouble.load)
    return load_segmenter(parameters)


StreamingSegmenter._segment = troubled_segment
segmentation_node.load_segmenter = troubled_load
sys.exit(segmentation_node.main([sys.argv[0], *ros_arguments]))
