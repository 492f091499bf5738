"""Scores a labelled bag and renders a video and a contact sheet of it, in one pass."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from sdcpc_ros.bags.errors import BagError
from sdcpc_ros.bags.reader import BagReader
from sdcpc_ros.evaluation.pictures import SheetRow, contact_sheet, legend, overlay, shrink, side_by_side
from sdcpc_ros.evaluation.scorer import Scorer
from sdcpc_ros.evaluation.video import VideoWriter
from sdcpc_ros.labels.label_set import LabelSet
from sdcpc_ros.replay.node_process import CONFIDENCE_TOPIC, LABEL_TOPIC

_VIDEO_PANEL_WIDTH = 640
_SHEET_PANEL_WIDTH = 448
_SHEET_ROWS = 3


def render_preview(
    labelled_bag: BagReader,
    camera: str,
    truth_topic: str | None,
    label_set: LabelSet,
    video_path: Path,
    *,
    on_frame: Callable[[], None] = lambda: None,
) -> tuple[dict[str, Any], list[SheetRow]]:
    """Scores every labelled frame and writes the video; returns the scores for JSON and the rows of a contact sheet.

    The video shows the camera on the left and the newest mask on the right, which stays while frames are dropped. mVC
    windows consist of consecutive labelled frames, so dropped frames are left out.
    """
    scorer = Scorer(label_set)
    count = labelled_bag.topics[LABEL_TOPIC].message_count
    sheet_frames = {int((index + 0.5) * count / _SHEET_ROWS) for index in range(_SHEET_ROWS)}  # away from the ends
    rows: list[SheetRow] = []
    right: np.ndarray | None = None  # the newest mask, and its caption
    caption = "no mask yet"
    foot: np.ndarray | None = None
    start_ns: int | None = None
    with VideoWriter(video_path, rate_hz=_rate_hz(labelled_bag, camera)) as video:
        for frame in labelled_bag.frames(camera, LABEL_TOPIC, CONFIDENCE_TOPIC, truth_topic):
            start_ns = frame.stamp_ns if start_ns is None else start_ns
            time_s = (frame.stamp_ns - start_ns) / 1e9
            image, labels = frame.image(), frame.labels(LABEL_TOPIC)
            if labels is not None:
                truth = frame.labels(truth_topic) if truth_topic else None
                try:
                    scorer.update(labels, truth, frame.labels(CONFIDENCE_TOPIC))
                except ValueError as error:
                    raise BagError(f"the bag's ground truth does not go with the masks of the node: {error}") from error
                if len(scorer.log) - 1 in sheet_frames:
                    rows.append(_sheet_row(image, labels, truth, label_set, f"{time_s:.2f} s"))
                right = _overlay_panel(image, labels, label_set, _VIDEO_PANEL_WIDTH)
                caption = f"segmentation  {time_s:.2f} s"
            panel = shrink(image, _VIDEO_PANEL_WIDTH)
            if foot is None:
                panel_shape, foot = panel.shape, legend(label_set, 2 * panel.shape[1])
                foot = foot[: foot.shape[0] // 2 * 2]  # an even height, as the video needs
            if panel.shape != panel_shape:
                raise BagError(f"the images on {camera} change their size at {time_s:.3f} s")
            captions = (f"camera  {time_s:.2f} s", caption)
            video.write(side_by_side(panel, panel // 2 if right is None else right, foot, captions), time_s)
            on_frame()
    return quality_summary(scorer), rows


def quality_summary(scorer: Scorer) -> dict[str, Any]:
    """Shares in 0..1, None where nothing could be judged."""
    scores = scorer.scores()
    return {
        **{name: scores[name] for name in ("judged_frames", "miou", "weighted_iou", "mvc8", "mvc16")},
        "iou": {entry["name"]: entry["iou"] for entry in scorer.classes()},
        "mean_confidence": scores["confidence"],
    }


def write_contact_sheet(path: Path, title: str, subtitle: str, rows: list[SheetRow], label_set: LabelSet) -> None:
    """Writes the rows of `render_preview` as a PNG."""
    columns = ("camera", "segmentation", "ground truth")[: len(rows[0].pictures)]
    sheet = contact_sheet(title, subtitle, columns, rows, label_set)
    cv2.imwrite(str(path), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 9])


def _sheet_row(
    image: np.ndarray, labels: np.ndarray, truth: np.ndarray | None, label_set: LabelSet, caption: str
) -> SheetRow:
    panel = shrink(image, _SHEET_PANEL_WIDTH)
    masks = [labels] if truth is None else [labels, truth]
    return SheetRow((panel, *(_overlay_panel(image, mask, label_set, _SHEET_PANEL_WIDTH) for mask in masks)), caption)


def _overlay_panel(image: np.ndarray, labels: np.ndarray, label_set: LabelSet, max_width: int) -> np.ndarray:
    return overlay(shrink(image, max_width), shrink(labels, max_width), label_set)


def _rate_hz(bag: BagReader, topic: str) -> float:
    intervals = bag.topics[topic].message_count - 1
    return intervals / bag.duration_s if intervals > 0 and bag.duration_s > 0 else 1.0
