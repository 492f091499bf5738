"""StreamingSegmenter: a stream against the clip form, by the stamps of its frames and without any."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from sdcpc_ros.streaming.label_upsampling import labels_from_logits
from sdcpc_ros.streaming.segmenter import StreamingSegmenter


def _video(frames):
    return np.random.default_rng(0).integers(0, 256, (frames, 64, 96, 3), dtype=np.uint8)


def _clip_labels(checkpoint, frames, age_s=None):
    """Labels of the last of the frames, by the clip form."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (checkpoint.mean, checkpoint.std))
    pixels = (torch.from_numpy(frames).permute(0, 3, 1, 2) - mean) / std
    with torch.inference_mode():
        logits = checkpoint.build_model()(pixels[None], age_s).logits[0]
    return labels_from_logits(logits.numpy(), frames.shape[1:3])


@pytest.mark.parametrize("stamped", [True, False])
@pytest.mark.parametrize("rate_hz", [15.0, 4.0])
def test_a_stream_gives_the_labels_of_the_clip_form(checkpoint, stamped, rate_hz):
    """By its stamps; without any, frames are taken to come at 15 Hz."""
    config = dataclasses.replace(checkpoint.config, recurrent=False)  # so that any frames make a clip
    checkpoint = dataclasses.replace(checkpoint, config=config)
    segmenter, video = StreamingSegmenter(checkpoint), _video(6)
    stamps_s = [100 + i / rate_hz if stamped else None for i in range(6)]
    streamed = [segmenter.segment(image, stamp_s) for image, stamp_s in zip(video, stamps_s)]
    assert [s.references for s in streamed] == [0, 1, 1, 2, 2, 2]
    age_s = torch.tensor([[3.0, 1.0]]) / (rate_hz if stamped else 15.0)
    for last in (3, 5):
        expected = _clip_labels(checkpoint, video[[last - 3, last - 1, last]], age_s)
        assert (streamed[last].labels == expected).mean() > 0.999


def test_a_recurrent_stream_gives_the_labels_of_the_clip_form(checkpoint):
    """From its first frame on, with offsets that are the clip's."""
    config = dataclasses.replace(checkpoint.config, recurrent=True, reference_offsets=(1, 2, 3))
    checkpoint = dataclasses.replace(checkpoint, config=config)
    segmenter, video = StreamingSegmenter(checkpoint), _video(4)
    streamed = [segmenter.segment(image).labels for image in video]
    for last in range(4):
        assert (streamed[last] == _clip_labels(checkpoint, video[: last + 1])).mean() > 0.999


def test_without_stamps_frames_are_as_if_stamped_at_15_hz(checkpoint):
    """Also a single one among stamped ones: it counts as 1/15 s later than the last."""
    video = _video(7)
    unstamped, stamped, slow = (StreamingSegmenter(checkpoint, max_gap_s=math.inf) for _ in range(3))
    confidences = []
    for i, image in enumerate(video):
        default = unstamped.segment(image, 1000.0 if i == 3 else None, confidence=True)
        stamp_s = i / 15 if i < 3 else 1000.0 + (i - 3) / 15
        explicit = stamped.segment(image, stamp_s, confidence=True)
        assert (default.labels == explicit.labels).all() and (default.confidence == explicit.confidence).all()
        confidences.append((explicit.confidence, slow.segment(image, float(i), confidence=True).confidence))
    assert (confidences[0][0] == confidences[0][1]).all()  # nothing is remembered that could have an age
    assert (confidences[1][0] != confidences[1][1]).any()
