"""Scores a labelled bag and renders a video and a contact sheet of it, in one pass."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from sdcpc_ros.bags.errors import BagError
from sdcpc_ros.bags.reader import BagReader
from sdcpc_ros.evaluation.pictures import legend, overlay, shrink, side_by_side
from sdcpc_ros.evaluation.scorer import Scorer
from sdcpc_ros.evaluation.video import VideoWriter
from sdcpc_ros.labels.label_set import LabelSet
from sdcpc_ros.replay.node_process import CONFIDENCE_TOPIC, LABEL_TOPIC

_PANEL_WIDTH = 640
_SHEET_ROWS = 3


def render_preview(
    labelled_bag: BagReader,
    camera: str,
    truth_topic: str | None,
    label_set: LabelSet,
    video_path: Path,
    *,
    on_frame: Callable[[], None] = lambda: None,
) -> tuple[dict[str, Any], list[np.ndarray]]:
    """Scores every labelled frame and writes the video; returns the scores for JSON and the rows of a contact sheet.

    The video shows the camera on the left and the newest mask on the right, which stays while frames are dropped. mVC
    windows consist of consecutive labelled frames, so dropped frames are left out. Raises BagError if the truth cannot
    be compared with the masks, or the images change their size.
    """
    scorer = Scorer(label_set)
    count = labelled_bag.topics[LABEL_TOPIC].message_count
    sheet_frames = {int((index + 0.5) * count / _SHEET_ROWS) for index in range(_SHEET_ROWS)}  # away from the ends
    rows: list[np.ndarray] = []
    newest: np.ndarray | None = None  # the mask over its image
    caption = "no mask yet"
    shape, start_ns = (), 0
    with VideoWriter(video_path, rate_hz=labelled_bag.rate_hz(camera) or 1.0) as video:
        for frame in labelled_bag.frames(camera, LABEL_TOPIC, CONFIDENCE_TOPIC, truth_topic):
            image = frame.image()
            panel = shrink(image, _PANEL_WIDTH)
            if not shape:
                shape, start_ns, foot = image.shape, frame.stamp_ns, legend(label_set, 2 * panel.shape[1])
                foot = foot[: foot.shape[0] // 2 * 2]  # an even height, as the video needs
            time_s = (frame.stamp_ns - start_ns) / 1e9
            if image.shape != shape:
                raise BagError(f"the images on {camera} change their size at {time_s:.3f} s")
            labels = frame.labels(LABEL_TOPIC)
            if labels is not None:
                truth = frame.labels(truth_topic) if truth_topic else None
                try:
                    scorer.update(labels, truth, frame.labels(CONFIDENCE_TOPIC))
                except ValueError as error:
                    raise BagError(f"the bag's ground truth does not go with the masks of the node: {error}") from error
                newest = overlay(panel, shrink(labels, _PANEL_WIDTH), label_set)
                caption = f"segmentation  {time_s:.2f} s"
                if len(scorer.log) - 1 in sheet_frames:
                    panels = {f"camera  {time_s:.2f} s": panel, "segmentation": newest}
                    if truth is not None:
                        panels["ground truth"] = overlay(panel, shrink(truth, _PANEL_WIDTH), label_set)
                    rows.append(side_by_side(panels))
            right = panel // 2 if newest is None else newest
            pair = side_by_side({f"camera  {time_s:.2f} s": panel, caption: right})
            video.write(np.concatenate([pair, foot]), time_s)
            on_frame()
    return {**scorer.scores(), "classes": scorer.classes()}, rows
