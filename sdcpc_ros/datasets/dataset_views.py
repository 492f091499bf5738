"""Views of a labelled video that test a temporal path: fewer frames a second, cuts between two clips, sideways turns.

A view holds no pixels: it reads its source on request.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from sdcpc_ros.datasets.video_dataset import DatasetError, VideoDataset, VideoFrame


class DatasetView(VideoDataset):
    """Frames of another data set, in an order of the view's own."""

    def __init__(
        self, source: VideoDataset, name: str, indices: Sequence[int], frames: Sequence[VideoFrame] | None = None
    ) -> None:
        """indices: where in `source` each frame is. frames: in place of the source's, with their runs as `video`;
        without, stamps stay, and no run of the view has frames of two runs of the source."""
        if frames is None:  # each run is a video of its own: longer steps must not join or part runs
            frames = [source.frames[i]._replace(video=f"run {source.run_of(i).start}") for i in indices]
        self.source = source
        self.indices = list(indices)
        super().__init__(name, source.label_set, frames, max_gap_s=math.inf)

    def image(self, index: int) -> np.ndarray:
        return self.source.image(self.indices[index])

    def labels(self, index: int) -> np.ndarray:
        if not self.frames[index].labelled:
            raise self.unlabelled(index)
        return self.source.labels(self.indices[index])

    def flow(self, index: int) -> tuple[np.ndarray, np.ndarray] | None:
        """The source's flow where the view's next frame is the source's next frame, else None."""
        if index == self.run_of(index)[-1] or self.indices[index + 1] != self.indices[index] + 1:
            return None
        return self.source.flow(self.indices[index])


class Pan(DatasetView):
    """A window of half the image's width and its full height that moves sideways by the same distance every frame.

    It turns round where the next step would leave the image, so every pixel is a filmed one. Image and labels are cut
    alike.
    """

    def __init__(self, source: VideoDataset, share: float) -> None:
        """share: the step as a share of the window's width. DatasetError unless it is over 0 and at most 1."""
        if not 0 < share <= 1:
            raise DatasetError(f"the turn is {share:g} of the width a frame; more than 0 and at most 1 is allowed")
        self.share = share
        name = f"{source.name}, turned by {100 * share:g} % of the width a frame"
        super().__init__(source, name, range(len(source)))

    def image(self, index: int) -> np.ndarray:
        return self._cut(super().image(index), index)

    def labels(self, index: int) -> np.ndarray:
        return self._cut(super().labels(index), index)

    def flow(self, index: int) -> None:
        """None: the source's flow ends in another window."""

    def _cut(self, pixels: np.ndarray, index: int) -> np.ndarray:
        """(H, W, ...) -> (H, W // 2, ...)."""
        width = pixels.shape[1] // 2
        step = max(1, round(self.share * width))
        steps = (pixels.shape[1] - width) // step  # from the left end of the way to its right end
        place = (index - self.run_of(index).start) % (2 * steps)
        left = step * min(place, 2 * steps - place)
        return np.ascontiguousarray(pixels[:, left : left + width])


def every_nth_frame(source: VideoDataset, n: int) -> VideoDataset:
    """Every n-th frame of each run, the run's first labelled frame among them; stamps stay, so they lie further apart.

    Raises DatasetError when n is under 1, or so large that every run has one frame left.
    """
    longest = max((len(run) for run in source.runs), default=0)
    _check_count("every n-th frame", n, longest - 1, f"the longest run of {source.name} has {longest} frames")
    if n == 1:
        return source
    indices: list[int] = []
    for run in source.runs:
        first = next((index for index in run if source.frames[index].labelled), run.start)
        indices += range(run.start + (first - run.start) % n, run.stop, n)
    return DatasetView(source, f"{source.name}, one frame in {n}", indices)


def spliced(source: VideoDataset, n: int) -> DatasetView:
    """Two clips that alternate every n frames under one stamp sequence; of labels those right after a cut alone.

    The clips are the two longest runs, or the halves of a run that is the only one. Frames come at the rate of the
    source. Raises DatasetError when n is under 1 or over the length of the shorter clip.
    """
    runs = sorted(source.runs, key=len, reverse=True)[:2]
    if len(runs) == 1:
        middle = (runs[0].start + runs[0].stop) // 2
        runs = [range(runs[0].start, middle), range(middle, runs[0].stop)]
    shortest = min((len(run) for run in runs), default=0)
    of_what = "half of the only run" if len(source.runs) == 1 else "second longest run"
    _check_count("a cut every n frames", n, shortest, f"the {of_what} of {source.name} has {shortest} frames")
    indices = [run[i] for start in range(0, shortest - n + 1, n) for run in runs for i in range(start, start + n)]
    period_s = 1 / (source.rate_hz or 1.0)
    frames = [
        frame._replace(video="spliced", stamp_s=i * period_s, labelled=frame.labelled and i > 0 and i % n == 0)
        for i, frame in enumerate(source.frames[index] for index in indices)
    ]
    return DatasetView(source, f"{source.name}, cut every {n} frames", indices, frames)


def single_videos(source: VideoDataset) -> list[DatasetView]:
    """Each video of a data set (a drive of CamVid, a snippet of Cityscapes) as a data set of its own."""
    by_video: dict[str, list[int]] = {}
    for index, frame in enumerate(source.frames):
        by_video.setdefault(frame.video, []).append(index)
    return [DatasetView(source, f"{source.name}, {video}", indices) for video, indices in by_video.items()]


def _check_count(what: str, n: int, most: int, reason: str) -> None:
    if n < 1 or n > max(1, most):
        raise DatasetError(f"{what}: n is {n}; a whole number of 1 to {max(1, most)} is allowed, as {reason}")
