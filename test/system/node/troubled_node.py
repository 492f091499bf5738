"""segmentation_node with a network in trouble, for tests: `troubled_node.py SECONDS FAIL_EVERY [--ros-args ...]`.

Each frame takes SECONDS longer, without using the processor, and every FAIL_EVERY-th (0: none) ends in an exception.
"""

from __future__ import annotations

import itertools
import sys
import time

from sdcpc_ros.nodes.segmentation_node import main
from sdcpc_ros.streaming.segmenter import StreamingSegmenter

delay_s, fail_every = float(sys.argv[1]), int(sys.argv[2])
segment = StreamingSegmenter.segment
frames = itertools.count(1)


def troubled_segment(self, *args, **kwargs):
    time.sleep(delay_s)
    if fail_every and next(frames) % fail_every == 0:
        raise RuntimeError("injected fault")
    return segment(self, *args, **kwargs)


StreamingSegmenter.segment = troubled_segment
sys.exit(main([sys.argv[0], *sys.argv[3:]]))
