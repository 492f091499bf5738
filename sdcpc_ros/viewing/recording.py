"""Frames and their masks as a Rerun recording: in a file, or in a viewer that is started."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import rerun as rr
import rerun.blueprint as rrb

from sdcpc_ros.evaluation.scorer import Scorer
from sdcpc_ros.labels.label_set import LabelSet
from sdcpc_ros.runtime.atomic_file import atomic_path

_JPEG_QUALITY = 90
_SCORES = {"miou": "mIoU", "mvc8": "mVC8", "steady": "pixels that keep their label", "confidence": "confidence"}


class ViewingError(ValueError):
    """A recording cannot be shown or written; the message names the reason and the remedy."""


class RerunRecording(ExitStack):
    """One camera's frames in Rerun, on the timelines `stamp` (of the frames' stamps) and `frame` (their numbers).

    Entities: camera/image (JPEG), camera/labels and camera/truth (SegmentationImage, with the label set's names and
    colours as AnnotationContext), camera/confidence, scores/NAME (shares of 0 to 1) and log (resets, and pictures that
    could not be used). The overlay is a view of labels over image, so that the viewer can change its opacity.

    `file`: appears complete when the block ends without an error; None: starts Rerun's viewer.
    Raises ViewingError when there is no such folder, or no display.
    """

    def __init__(self, label_set: LabelSet, name: str, file: Path | None) -> None:
        super().__init__()
        self._file, self._label_set, self._name = file, label_set, name
        if file is not None:
            check_file(file)
        elif sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            raise ViewingError("there is no display for Rerun's viewer; write a file with -o FILE.rrd, and open that")
        self._scores = Scorer(label_set)
        self._shown: set[str] = set()

    def add(
        self,
        number: int,
        stamp_ns: int,
        labels: np.ndarray,
        *,
        image: np.ndarray | None = None,
        confidence: np.ndarray | None = None,
        truth: np.ndarray | None = None,
        reset: str | None = None,
    ) -> None:
        """The next frame: its image (H, W, 3) uint8 RGB; labels, truth (255 = none) and confidence (H, W) uint8.

        `reset`: why the frame buffer was emptied before it, None if it was not.
        Raises ValueError when truth and labels cannot be compared.
        """
        self._stream.set_time("stamp", timestamp=np.datetime64(stamp_ns, "ns"))
        self._stream.set_time("frame", sequence=number)
        self._scores.update(labels, truth, confidence, number=number, stamp_ns=stamp_ns, reset=reset)
        pictures: dict[str, Any] = {"camera/labels": rr.SegmentationImage(labels)}
        if image is not None:
            pictures["camera/image"] = rr.Image(image).compress(jpeg_quality=_JPEG_QUALITY)
        if truth is not None:
            pictures["camera/truth"] = rr.SegmentationImage(truth)
        if confidence is not None:
            pictures["camera/confidence"] = rr.Image(confidence, "L").compress(jpeg_quality=_JPEG_QUALITY)
        for entity in self._shown - pictures.keys():  # the viewer shows an entity until it is logged again
            self._stream.log(entity, rr.Clear(recursive=False))
        for entity, picture in pictures.items():
            self._stream.log(entity, picture)
        self._shown = set(pictures)
        for name in _SCORES:
            value = getattr(self._scores.log, name)[-1]
            if value is not None:
                self._stream.log(f"scores/{name}", rr.Scalars(value))
        if reset is not None:
            self._stream.log("log", rr.TextLog(f"frame {number}: memory emptied: {reset}", level="WARN"))

    def note(self, number: int, problem: str) -> None:
        """Logs why an image is missing, on the timeline `frame` only, as its stamp may be unknown."""
        self._stream.reset_time()
        self._stream.set_time("frame", sequence=number)
        self._stream.log("log", rr.TextLog(problem, level="ERROR"))

    def __enter__(self) -> RerunRecording:
        self._stream = rr.RecordingStream("sdcpc_ros")
        if self._file is None:
            self._stream.spawn(default_blueprint=_layout())
        else:
            path = self.enter_context(atomic_path(self._file))
            self._stream.save(path, default_blueprint=_layout())
        self.callback(self._stream.disconnect)
        self.callback(self._stream.flush)
        self._stream.send_recording_name(self._name)
        classes = enumerate(zip(self._label_set.class_names, self._label_set.colours))
        known = [rr.AnnotationInfo(id=number, label=name, color=colour) for number, (name, colour) in classes]
        unlabelled = rr.AnnotationInfo(id=255, label="unlabelled", color=(0, 0, 0, 0))
        self._stream.log("camera", rr.AnnotationContext([*known, unlabelled]), static=True)
        for name, title in _SCORES.items():
            self._stream.log(f"scores/{name}", rr.SeriesLines(names=title), static=True)
        return self


def check_file(file: Path) -> None:
    """Raises ViewingError for a file that no recording can be written to."""
    if file.suffix != ".rrd" or file.is_dir():
        raise ViewingError(f"'{file}' is not the name of a recording; a file that ends in .rrd is needed")
    if not file.parent.is_dir():
        raise ViewingError(f"'{file}' cannot be written: there is no folder '{file.parent}'")


def _layout() -> rrb.Blueprint:
    views = rrb.Grid(
        rrb.Spatial2DView(name="camera", contents=["camera/image"]),
        rrb.Spatial2DView(name="overlay", contents=["camera/image", "camera/labels"]),
        rrb.Spatial2DView(name="confidence", contents=["camera/confidence"]),
        rrb.Spatial2DView(name="truth", contents=["camera/image", "camera/truth"]),
        grid_columns=2,
    )
    foot = rrb.Horizontal(rrb.TimeSeriesView(name="scores", origin="scores"), rrb.TextLogView(name="log", origin="log"))
    return rrb.Blueprint(
        rrb.Vertical(views, foot, row_shares=[3, 1]), rrb.TimePanel(timeline="stamp"), collapse_panels=True
    )
