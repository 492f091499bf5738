"""`sdcpc segment` and what it is made of, on pictures of every kind."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from bag_fixtures import picture

from sdcpc_ros import cli
from sdcpc_ros.bags.errors import BagError
from sdcpc_ros.bags.messages import IMAGE, RawMessage, serialise_image
from sdcpc_ros.evaluation.pictures import fit_into, overlay
from sdcpc_ros.model_files.checkpoint import load_checkpoint
from sdcpc_ros.replay.segment import overlay_video, segment_source
from sdcpc_ros.replay.segmented_frames import SourceFrame, Unusable
from sdcpc_ros.replay.sources import open_source
from sdcpc_ros.streaming.segmenter import StreamingSegmenter

SIZE = (48, 64)


@pytest.fixture(scope="module")
def segmenter(tiny_checkpoint):
    return StreamingSegmenter(load_checkpoint(tiny_checkpoint))


def taken(path, **options) -> tuple[list[SourceFrame], list[Unusable], list[str]]:
    """All that a source holds: pictures, problems, names."""
    with open_source(str(path), **options) as source:
        everything = list(source.frames)
        assert source.expected is None or source.expected >= len(everything)
        frames = [each for each in everything if isinstance(each, SourceFrame)]
        return frames, [each for each in everything if isinstance(each, Unusable)], list(map(source.name_of, frames))


class TestSources:
    def test_a_video_keeps_its_times(self, video):
        frames, problems, names = taken(video)
        assert [frame.stamp_ns / 1e9 for frame in frames] == pytest.approx([0, 0.1, 0.2, 0.5, 0.6], abs=1e-3)
        assert np.abs(frames[0].image.astype(int) - picture(0)).mean() < 6
        assert (problems, names[0], names[4]) == ([], "000000", "000004")

    @pytest.mark.skipif(not hasattr(av.video.stream.VideoStream, "set_display_rotation"), reason="an older PyAV")
    def test_a_video_filmed_sideways_is_turned(self, tmp_path):
        """Bright at the left; turned counterclockwise by a quarter, what was at the left is at the bottom."""
        with av.open(str(tmp_path / "telephone.mp4"), "w") as container:
            stream = container.add_stream("libx264", rate=10)
            stream.width, stream.height, stream.pix_fmt = SIZE[1], SIZE[0], "yuv420p"
            stream.set_display_rotation(90)
            for packet in [
                *stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture(0)), format="rgb24")),
                *stream.encode(None),
            ]:
                container.mux(packet)
        (frame,), _, _ = taken(tmp_path / "telephone.mp4")
        assert frame.image.shape == (SIZE[1], SIZE[0], 3)
        assert frame.image[-4:].mean() > 180 > 60 > frame.image[:4].mean()

    def test_a_video_that_was_cut_short_gives_what_there_is(self, tmp_path):
        path = tmp_path / "drive.ts"  # a stream: its index is not at one of its ends
        random = np.random.default_rng(0)
        with av.open(str(path), "w", format="mpegts") as container:
            stream = container.add_stream("mpeg2video", rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for _ in range(20):
                noise = random.integers(0, 256, (48, 64, 3), np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(noise, format="rgb24")))
            container.mux(stream.encode(None))
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        frames, problems, _ = taken(path)
        assert 2 < len(frames) < 20
        assert all("cannot be decoded beyond" in each.problem for each in problems)

    def test_images_come_in_the_order_of_their_numbers(self, images):
        for path in (images, f"{images}/*.png"):
            frames, _, names = taken(path, images_hz=5)
            assert names == ["frame_9", "frame_10", "frame_11"]
            assert [frame.stamp_ns for frame in frames] == [0, 200_000_000, 400_000_000]
            assert (frames[1].image == picture(10)).all()
        assert taken(images / "frame_9.png")[2] == ["frame_9"]

    def test_an_image_that_cannot_be_read_is_left_out(self, images):
        (images / "frame_10.png").write_bytes(b"")
        frames, (problem,), names = taken(images)
        assert (len(frames), names) == (2, ["frame_9", "frame_11"])
        assert "frame_10.png' is not an image" in problem.problem

    def test_images_of_one_name_in_several_folders_are_numbered(self, images, tmp_path):
        (tmp_path / "more").mkdir()
        cv2.imwrite(str(tmp_path / "more" / "frame_9.png"), picture(0))
        assert taken(f"{tmp_path}/*/*.png")[2] == ["000000", "000001", "000002", "000003"]

    def test_a_bag_recorded_within_a_moment_is_played_at_a_rate_that_can_be(self, write_bag):
        messages = [
            RawMessage("/camera", IMAGE, index, serialise_image(picture(index), "rgb8", index, "o")) for index in (0, 1)
        ]
        with open_source(str(write_bag(messages))) as source:
            assert source.rate_hz == 30.0

    def test_a_bag_gives_its_camera_and_its_stamps(self, drive):
        frames, _, names = taken(drive)
        assert [frame.image[0, 0, 0] for frame in frames] == [0, 1, 2, 3, 4]
        assert names[0] == "1700000000000000000"
        assert taken(next(drive.glob("*.mcap")))[2] == names

    @pytest.mark.parametrize(
        ("name", "content", "options", "sentence"),
        [
            ("none.mp4", None, {}, "there is no file at '.*none.mp4'"),
            ("none.png", None, {}, "there is no image at '.*none.png'"),
            ("none_*.png", None, {}, "no images match '.*none_"),
            ("empty", "folder", {}, "no images in '.*empty'"),
            ("text.mp4", b"no video at all", {}, "text.mp4' is no video that can be read"),
            ("empty.mp4", b"", {}, "empty.mp4' is no video that can be read"),
            ("broken.mcap", b"\x00" * 50, {}, "broken.mcap' cannot be read"),
            ("text.mp4", b"x", {"camera": "/front"}, "a camera topic can be chosen of a bag, and '.*text.mp4' is none"),
            ("text.mp4", b"x", {"images_hz": 5}, "text.mp4' has times of its own; a rate goes with images"),
            ("one.png", b"x", {"images_hz": 0}, "the rate is 0; 0.02 to 240 images a second"),
        ],
    )
    def test_what_cannot_be_read_is_told_in_a_sentence(self, tmp_path, name, content, options, sentence):
        path = tmp_path / name
        if content == "folder":
            path.mkdir()
        elif content is not None:
            path.write_bytes(content)
        with pytest.raises(BagError, match=sentence):
            taken(path, **options)

    def test_sound_is_no_video(self, tmp_path):
        with av.open(str(tmp_path / "sound.mp4"), "w") as container:
            stream = container.add_stream("aac", rate=16_000)
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            silence.sample_rate = 16_000
            container.mux(stream.encode(silence))
            container.mux(stream.encode(None))
        with pytest.raises(BagError, match=r"sound.mp4' is no video that can be read"):
            taken(tmp_path / "sound.mp4")

    @pytest.mark.parametrize("options", [None, "rtsp_transport;tcp", "protocol_whitelist;file,http,tcp"])
    def test_a_playlist_opens_no_other_host(self, tmp_path, monkeypatch, options):
        """Whatever FFmpeg options the user has set, and these stay."""
        name = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
        monkeypatch.delenv(name, raising=False)
        if options is not None:
            monkeypatch.setenv(name, options)
        with socket.create_server(("127.0.0.1", 0)) as host:
            port = host.getsockname()[1]
            url = f"http://127.0.0.1:{port}/a.ts"
            (tmp_path / "list.m3u8").write_text(
                f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{url}\n#EXT-X-ENDLIST\n"
            )
            with pytest.raises(BagError, match=r"list.m3u8' is no video"):
                taken(tmp_path / "list.m3u8")
            host.settimeout(0.2)
            with pytest.raises(TimeoutError):
                host.accept()
        assert os.environ.get(name) == options


class TestOutputs:
    def test_labels_are_those_of_the_segmenter(self, segmenter, images, tmp_path):
        with open_source(str(images)) as source:
            done = segment_source(segmenter, source, tmp_path / "out" / "labels")
        assert (done.frames, done.unusable) == (3, 0)
        segmenter.reset()
        for number in (9, 10, 11):
            written = cv2.imread(str(tmp_path / "out" / "labels" / f"frame_{number}.png"), cv2.IMREAD_UNCHANGED)
            assert written.dtype == np.uint8 and written.ndim == 2
            np.testing.assert_array_equal(written, segmenter.segment(picture(number), number / 15).labels)

    def test_the_video_shows_the_overlay_at_the_times_of_the_input(self, segmenter, video, tmp_path):
        with open_source(str(video)) as source:
            segment_source(segmenter, source, tmp_path / "out.mp4", opacity=0.5)
        frames, _, _ = taken(tmp_path / "out.mp4")
        assert [frame.stamp_ns / 1e9 for frame in frames] == pytest.approx([0, 0.1, 0.2, 0.5, 0.6], abs=1e-3)
        (first, *_), _, _ = taken(video)
        segmenter.reset()
        expected = overlay(first.image, segmenter.segment(first.image).labels, segmenter.label_set, 0.5)
        assert np.abs(frames[0].image.astype(int) - expected).mean() < 14  # colours are coarser in a video
        assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []

    def test_odd_and_changing_sizes_make_one_video(self, segmenter, images, tmp_path):
        cv2.imwrite(str(images / "frame_1.png"), picture(0, (49, 65)))
        cv2.imwrite(str(images / "frame_12.png"), picture(0, (96, 64)))
        with open_source(str(images)) as source:
            segment_source(segmenter, source, tmp_path / "out.mp4", opacity=0.5)
        frames, _, _ = taken(tmp_path / "out.mp4")
        assert {frame.image.shape for frame in frames} == {(48, 64, 3)} and len(frames) == 5
        assert frames[-1].image[:, :8].mean() < 20 < frames[-1].image[:, 28:36].mean()  # as tall as fits, bars beside

    def test_where_a_clock_jumps_the_video_goes_on(self, segmenter, write_bag, tmp_path):
        stamps = [10.0, 10.1, 10.2, 5.0, 5.1, 5.1, 1.7e9, 1.7e9 + 0.25]
        messages = [
            RawMessage(
                "/camera",
                IMAGE,
                index * 100_000_000,
                serialise_image(picture(index), "rgb8", round(stamp * 1e9), "optical"),
            )
            for index, stamp in enumerate(stamps)
        ]
        with open_source(str(write_bag(messages))) as source:
            segment_source(segmenter, source, tmp_path / "out.mp4", opacity=0.5)
        frames, _, _ = taken(tmp_path / "out.mp4")
        times = [frame.stamp_ns / 1e9 for frame in frames]
        assert times == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.85], abs=1e-3)

    def test_without_a_picture_nothing_is_left_behind(self, segmenter, images, tmp_path):
        for path in images.iterdir():
            path.write_bytes(b"spoilt")
        before = sorted(tmp_path.iterdir())
        with (
            open_source(str(images)) as source,
            pytest.raises(BagError, match=r"can be used \(3 unusable; the first: .*frame_9.png' is not an image"),
        ):
            segment_source(segmenter, source, tmp_path / "out.mp4")
        assert sorted(tmp_path.iterdir()) == before

    def test_an_opacity_that_makes_no_sense_is_refused(self, segmenter, tmp_path):
        output = overlay_video(tmp_path / "out.mp4", segmenter.label_set, rate_hz=15, opacity=1.5)
        with pytest.raises(BagError, match=r"the opacity is 1.5; 0 to 1 is allowed"), output:
            pass

    def test_fitting_keeps_the_shape(self):
        page = fit_into(np.full((10, 40, 3), 200, np.uint8), (20, 20))
        assert page.shape == (20, 20, 3)
        assert (page[7:12] == 200).all() and page[:7].max() == 0 and page[12:].max() == 0


class TestCommand:
    def run(self, *arguments):
        return cli.main(["segment", *map(str, arguments)])

    def test_a_video_in_a_video_out(self, video, tiny_checkpoint, tmp_path, capsys):
        assert self.run(video, "-o", tmp_path / "out.mp4", "--model", tiny_checkpoint, "--opacity", "0.3") == 0
        assert "out.mp4: 5 images" in capsys.readouterr().out
        assert len(taken(tmp_path / "out.mp4")[0]) == 5

    def test_images_in_labels_out_and_what_was_left_out_is_told(self, images, tiny_checkpoint, tmp_path, capsys):
        (images / "frame_10.png").write_bytes(b"spoilt")
        assert self.run(images, "-o", tmp_path / "labels", "--model", tiny_checkpoint, "--rate", "2") == 0
        captured = capsys.readouterr()
        assert sorted(path.name for path in (tmp_path / "labels").iterdir()) == ["frame_11.png", "frame_9.png"]
        assert "labels: 2 images" in captured.out
        assert captured.err.count("\n") == 1 and "left out: '" in captured.err

    @pytest.mark.parametrize(
        ("arguments", "status", "sentence"),
        [
            (["99999999999", "-o", "x"], 1, "sdcpc segment: there is no camera 99999999999"),
            (["none.mp4", "-o", "x"], 1, "sdcpc segment: there is no file at 'none.mp4'"),
            (["images", "-o", "x", "--model", "no_such_model"], 1, "no model 'no_such_model'"),
            (["images", "-o", "x.mp4", "--opacity", "7"], 1, "the opacity is 7.0; 0 to 1"),
            (["images", "-o", "x", "--opacity", "0.5"], 2, "--opacity goes with a video"),
            (["images", "-o", "nowhere/x.mp4"], 2, "--output: no folder 'nowhere'"),
            (["images", "-o", "x.avi"], 2, "--output: 'x.avi' is neither a folder nor ends in .mp4"),
            (["drive.mp4", "-o", "drive.mp4"], 2, "--output: this is the input"),
            (["images", "-o", "images"], 2, "--output: this is the input"),
            (["images/*.png", "-o", "images"], 1, "'images' holds the images themselves; label images need another"),
            (["images/frame_9.png", "-o", "images"], 1, "'images' holds the images themselves"),
            (["drive.mp4", "-o", "full.mp4"], 2, "--output: 'full.mp4' is a folder; the name of a file is needed"),
        ],
    )
    def test_what_is_wrong_is_told(
        self, video, images, tiny_checkpoint, tmp_path, monkeypatch, capsys, arguments, status, sentence
    ):
        monkeypatch.chdir(tmp_path)
        Path("full.mp4").mkdir()
        options = [] if "--model" in arguments else ["--model", tiny_checkpoint]
        try:
            assert self.run(*arguments, *options) == status
        except SystemExit as stopped:
            assert stopped.code == status
        assert sentence in capsys.readouterr().err
        assert taken(images)[0][0].image.tobytes() == picture(9).tobytes()  # the input is as it was
        assert not Path("x").exists() and not Path("x.mp4").exists()
