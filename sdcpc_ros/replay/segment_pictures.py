"""Segments images without ROS, and writes a video with class colours or label images."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import cv2

from sdcpc_ros.bags.errors import BagError
from sdcpc_ros.evaluation.pictures import fit_into, overlay, shrink
from sdcpc_ros.labels.label_set import LabelSet
from sdcpc_ros.replay.picture_sources import PictureSource
from sdcpc_ros.replay.prefetch import prefetch
from sdcpc_ros.replay.segmented_frames import SegmentedFrame, Unusable, segment_frames
from sdcpc_ros.runtime.atomic_file import atomic_path
from sdcpc_ros.streaming.continuity import DEFAULT_MAX_GAP_S
from sdcpc_ros.streaming.segmenter import StreamingSegmenter

_LISTED_PROBLEMS = 20
#: Allowed steps between two images of the video. Other steps come from a clock that was set.
_SHORTEST_S, _LONGEST_S = 0.001, 60.0


class Output(AbstractContextManager["Output"], Protocol):
    """Writes segmented images, within a `with` block."""

    def write(self, frame: SegmentedFrame, name: str) -> None: ...


@dataclass
class Segmented:
    """The result for a source."""

    frames: int = 0
    unusable: int = 0
    problems: list[str] = field(default_factory=list)  #: the first of them
    elapsed_ms: float = 0.0  #: from image to labels, the sum


class OverlayVideo:
    """Class colours over the images, as an mp4 in which each image has its own time.

    The video has the size of the first image, made even; others are fitted into it. Where a bag's clock jumps, back or
    by more than a minute, the video continues. The file appears complete or not at all.
    """

    def __init__(self, path: Path, label_set: LabelSet, *, rate_hz: float, opacity: float) -> None:
        if not 0 <= opacity <= 1:
            raise BagError(f"the opacity is {opacity}; 0 to 1 is allowed")
        self.path, self._label_set, self._rate_hz, self._opacity = path, label_set, rate_hz, opacity
        self._size: tuple[int, int] | None = None
        self._last_ns, self._time_s = 0, 0.0

    def write(self, frame: SegmentedFrame, name: str) -> None:
        painted = overlay(frame.source.image, frame.segmentation.labels, self._label_set, self._opacity)
        if self._size is None:
            painted = shrink(painted, painted.shape[1])
            self._size = painted.shape[0], painted.shape[1]
        else:
            step_s = (frame.source.stamp_ns - self._last_ns) / 1e9
            self._time_s += step_s if _SHORTEST_S <= step_s <= _LONGEST_S else 1 / self._rate_hz
        self._last_ns = frame.source.stamp_ns
        self._video.write(fit_into(painted, self._size), self._time_s)

    def __enter__(self) -> OverlayVideo:
        from sdcpc_ros.evaluation.video import VideoWriter  # needs PyAV, which label images do not

        self._files = ExitStack()
        unfinished = self._files.enter_context(atomic_path(self.path))
        self._video = self._files.enter_context(VideoWriter(unfinished, rate_hz=self._rate_hz))
        return self

    def __exit__(self, *error: Any) -> None:
        self._files.__exit__(*error)


class LabelFolder:
    """A PNG of class ids for each image, 255 for no label. Existing files are overwritten."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, frame: SegmentedFrame, name: str) -> None:
        file = self.path / f"{name}.png"
        encoded, png = cv2.imencode(".png", frame.segmentation.labels)
        if not encoded:
            raise BagError(f"'{file}' could not be encoded as PNG")
        file.write_bytes(png.tobytes())

    def __enter__(self) -> LabelFolder:
        self.path.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *error: object) -> None:
        return None


def segment_pictures(
    segmenter: StreamingSegmenter,
    source: PictureSource,
    output: Output,
    *,
    on_frame: Callable[[], None] = lambda: None,
) -> Segmented:
    """Segments all images of a source as one stream. Unusable ones are skipped and listed.

    Raises BagError if there is no usable image.
    """
    done = Segmented()
    # The node empties its memory after a gap of a second; images at a lower rate need a longer limit.
    frames = segment_frames(
        segmenter, source.frames, max_gap_s=max(DEFAULT_MAX_GAP_S, 3 / source.rate_hz), confidence=False
    )
    with output, closing(prefetch(frames, depth=2)) as ahead:  # painting and writing overlap the network
        for frame in ahead:
            if isinstance(frame, Unusable):
                done.unusable += 1
                done.problems += [frame.problem] if len(done.problems) < _LISTED_PROBLEMS else []
            else:
                output.write(frame, source.name_of(frame.source))
                done.frames += 1
                done.elapsed_ms += frame.elapsed_ms
            on_frame()
        if not done.frames:
            raise BagError(
                f"there is no picture that can be used; {done.problems[0] if done.problems else 'none came'}"
            )
    return done
