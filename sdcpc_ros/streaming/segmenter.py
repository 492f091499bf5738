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
from sdcpc_ros.network.architectures import fixed_size
from sdcpc_ros.streaming.frame_buffer import FrameBuffer
from sdcpc_ros.streaming.frame_pass import DevicePass, FramePass, HostPass, PassInput
from sdcpc_ros.streaming.geometry import MIN_SIDE, confidence_from_probability, network_size, to_network
from sdcpc_ros.streaming.stream_frame import StreamFrame

#: Sizes of images, in batches or by themselves, whose passes are kept: on a GPU each holds a graph and its memory.
_PASSES = 16
#: After a batch that failed, frames are run one by one for so long: what failed may fail again, and costs all of them.
_ONE_BY_ONE_S = 10.0


@dataclass(frozen=True)
class Segmentation:
    """The mask of one image."""

    labels: np.ndarray  #: (H, W) uint8, class ids
    confidence: np.ndarray | None  #: (H, W) uint8, probability of the label, 255 = certain; None unless asked for
    references: int  #: how many remembered frames took part
    #: Wall time of "preprocess", "network", "postprocess": of all frames that were run at once with this one.
    stage_ms: dict[str, float] = field(default_factory=dict)
    batch: int = 1  #: how many frames those were


class StreamingSegmenter:
    """Segments video streams frame by frame; each frame is encoded once, whatever the number of references.

    One instance serves any number of streams, told apart by name, and may be called from several threads: calls take
    turns. Raises BackendError (a ValueError) when the device or backend cannot be had, CheckpointError when the
    weights do not fit.
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
    ) -> None:
        """checkpoint: a loaded one, the name of a shipped model, or the path of a .safetensors file. device: auto
        takes the GPU where PyTorch finds one. precision: auto (float16 on a GPU, float32 on a CPU), float32, float16 or
        bfloat16; of weights, activations and memories. input_size: (height, width) of the network's input; by default
        each image keeps its aspect ratio and gets the number of pixels that the model was trained at. backend: auto
        runs eagerly and changes to inductor (GPU) or to a cached ahead-of-time package (CPU) when that is ready; a few
        pixels may differ from there on. background_build: frames run eagerly while the backend is built, from now on
        when input_size says for what; else the first of each size waits (with auto none does). fallback: they run
        eagerly where the backend cannot be had at all.
        class_groups: of each class, the number of a group, from 0 on; the confidence is then that of the label's group,
        the sum over its classes."""
        if input_size is not None and min(input_size) < MIN_SIDE:
            raise ValueError(f"input_size is {input_size}; (height, width) of at least {MIN_SIDE} px each is needed")
        if not isinstance(checkpoint, Checkpoint):
            checkpoint = load_checkpoint(resolve_model(str(checkpoint)))
        only = fixed_size(checkpoint.config)
        if only is not None and input_size not in (None, only):
            raise ValueError(f"input_size is {input_size}; the model takes {only} (height, width) only")
        input_size = only or input_size
        self.label_set = checkpoint.label_set
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self._device = checked_device(device)
        self.device, self.backend = str(self._device), backend
        self.model_size = checkpoint.input_size
        self.input_size = input_size
        self._offsets = checkpoint.config.reference_offsets
        self._groups = None if class_groups is None else torch.tensor(class_groups, device=self._device)
        model = checkpoint.build_model()
        dtype = checked_precision(precision, self._device, model)
        self.precision = precision_name(dtype)
        self._step = Step(model, checkpoint.mean, checkpoint.std, self._device, dtype)
        self._backends = BackendManager(backend, self._step, background=background_build, fallback=fallback)
        if background_build and input_size is not None:
            self._backends.backend(input_size)  # begins
        self._passes: dict[tuple[tuple[int, int], tuple[tuple[int, int], ...]], FramePass] = {}
        self._streams: dict[str, _Stream] = {}
        self.failed_batches = 0  #: since the start; their frames were then run one by one
        self._batch_failure = ""
        self._one_by_one_until_s = 0.0  # steady clock
        self._lock = threading.Lock()
        self._closed = False

    def segment(
        self, image: np.ndarray, stamp_s: float | None = None, *, stream: str = "camera", confidence: bool = False
    ) -> Segmentation:
        """Segment the next frame of a stream in the light of its earlier ones, and remember it.

        image: (H, W, 3) uint8 RGB, sides of at least 32 px; a change of size empties the stream's buffer.
        stamp_s: the frame's time in seconds, from which the ages of its references follow; without one the frame counts
        as 1/15 s later than the last. Raises ValueError on a bad image; the stream is then as it was.
        """
        _check_image(image)
        with self._lock:
            state = self._stream(stream, image.shape[:2])
            return self._segment([StreamFrame(image, stamp_s, stream, confidence)], [state])[0]

    def segment_batch(self, frames: Sequence[StreamFrame], most: int | None = None) -> list[Segmentation | Exception]:
        """Segment the next frame of each of several streams: what `segment` gives or raises for each, in fewer passes.

        Frames of one network size are run at once, as many as `batch_size` says; most: as there, by default all.
        Where that fails they are run one by one: a frame is lost to its own fault only. Raises ValueError, with nothing
        done, on two frames of one stream: which of them is the earlier would be a guess.
        """
        names = [frame.stream for frame in frames]
        if len(set(names)) < len(names):
            raise ValueError(f"segment_batch: the frames are of the streams {names}; one of each is allowed")
        outcomes: dict[int, Segmentation | Exception] = {}
        streams: dict[int, _Stream] = {}
        with self._lock:
            for index, frame in enumerate(frames):
                try:
                    _check_image(frame.image)
                    streams[index] = self._stream(frame.stream, frame.image.shape[:2])
                except Exception as error:
                    outcomes[index] = error
            while waiting := [index for index in streams if index not in outcomes]:
                batch = self._next_batch(waiting, streams, most)
                found = self._segment_or_fail([frames[index] for index in batch], [streams[index] for index in batch])
                outcomes.update(zip(batch, found))
        return [outcomes[index] for index in range(len(frames))]

    def segment_single(self, image: np.ndarray, *, confidence: bool = False) -> Segmentation:
        """Segment one image by itself: the same weights, no references, nothing remembered. Raises like `segment`."""
        _check_image(image)
        with self._lock:
            stream = self._new_stream(image.shape[:2])
            return self._segment([StreamFrame(image, confidence=confidence)], [stream])[0]

    def batch_size(self, network_size: tuple[int, int], waiting: int, most: int) -> int:
        """How many of `waiting` frames of one network size are best run at once now, where at most `most` may be.

        One of few numbers; 1 while, or where, the backend is made for one frame, and for a while after a failed batch.
        """
        if time.monotonic() < self._one_by_one_until_s:
            return 1
        return self._backends.batch_size(network_size, waiting, most)

    @property
    def batching_disabled_reason(self) -> str:
        """What keeps frames from being run at once, in words; empty when nothing does."""
        left_s = self._one_by_one_until_s - time.monotonic()
        if left_s > 0:
            return f"one by one for {left_s:.0f} s more, as a batch failed: {self._batch_failure}"
        return self._backends.batching_disabled_reason

    def network_size(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """The (height, width) at which the network sees an image of `image_size`."""
        return self.input_size or network_size(image_size, self.model_size)

    @property
    def backend_status(self) -> BackendStatus:
        """What runs the network now: the backend, or what is being built, or why it cannot be had."""
        return self._backends.status

    def reset(self, stream: str | None = None) -> None:
        """Forget the earlier frames of one stream, or of all."""
        with self._lock:
            for name in [stream] if stream is not None else list(self._streams):
                self._streams.pop(name, None)

    def buffer_fill(self, stream: str = "camera") -> float:
        """The share of the stream's frame buffer that is filled, 0..1."""
        state = self._streams.get(stream)
        return state.buffer.fill if state else 0.0

    def close(self) -> None:
        """Give the memory of weights and buffers back; the segmenter is then of no more use."""
        with self._lock:
            self._streams.clear()
            self._passes.clear()
            self._closed = True
            del self._backends, self._step
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _stream(self, name: str, image_size: tuple[int, int]) -> _Stream:
        state = self._streams.get(name)
        if state is None or state.image_size != image_size:
            state = self._streams[name] = self._new_stream(image_size)
        return state

    def _new_stream(self, image_size: tuple[int, int]) -> _Stream:
        if self._closed:
            raise RuntimeError("this segmenter is closed")
        size = self.network_size(image_size)
        return _Stream(image_size, size, FrameBuffer(self._offsets, self._step.blank(size)))

    def _next_batch(self, waiting: Sequence[int], streams: Mapping[int, _Stream], most: int | None) -> list[int]:
        """Which of the waiting frames are run at once now: of one network size, as many as the backend takes."""
        size = streams[waiting[0]].network_size
        alike = [index for index in waiting if streams[index].network_size == size]
        # In an order of their own: the same cameras make the same pass, whichever comes first.
        alike.sort(key=lambda index: streams[index].image_size)
        return alike[: self.batch_size(size, len(alike), most or len(alike))]

    def _segment_or_fail(
        self, frames: Sequence[StreamFrame], streams: Sequence[_Stream]
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

    def _segment(self, frames: Sequence[StreamFrame], streams: Sequence[_Stream]) -> list[Segmentation]:
        """Frames of one network size, run at once."""
        run = self._pass(streams)
        started = time.perf_counter()
        stamps_s = [
            stream.buffer.next_stamp_s if frame.stamp_s is None else frame.stamp_s
            for frame, stream in zip(frames, streams)
        ]
        inputs = [
            PassInput(
                np.ascontiguousarray(to_network(frame.image, stream.network_size)),
                *stream.buffer.references(stamp_s),
                frame.confidence,
            )
            for frame, stamp_s, stream in zip(frames, stamps_s, streams)
        ]
        prepared = time.perf_counter()
        reference_counts = [stream.buffer.reference_count for stream in streams]
        results = run(inputs)
        confidences = [
            None if result.probability is None else confidence_from_probability(result.probability, stream.image_size)
            for result, stream in zip(results, streams)
        ]
        inferred = results[0].inferred_s
        stage_ms = {
            "preprocess": 1e3 * (prepared - started),
            "network": 1e3 * (inferred - prepared),
            "postprocess": 1e3 * (time.perf_counter() - inferred),
        }
        # Last, so that frames that failed anywhere above leave no trace.
        for result, stamp_s, stream in zip(results, stamps_s, streams):
            stream.buffer.push(result.memory, stamp_s)
        return [
            Segmentation(result.labels, confidence, count, dict(stage_ms), len(frames))
            for result, confidence, count in zip(results, confidences, reference_counts)
        ]

    def _pass(self, streams: Sequence[_Stream]) -> FramePass:
        """The way from pixels to labels for frames of these streams, through what their backend is now."""
        network_size = streams[0].network_size
        backend = self._backends.backend(network_size, len(streams))
        image_sizes = tuple(stream.image_size for stream in streams)
        known = self._passes.pop((network_size, image_sizes), None)
        if known is None or known.backend is not backend:
            if self._device.type == "cuda":
                known = DevicePass(backend, self._step, network_size, image_sizes, self._groups)
            else:
                known = HostPass(backend, image_sizes, self._groups)
        self._passes[network_size, image_sizes] = known  # at the end: the first was not used for longest
        if len(self._passes) > _PASSES:
            del self._passes[next(iter(self._passes))]
        return known


@dataclass
class _Stream:
    image_size: tuple[int, int]
    network_size: tuple[int, int]
    buffer: FrameBuffer


def _check_image(image: np.ndarray) -> None:
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        found = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise ValueError(f"the image is {found}; uint8 (H, W, 3) RGB is needed")
    if min(image.shape[:2]) < MIN_SIDE:
        raise ValueError(f"the image is {image.shape[1]}x{image.shape[0]} px; at least {MIN_SIDE}x{MIN_SIDE} is needed")
