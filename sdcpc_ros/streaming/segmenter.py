"""StreamingSegmenter: images of one or more streams in, temporally consistent masks out. No ROS, no files."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

import numpy as np
import torch

from sdcpc_ros.checkpoint import Checkpoint
from sdcpc_ros.inference import BackendStatus, BackendSwitch, Step, checked_device
from sdcpc_ros.streaming.frame_buffer import FrameBuffer
from sdcpc_ros.streaming.frame_pass import DevicePass, FramePass, HostPass
from sdcpc_ros.streaming.geometry import MIN_SIDE, confidence_from_probability, network_size, to_network

#: Sizes of images whose passes are kept: on a GPU each holds a graph and its memory.
_PASSES = 16


@dataclass(frozen=True)
class Segmentation:
    """The mask of one image."""

    labels: np.ndarray  #: (H, W) uint8, class ids
    confidence: np.ndarray | None  #: (H, W) uint8, probability of the label, 255 = certain; None unless asked for
    references: int  #: how many remembered frames took part
    stage_ms: dict[str, float] = field(default_factory=dict)  #: wall time of "preprocess", "network", "postprocess"


class StreamingSegmenter:
    """Segments video streams frame by frame; each frame is encoded once, whatever the number of references.

    One instance serves any number of streams, told apart by name, and may be called from several threads: calls take
    turns. Raises BackendError (a ValueError) when the device or backend cannot be had, CheckpointError when the
    weights do not fit.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        device: str = "cpu",
        backend: str = "eager",
        input_size: tuple[int, int] | None = None,
        background_build: bool = False,
        fallback: bool = False,
    ) -> None:
        """input_size: (height, width) of the network's input; by default each image keeps its aspect ratio and gets the
        number of pixels that the model was trained at. background_build: frames run eagerly while the backend is
        built, from now on when input_size says for what; else the first of each size waits. fallback: they run eagerly
        where the backend cannot be had at all."""
        if input_size is not None and min(input_size) < MIN_SIDE:
            raise ValueError(f"input_size is {input_size}; (height, width) of at least {MIN_SIDE} px each is needed")
        self.label_set = checkpoint.label_set
        self._device = checked_device(device)
        self.device, self.backend = str(self._device), backend
        self.model_size = checkpoint.input_size
        self.input_size = input_size
        self._offsets = checkpoint.config.reference_offsets
        self._step = Step(checkpoint.build_model(), checkpoint.mean, checkpoint.std, self._device)
        self._backends = BackendSwitch(backend, self._step, background=background_build, fallback=fallback)
        if background_build and input_size is not None:
            self._backends.backend(input_size)  # begins
        self._passes: dict[tuple[tuple[int, int], tuple[int, int]], FramePass] = {}
        self._streams: dict[str, _Stream] = {}
        self._lock = threading.Lock()
        self._closed = False

    def segment(
        self, image: np.ndarray, stamp_s: float = 0.0, *, stream: str = "camera", confidence: bool = False
    ) -> Segmentation:
        """Segment the next frame of a stream in the light of its earlier ones, and remember it.

        image: (H, W, 3) uint8 RGB, sides of at least 32 px; a change of size empties the stream's buffer.
        stamp_s: kept beside the frame. Raises ValueError on a bad image; the stream is then as it was.
        """
        _check_image(image)
        with self._lock:
            state = self._stream(stream, image.shape[:2])
            return self._segment(image, state, stamp_s, confidence)

    def segment_single(self, image: np.ndarray, *, confidence: bool = False) -> Segmentation:
        """Segment one image by itself: the same weights, no references, nothing remembered. Raises like `segment`."""
        _check_image(image)
        with self._lock:
            return self._segment(image, self._new_stream(image.shape[:2]), 0.0, confidence)

    @property
    def memory_frames(self) -> int:
        """How many earlier frames of a stream are remembered: the age of the oldest reference."""
        return max(self._offsets)

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

    def _segment(self, image: np.ndarray, stream: _Stream, stamp_s: float, confidence: bool) -> Segmentation:
        run = self._pass(stream)
        started = time.perf_counter()
        pixels = np.ascontiguousarray(to_network(image, stream.network_size))
        prepared = time.perf_counter()
        reference_count = stream.buffer.reference_count
        result = run(pixels, *stream.buffer.references(), confidence)
        segmentation = Segmentation(
            result.labels,
            None if result.probability is None else confidence_from_probability(result.probability, stream.image_size),
            reference_count,
            {
                "preprocess": 1e3 * (prepared - started),
                "network": 1e3 * (result.inferred_s - prepared),
                "postprocess": 1e3 * (time.perf_counter() - result.inferred_s),
            },
        )
        # Last, so that a frame that failed anywhere above leaves no trace.
        stream.buffer.push(result.memory, stamp_s)
        return segmentation

    def _pass(self, stream: _Stream) -> FramePass:
        """The way from pixels to labels for the sizes of this stream, through what its backend is now."""
        backend = self._backends.backend(stream.network_size)
        sizes = (stream.network_size, stream.image_size)
        known = self._passes.pop(sizes, None)
        if known is None or known.backend is not backend:
            if self._device.type == "cuda":
                known = DevicePass(backend, self._step, *sizes)
            else:
                known = HostPass(backend, stream.image_size)
        self._passes[sizes] = known  # at the end: the first is the one that was not used for longest
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
