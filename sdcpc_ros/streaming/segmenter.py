"""StreamingSegmenter: images of one or more streams in, temporally consistent masks out. No ROS, no files."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from sdcpc_ros.inference import (
    BackendManager,
    BackendStatus,
    Step,
    checked_device,
    checked_precision,
    precision_name,
)
from sdcpc_ros.model_files.checkpoint import Checkpoint, load_checkpoint, resolve_model
from sdcpc_ros.network.given_logits import GivenLogitsConfig
from sdcpc_ros.streaming.continuity import DEFAULT_MAX_GAP_S
from sdcpc_ros.streaming.geometry import MAX_SIDE, MIN_SIDE, confidence_from_probability, network_size, to_network
from sdcpc_ros.streaming.runner_cache import RunnerCache
from sdcpc_ros.streaming.stream import Stream
from sdcpc_ros.streaming.stream_frame import StreamFrame

#: Seconds for which frames run one by one after a failed batch, as the cause may last.
_ONE_BY_ONE_S = 10.0


@dataclass(frozen=True)
class Segmentation:
    """The mask of one image."""

    labels: np.ndarray  #: (H, W) uint8, class ids
    confidence: np.ndarray | None  #: (H, W) uint8, probability of the label, 255 = certain; None unless requested
    references: int  #: how many earlier frames took part
    reset: str | None = None  #: why the frame buffer was emptied before this frame, one of RESET_CAUSES
    #: Wall time of "preprocess", "network", "postprocess", for all frames of the batch.
    stage_ms: dict[str, float] = field(default_factory=dict)
    batch: int = 1  #: how many frames ran at once, with this one


class StreamingSegmenter:
    """Segments video streams frame by frame; each frame is encoded once, whatever the number of references.

    A stream's frame buffer is emptied before a frame that does not continue the last one: an earlier stamp, a gap
    longer than `max_gap_s`, another size, encoding or frame_id. `Segmentation.reset` tells the cause.

    One instance serves any number of streams, told apart by name, and may be called from several threads: calls take
    turns. Raises BackendError (a ValueError) if the device or backend is not available, CheckpointError if the weights
    do not fit.
    """

    def __init__(
        self,
        checkpoint: Checkpoint | str | Path,
        *,
        device: str = "auto",
        backend: str = "auto",
        precision: str = "auto",
        input_size: tuple[int, int] | None = None,
        background_build: bool = False,
        fallback: bool = False,
        class_groups: Sequence[int] | None = None,
        max_gap_s: float = DEFAULT_MAX_GAP_S,
    ) -> None:
        """checkpoint: a loaded one, the name of a shipped model, or the path of a .safetensors file.
        device: cpu, cuda, cuda:N, or auto for the GPU if PyTorch finds one.
        backend: one of `sdcpc_ros.inference.BACKENDS`. auto runs eagerly, and changes to inductor (GPU) or to a cached
            ahead-of-time package (CPU) when that is ready; a few pixels may differ from then on. With
            `background_build` it compiles the package if none is cached.
        precision: of weights, activations and memories: float32, float16, bfloat16, or auto (float16 on a GPU).
        input_size: (height, width) that the network sees; by default the image's aspect ratio and the model's pixels.
        background_build: run frames eagerly while the backend is built; else the first frame of each size waits.
        fallback: run frames eagerly if the backend is not available.
        class_groups: the group of each class, from 0 on; the confidence is then the sum over the label's group.
        max_gap_s: seconds between two frames beyond which the earlier frames are forgotten, `math.inf` for no limit.
        """
        if not max_gap_s > 0:
            raise ValueError(f"max_gap_s is {max_gap_s}; a positive number of seconds is needed")
        if input_size is not None and not all(MIN_SIDE <= side <= MAX_SIDE for side in input_size):
            raise ValueError(f"input_size is {input_size}; (height, width) of {MIN_SIDE} to {MAX_SIDE} px is needed")
        if not isinstance(checkpoint, Checkpoint):
            checkpoint = load_checkpoint(resolve_model(str(checkpoint)))
        config = checkpoint.config
        only = config.fixed_size if isinstance(config, GivenLogitsConfig) else None
        if only is not None and input_size not in (None, only):
            raise ValueError(f"input_size is {input_size}; the model takes {only} (height, width) only")
        input_size = only or input_size
        self.label_set = checkpoint.label_set
        self._device = checked_device(device)
        self.device, self.backend = str(self._device), backend
        self.model_size = checkpoint.input_size
        self.input_size = input_size
        groups = None if class_groups is None else torch.tensor(class_groups, device=self._device)
        model = checkpoint.build_model()
        dtype = checked_precision(precision, self._device, model)
        self.precision = precision_name(dtype)
        self._step = Step(model, checkpoint.mean, checkpoint.std, self._device, dtype)
        self._backends = BackendManager(backend, self._step, background=background_build, fallback=fallback)
        if background_build and input_size is not None:
            self._backends.backend(input_size)  # starts the build
        self._runners = RunnerCache(self._step, config.reference_offsets, groups)
        self._streams: dict[str, Stream] = {}
        self.max_gap_s = max_gap_s  #: may be changed at any time
        self.failed_batches = 0  #: since the start; their frames then ran one by one
        self._batch_failure = ""
        self._one_by_one_until_s = 0.0  # steady clock
        self._lock = threading.Lock()
        self._closed = False

    def segment(
        self,
        image: np.ndarray,
        stamp_s: float | None = None,
        *,
        stream: str = "camera",
        confidence: bool = False,
        frame_id: str = "",
        encoding: str = "",
    ) -> Segmentation:
        """Segments the next frame of a stream with the help of its earlier frames, and adds it to the frame buffer.

        image: (H, W, 3) uint8 RGB, sides of at least 32 px. stamp_s: the frame's time in seconds, for the ages of its
        references; a frame without one counts as 1/15 s later than the last. frame_id, encoding: of the source; a
        change of either empties the frame buffer. Raises ValueError for a bad image or stamp; the stream is then as it
        was. After any other error the next frame begins with the reset "fault".
        """
        frame = StreamFrame(image, stamp_s, stream, confidence, frame_id, encoding)
        with self._lock:
            (outcome,) = self._segment_or_fail([frame], [self._begin(frame)])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def segment_batch(self, frames: Sequence[StreamFrame], most: int | None = None) -> list[Segmentation | Exception]:
        """Segments the next frame of each of several streams: what `segment` returns or raises for each, in fewer runs.

        Frames of one network size run at once, as many as `batch_size` says; most: as there, by default all. If that
        fails they run one by one, so an error costs only its own frame. Raises ValueError, with nothing done, for two
        frames of one stream, whose order is unknown.
        """
        names = [frame.stream for frame in frames]
        if len(set(names)) < len(names):
            raise ValueError(f"segment_batch: the frames are of the streams {names}; one of each is allowed")
        outcomes: dict[int, Segmentation | Exception] = {}
        streams: dict[int, Stream] = {}
        with self._lock:
            for index, frame in enumerate(frames):
                try:
                    streams[index] = self._begin(frame)
                except Exception as error:
                    outcomes[index] = error
            while waiting := [index for index in streams if index not in outcomes]:
                batch = self._next_batch(waiting, streams, most)
                found = self._segment_or_fail([frames[index] for index in batch], [streams[index] for index in batch])
                outcomes.update(zip(batch, found))
        return [outcomes[index] for index in range(len(frames))]

    def segment_single(self, image: np.ndarray, *, confidence: bool = False) -> Segmentation:
        """Segments one image by itself: the same weights, no references, no frame buffer. Raises like `segment`."""
        frame = StreamFrame(image, confidence=confidence)
        frame.check()
        with self._lock:
            return self._segment([frame], [self._new_stream(frame)])[0]

    def batch_size(self, network_size: tuple[int, int], waiting: int, most: int) -> int:
        """How many of `waiting` frames of one network size should run at once now, of at most `most`.

        One of few numbers; 1 while the backend is built for one frame only, and for a while after a failed batch.
        """
        if time.monotonic() < self._one_by_one_until_s:
            return 1
        return self._backends.batch_size(network_size, waiting, most)

    @property
    def batching_disabled_reason(self) -> str:
        """Why frames do not run at once, in words; empty if they may."""
        left_s = self._one_by_one_until_s - time.monotonic()
        if left_s > 0:
            return f"one by one for {left_s:.0f} s more, as a batch failed: {self._batch_failure}"
        return self._backends.batching_disabled_reason

    def network_size(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """The (height, width) at which the network sees an image of `image_size`."""
        return self.input_size or network_size(image_size, self.model_size)

    @property
    def backend_status(self) -> BackendStatus:
        """The backend that runs now, or what is being built, or why it is not available."""
        return self._backends.status

    def reset(self, stream: str | None = None) -> None:
        """Empties the frame buffer of one stream, or of all, before its next frame, whose `reset` is "requested".

        Returns at once, also while a frame runs in another thread.
        """
        for name, state in list(self._streams.items()):
            if stream in (None, name):
                state.reset_requested = True

    def remove_stream(self, stream: str) -> None:
        """Removes a stream and its frame buffer. A later frame of this name starts a new stream, with no reset."""
        with self._lock:
            self._streams.pop(stream, None)

    def buffer_fill(self, stream: str = "camera") -> float:
        """The share of the stream's frame buffer that is filled, 0..1; 0 once it is to be emptied."""
        state = self._streams.get(stream)
        return 0.0 if state is None or state.reset_requested else state.buffer.fill

    def close(self) -> None:
        """Frees the memory of weights and buffers; the segmenter cannot be used afterwards."""
        with self._lock:
            self._streams.clear()
            self._closed = True
            del self._backends, self._step, self._runners
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _begin(self, frame: StreamFrame) -> Stream:
        """The frame's stream after the time rules. Raises ValueError for a bad frame, with nothing changed."""
        frame.check()
        stream = self._streams.get(frame.stream)
        if stream is None:
            stream = self._streams[frame.stream] = self._new_stream(frame)
        stream.begin(frame, self.max_gap_s)
        return stream

    def _new_stream(self, frame: StreamFrame) -> Stream:
        if self._closed:
            raise RuntimeError("this segmenter is closed")
        height, width = frame.image.shape[:2]
        return Stream(lambda image_size: self._runners.new_buffer(self.network_size(image_size)), (height, width))

    def _next_batch(self, waiting: Sequence[int], streams: Mapping[int, Stream], most: int | None) -> list[int]:
        """Which of the waiting frames run at once now: of one network size, as many as the backend takes."""
        sizes = {index: self.network_size(streams[index].image_size) for index in waiting}
        size = sizes[waiting[0]]
        alike = [index for index in waiting if sizes[index] == size]
        # Sorted: the same cameras use the same runner, in whatever order they come.
        alike.sort(key=lambda index: streams[index].image_size)
        return alike[: self.batch_size(size, len(alike), most or len(alike))]

    def _segment_or_fail(
        self, frames: Sequence[StreamFrame], streams: Sequence[Stream]
    ) -> list[Segmentation | Exception]:
        try:
            return [*self._segment(frames, streams)]
        except Exception as error:
            # Else it would keep the tensors of what failed, while others may need the memory.
            traceback.clear_frames(error.__traceback__)
            if len(frames) == 1:
                return [error]
            self.failed_batches += 1
            self._batch_failure = f"{type(error).__name__}: {error}".splitlines()[0]
            self._one_by_one_until_s = time.monotonic() + _ONE_BY_ONE_S
        return [self._segment_or_fail([frame], [stream])[0] for frame, stream in zip(frames, streams)]

    def _segment(self, frames: Sequence[StreamFrame], streams: Sequence[Stream]) -> list[Segmentation]:
        """Runs frames of one network size at once."""
        size = self.network_size(streams[0].image_size)
        backend = self._backends.backend(size, len(streams))  # that is ready now
        run = self._runners.runner(backend, size, tuple(stream.image_size for stream in streams))
        started = time.perf_counter()
        images = [np.ascontiguousarray(to_network(frame.image, size)) for frame in frames]
        buffers = [stream.buffer for stream in streams]
        stamps_s = [stream.stamp_s for stream in streams]
        prepared = time.perf_counter()
        labels, probability, inferred = run(images, buffers, stamps_s, any(frame.confidence for frame in frames))
        confidences = [
            confidence_from_probability(probability[index], stream.image_size)
            if probability is not None and frame.confidence
            else None
            for index, (frame, stream) in enumerate(zip(frames, streams))
        ]
        stage_ms = {
            "preprocess": 1e3 * (prepared - started),
            "network": 1e3 * (inferred - prepared),
            "postprocess": 1e3 * (time.perf_counter() - inferred),
        }
        counts = [buffer.reference_count for buffer in buffers]
        # Last, so that frames that failed anywhere above leave nothing in the buffers.
        for stream in streams:
            stream.finish()
        return [
            Segmentation(own, confidence, count, stream.reset, dict(stage_ms), len(frames))
            for own, confidence, count, stream in zip(labels, confidences, counts, streams)
        ]
