from __future__ import annotations

import av
import numpy as np
import pytest

from sdcpc_ros.evaluation.video import VideoWriter


def test_a_video_plays_anywhere_and_keeps_pictures_and_times(tmp_path):
    colours = [(200, 30, 30), (30, 200, 30), (30, 30, 200)]
    times_s = [0.0, 0.1, 0.5]  # not evenly spaced: dropped frames must not shift the rest
    with VideoWriter(tmp_path / "video.mp4", rate_hz=10) as video:
        for colour, time_s in zip(colours, times_s):
            video.write(np.full((48, 64, 3), colour, np.uint8), time_s)
    with av.open(str(tmp_path / "video.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        frames = [
            (frame.time, frame.to_ndarray(format="rgb24").mean(axis=(0, 1))) for frame in container.decode(stream)
        ]
    assert [time for time, _ in frames] == pytest.approx(times_s, abs=1e-3)
    for (_, mean), colour in zip(frames, colours):
        assert np.abs(mean - colour).max() < 12
    content = (tmp_path / "video.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")  # the index first: browsers start before they have it all


@pytest.mark.parametrize(
    ("shape", "time_s", "sentence"),
    [
        ((48, 63, 3), 1.0, "63 x 48; even sides up to 16384 are allowed"),
        ((48, 16386, 3), 1.0, "16386 x 48; even sides up to 16384 are allowed"),
        ((48, 66, 3), 1.0, "66 x 48 pixels in a video of 64 x 48"),
        ((48, 64, 3), 0.0, "the picture at 0.000 s does not come after"),
    ],
)
def test_a_picture_that_does_not_go_with_the_video_is_refused(tmp_path, shape, time_s, sentence):
    with VideoWriter(tmp_path / "video.mp4") as video:
        if "even" not in sentence:
            video.write(np.zeros((48, 64, 3), np.uint8), 0.0)
        with pytest.raises(ValueError, match=sentence):
            video.write(np.zeros(shape, np.uint8), time_s)
