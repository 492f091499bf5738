"""`sdcpc segment` and `sdcpc view`: images without ROS, into a video, a folder of label images or a Rerun recording."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2

from sdcpc_ros.bags.errors import BagError
from sdcpc_ros.evaluation.pictures import fit_into, overlay, shrink
from sdcpc_ros.labels.label_set import LabelSet
from sdcpc_ros.replay.segmented_frames import Run, SegmentedFrame, Sink, SourceFrame, Unusable, feed, segment_frames
from sdcpc_ros.replay.sources import FrameSource, open_source
from sdcpc_ros.runtime.atomic_file import atomic_path
from sdcpc_ros.streaming.segmenter import StreamingSegmenter

#: Allowed steps between two images of the video. Other steps come from a clock that was set.
_SHORTEST_S, _LONGEST_S = 0.001, 60.0
NOTHING_SHOWN = "there is no picture that can be shown"


def segment_source(
    segmenter: StreamingSegmenter,
    source: FrameSource,
    output: Path,
    *,
    opacity: float | None = None,
    on_frame: Callable[[], None] = lambda: None,
) -> Run:
    """Segments all images of a source as one stream, into OUTPUT.mp4 or a folder of label images.

    `opacity`: of the colours in the video, 0.6 by default. Unusable images are skipped and listed.
    Raises BagError if no image is usable, and if label images would come to lie among the images of the source.
    """
    if any(file.resolve().parent == output.resolve() for file in source.files):
        raise BagError(f"'{output}' holds the images themselves; label images need another folder")
    if output.suffix.lower() == ".mp4":
        opacity = 0.6 if opacity is None else opacity
        sink = overlay_video(output, segmenter.label_set, rate_hz=source.rate_hz, opacity=opacity)
    else:
        sink = label_folder(output, source.name_of)
    frames = segment_frames(segmenter, source.frames, max_gap_s=source.max_gap_s, confidence=False)
    with sink as write:
        return feed(frames, [write, lambda frame: on_frame()], "there is no picture that can be used")


def view_source(
    path: str,
    file: Path | None,
    segmenter: StreamingSegmenter,
    *,
    camera: str | None,
    images_hz: float | None,
    on_frame: Callable[[], None],
) -> int:
    """Segments images of any source and shows them. Returns how many; raises BagError or ViewingError."""
    label_set = segmenter.label_set
    with open_source(path, camera=camera, images_hz=images_hz, label_set=label_set) as source:
        frames = segment_frames(segmenter, source.frames, max_gap_s=source.max_gap_s)
        with rerun_sink(label_set, Path(path).name, file) as show:
            return feed(frames, [show, lambda frame: on_frame()], NOTHING_SHOWN).frames


@contextmanager
def overlay_video(path: Path, label_set: LabelSet, *, rate_hz: float, opacity: float) -> Iterator[Sink]:
    """Writes class colours over the images, as an mp4 in which each image has its own time.

    The video has the size of the first image, made even; others are fitted into it. Where a bag's clock jumps, back or
    by more than a minute, the video continues. The file appears complete or not at all.
    Raises BagError for an opacity outside of 0 to 1.
    """
    if not 0 <= opacity <= 1:
        raise BagError(f"the opacity is {opacity}; 0 to 1 is allowed")
    from sdcpc_ros.evaluation.video import VideoWriter  # needs PyAV, which label images do not

    size: tuple[int, int] | None = None
    last_ns, time_s = 0, 0.0

    def write(frame: SegmentedFrame | Unusable) -> None:
        nonlocal size, last_ns, time_s
        if isinstance(frame, Unusable):
            return
        painted = overlay(frame.source.image, frame.segmentation.labels, label_set, opacity)
        if size is None:
            painted = shrink(painted, painted.shape[1])
            size = painted.shape[0], painted.shape[1]
        else:
            step_s = (frame.source.stamp_ns - last_ns) / 1e9
            time_s += step_s if _SHORTEST_S <= step_s <= _LONGEST_S else 1 / rate_hz
        last_ns = frame.source.stamp_ns
        video.write(fit_into(painted, size), time_s)

    with atomic_path(path) as unfinished, VideoWriter(unfinished, rate_hz=rate_hz) as video:
        yield write


@contextmanager
def label_folder(path: Path, name_of: Callable[[SourceFrame], str]) -> Iterator[Sink]:
    """Writes a PNG of class ids for each image, 255 for no label. Existing files are overwritten."""
    path.mkdir(parents=True, exist_ok=True)

    def write(frame: SegmentedFrame | Unusable) -> None:
        if isinstance(frame, SegmentedFrame):
            file = path / f"{name_of(frame.source)}.png"
            encoded, png = cv2.imencode(".png", frame.segmentation.labels)
            if not encoded:
                raise BagError(f"'{file}' could not be encoded as PNG")
            with atomic_path(file) as unfinished:
                unfinished.write_bytes(png.tobytes())

    yield write


@contextmanager
def rerun_sink(label_set: LabelSet, name: str, file: Path | None) -> Iterator[Sink]:
    """Adds frames to a RerunRecording, and the problems of unusable ones to its log.

    The sink raises ValueError when a frame's truth and labels cannot be compared.
    """
    from sdcpc_ros.viewing.recording import RerunRecording  # needs rerun-sdk, which evaluations do without

    with RerunRecording(label_set, name, file) as recording:

        def show(frame: SegmentedFrame | Unusable) -> None:
            if isinstance(frame, Unusable):
                recording.note(frame.number, frame.problem)
                return
            source, result = frame.source, frame.segmentation
            recording.add(
                source.number,
                source.stamp_ns,
                result.labels,
                image=source.image,
                confidence=result.confidence,
                truth=source.truth,
                reset=result.reset,
            )

        yield show
