"""From a labelled bag to what people look at: scores, a video and a contact sheet, in one pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from sdcpc_ros.bags.errors import BagError
from sdcpc_ros.bags.live_timing import LiveQuality
from sdcpc_ros.bags.node_process import CONFIDENCE_TOPIC, LABEL_TOPIC
from sdcpc_ros.bags.reader import BagReader
from sdcpc_ros.evaluation.pictures import SheetRow, contact_sheet, legend, overlay, shrink, side_by_side
from sdcpc_ros.evaluation.video import VideoWriter
from sdcpc_ros.label_set import LabelSet

_VIDEO_PANEL_WIDTH = 640
_SHEET_PANEL_WIDTH = 448
_SHEET_ROWS = 3


@dataclass(frozen=True)
class LabelledTopics:
    """Where a bag, and the labelled bag made of it, hold what."""

    camera: str
    camera_info: str | None
    ground_truth: str | None
    label: str = LABEL_TOPIC
    confidence: str = CONFIDENCE_TOPIC

    @classmethod
    def of(cls, bag: BagReader, camera: str | None = None) -> LabelledTopics:
        """The topics of a bag that is to be labelled, of `camera` where it has several. Raises BagError without any."""
        camera = bag.camera_topic(camera)
        return cls(camera, bag.camera_info_topic(camera), bag.ground_truth_topic(camera))

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(topic for topic in (self.camera, self.camera_info, self.ground_truth) if topic is not None)

    @property
    def outputs(self) -> tuple[str, ...]:
        return self.label, self.confidence


def look_at(
    labelled_bag: BagReader,
    topics: LabelledTopics,
    label_set: LabelSet,
    video_path: Path,
    *,
    on_frame: Callable[[int], None] = lambda frames: None,
) -> tuple[LiveQuality, list[SheetRow]]:
    """Score every labelled frame and write the video; returns the scores and rows for a contact sheet.

    The video shows the camera on the left as it is, and on the right the newest mask that there was: where frames were
    dropped the right side stands still, as it does for whoever uses the masks. `on_frame` gets the frames done so far.
    """
    quality = LiveQuality(label_set)
    sheet_frames = _evenly(labelled_bag.topics[topics.label].message_count, _SHEET_ROWS)
    rows: list[SheetRow] = []
    newest: tuple[np.ndarray, str] | None = None
    foot: np.ndarray | None = None
    labelled = 0
    start_ns: int | None = None
    with VideoWriter(video_path, rate_hz=_rate_hz(labelled_bag, topics.camera)) as video:
        companions = (topics.label, topics.confidence, topics.ground_truth)
        for done, frame in enumerate(labelled_bag.frames(topics.camera, *companions), start=1):
            start_ns = frame.stamp_ns if start_ns is None else start_ns
            time_s = (frame.stamp_ns - start_ns) / 1e9
            image = frame.image()
            labels = frame.labels(topics.label)
            if labels is not None:
                truth = frame.labels(topics.ground_truth) if topics.ground_truth else None
                quality.update(labels, truth, frame.labels(topics.confidence))
                newest = _overlay_panel(image, labels, label_set, _VIDEO_PANEL_WIDTH), f"segmentation  {time_s:.2f} s"
                if labelled in sheet_frames:
                    rows.append(_sheet_row(image, labels, truth, label_set, f"{time_s:.2f} s"))
                labelled += 1
            panel = shrink(image, _VIDEO_PANEL_WIDTH)
            if foot is None:
                panel_shape, foot = panel.shape, _even_rows(legend(label_set, 2 * panel.shape[1]))
            if panel.shape != panel_shape:
                raise BagError(f"the images on {topics.camera} change their size at {time_s:.3f} s")
            right, caption = newest if newest is not None else (panel // 2, "no mask yet")
            video.write(side_by_side(panel, right, foot, (f"camera  {time_s:.2f} s", caption)), time_s)
            on_frame(done)
    return quality, rows


def write_contact_sheet(path: Path, title: str, subtitle: str, rows: list[SheetRow], label_set: LabelSet) -> None:
    """Save a PNG of the rows that `look_at` chose."""
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


def _even_rows(picture: np.ndarray) -> np.ndarray:
    return picture[: picture.shape[0] // 2 * 2]


def _evenly(count: int, wanted: int) -> set[int]:
    """Up to `wanted` indices spread over 0..count - 1, away from the very ends."""
    return {int((index + 0.5) * count / wanted) for index in range(wanted)} if count else set()


def _rate_hz(bag: BagReader, topic: str) -> float:
    intervals = bag.topics[topic].message_count - 1
    return intervals / bag.duration_s if intervals > 0 and bag.duration_s > 0 else 1.0
