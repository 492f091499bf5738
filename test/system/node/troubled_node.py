"""segmentation_node with a model in trouble, for tests: `troubled_node.py [OPTIONS] [--ros-args ...]`."""

from __future__ import annotations

import argparse
import itertools
import sys
import time

import torch

from sdcpc_ros.inference.eager import EagerBackend
from sdcpc_ros.nodes import segmentation_node

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--load", type=float, default=0.0, metavar="S", help="loading the model takes this much longer")
parser.add_argument("--delay", type=float, default=0.0, metavar="S", help="each frame or batch takes this much longer")
parser.add_argument(
    "--fail-every", type=int, default=0, metavar="N", help="every N-th frame or batch ends in an exception"
)
parser.add_argument("--fail-on-white", action="store_true", help="a frame that is all white ends in an exception")
parser.add_argument("--failure", choices=("fault", "memory"), default="fault", help="which exception")
trouble, ros_arguments = parser.parse_known_args()

step, load_segmenter = EagerBackend.step, segmentation_node.load_segmenter
runs = itertools.count(1)


def troubled_step(self, image, references, age_s):  # frames that run at once
    time.sleep(trouble.delay)  # without using the processor
    if trouble.fail_every and next(runs) % trouble.fail_every == 0:
        if trouble.failure == "memory":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB (injected)")
        raise RuntimeError("injected fault")
    if trouble.fail_on_white and (image == 255).flatten(1).all(1).any():
        raise RuntimeError("injected fault: white")
    return step(self, image, references, age_s)


def troubled_load(parameters):
    time.sleep(trouble.load)
    return load_segmenter(parameters)


EagerBackend.step = troubled_step
segmentation_node.load_segmenter = troubled_load
sys.exit(segmentation_node.main([sys.argv[0], *ros_arguments]))
