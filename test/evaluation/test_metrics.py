"""IoU and mVC against hand-made cases and brute force from their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sdcpc_ros.evaluation.metrics import ConfusionMatrix, VideoConsistency
from sdcpc_ros.labels.label_set import IGNORE

CLASSES = 4
LABELS = st.sampled_from([0, 1, 2, 3, IGNORE])


def ids(rows: list[list[int]]) -> np.ndarray:
    return np.array(rows, np.uint8)


def label_images(frames: int, height: int, width: int) -> st.SearchStrategy[np.ndarray]:
    return hnp.arrays(np.uint8, (frames, height, width), elements=LABELS)


@st.composite
def truth_and_prediction(draw: st.DrawFn, max_frames: int = 4) -> tuple[np.ndarray, np.ndarray]:
    shape = (draw(st.integers(1, max_frames)), draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    return draw(label_images(*shape)), draw(label_images(*shape))


@st.composite
def nearly_still_video(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Truth and prediction (T, H, W) in which few pixels change, so that windows have something to count."""
    frames, height, width = draw(st.integers(1, 9)), 2, 3

    def video() -> np.ndarray:
        frame = draw(label_images(1, height, width))[0]
        out = []
        for _ in range(frames):
            for _ in range(draw(st.integers(0, 1))):
                frame = frame.copy()
                frame[draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))] = draw(LABELS)
            out.append(frame)
        return np.stack(out)

    return video(), video()


class TestConfusionMatrix:
    def test_known_answer(self) -> None:
        confusion = ConfusionMatrix(3)
        confusion.update(ids([[0, 0, 1, 1]]), ids([[0, 1, 1, 1]]))
        np.testing.assert_array_equal(confusion.matrix, [[1, 1, 0], [0, 2, 0], [0, 0, 0]])
        np.testing.assert_allclose(confusion.iou(), [1 / 2, 2 / 3, np.nan])
        assert confusion.miou() == pytest.approx((1 / 2 + 2 / 3) / 2)
        assert confusion.weighted_iou() == pytest.approx(0.5 * 1 / 2 + 0.5 * 2 / 3)

    def test_class_only_predicted_lowers_the_others_and_is_not_averaged(self) -> None:
        confusion = ConfusionMatrix(3)
        confusion.update(ids([[0, 0]]), ids([[0, 2]]))
        np.testing.assert_allclose(confusion.iou(), [1 / 2, np.nan, np.nan])
        assert confusion.miou() == pytest.approx(1 / 2)

    def test_void_truth_is_left_out_and_an_unlabelled_prediction_is_a_miss(self) -> None:
        confusion = ConfusionMatrix(2)
        confusion.update(ids([[0, 0, 1, IGNORE]]), ids([[0, IGNORE, 1, 0]]))
        np.testing.assert_allclose(confusion.iou(), [1 / 2, 1])
        np.testing.assert_array_equal(confusion.unlabelled, [1, 0])
        np.testing.assert_array_equal(confusion.truth_pixels(), [2, 1])

    def test_nothing_seen_is_nan(self) -> None:
        confusion = ConfusionMatrix(2)
        confusion.update(ids([[IGNORE]]), ids([[1]]))
        assert np.isnan(confusion.miou())
        assert np.isnan(confusion.weighted_iou())

    @given(truth_and_prediction())
    def test_agrees_with_sets_of_pixels(self, video: tuple[np.ndarray, np.ndarray]) -> None:
        truths, predictions = video
        confusion = ConfusionMatrix(CLASSES)
        for truth, prediction in zip(truths, predictions):
            confusion.update(truth, prediction)

        counted = {index for index in np.ndindex(truths.shape) if truths[index] != IGNORE}
        by_class, sizes = [], []
        for class_id in range(CLASSES):
            true = {index for index in counted if truths[index] == class_id}
            predicted = {index for index in counted if predictions[index] == class_id}
            by_class.append(len(true & predicted) / len(true | predicted) if true else np.nan)
            sizes.append(len(true))
        np.testing.assert_allclose(confusion.iou(), by_class)
        present = [value for value in by_class if not np.isnan(value)]
        np.testing.assert_allclose(confusion.miou(), sum(present) / len(present) if present else np.nan)
        weighted = sum(value * size for value, size in zip(by_class, sizes) if size)
        np.testing.assert_allclose(confusion.weighted_iou(), weighted / sum(sizes) if counted else np.nan)

    @given(truth_and_prediction())
    def test_merging_parts_equals_counting_all(self, video: tuple[np.ndarray, np.ndarray]) -> None:
        whole, parts = ConfusionMatrix(CLASSES), ConfusionMatrix(CLASSES)
        for truth, prediction in zip(*video):
            whole.update(truth, prediction)
            part = ConfusionMatrix(CLASSES)
            part.update(truth, prediction)
            parts.merge(part)
        np.testing.assert_array_equal(whole.matrix, parts.matrix)
        np.testing.assert_array_equal(whole.unlabelled, parts.unlabelled)

    @pytest.mark.parametrize(
        ("truth", "prediction", "message"),
        [
            (ids([[2]]), ids([[0]]), "the truth holds id 2; 0 to 1 and 255"),
            (ids([[0]]), ids([[254]]), "the prediction holds id 254"),
            (ids([[0]]), ids([[0, 0]]), r"differ in size: \(1, 1\) and \(1, 2\)"),
            (ids([[0]]), np.zeros((1, 1), np.int64), "uint8 label images, not int64"),
            (ids([[0]])[None], ids([[0]])[None], r"of shape \(1, 1, 1\)"),
        ],
    )
    def test_bad_frames_are_refused_and_leave_nothing_behind(
        self, truth: np.ndarray, prediction: np.ndarray, message: str
    ) -> None:
        confusion = ConfusionMatrix(2)
        with pytest.raises(ValueError, match=message):
            confusion.update(truth, prediction)
        assert not confusion.matrix.any()

    def test_bad_class_counts_are_refused(self) -> None:
        with pytest.raises(ValueError, match="num_classes is 256; 1 to 255"):
            ConfusionMatrix(256)
        with pytest.raises(ValueError, match="2 and 3 classes"):
            ConfusionMatrix(2).merge(ConfusionMatrix(3))


def brute_force_mvc(videos: list[tuple[np.ndarray, np.ndarray]], n: int, mode: str) -> float:
    """mVC_n straight from its definition, window by window and pixel by pixel."""
    shares = []
    for truths, predictions in videos:
        windows = len(truths) - n + (1 if mode == "clean" else 0)
        for start in range(max(0, windows)):
            stable, kept = 0, 0
            for row, column in np.ndindex(truths.shape[1:]):
                true = set(truths[start : start + n, row, column].tolist())
                if len(true) == 1 and (mode == "reference" or IGNORE not in true):
                    stable += 1
                    kept += len(set(predictions[start : start + n, row, column].tolist())) == 1
            if stable:
                shares.append(kept / stable)
    return sum(shares) / len(shares) if shares else float("nan")


def mvc(videos: list[tuple[np.ndarray, np.ndarray]], n: int, mode: str) -> float:
    consistency = VideoConsistency(n, mode)
    for truths, predictions in videos:
        for truth, prediction in zip(truths, predictions):
            consistency.update(truth, prediction)
        consistency.end_video()
    return consistency.value()


def video(*pixels: str) -> np.ndarray:
    """Frames (T, 1, W) from one string a pixel, one character a frame; "x" is 255."""
    return np.array(
        [[[IGNORE if c == "x" else int(c) for c in frame] for frame in [column]] for column in zip(*pixels)], np.uint8
    )


def flickering_video(random: np.random.Generator, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Truth and prediction (T, 12, 16): a few pixels change from frame to frame, some of them to void."""
    shape = (12, 16)
    truth, prediction = (random.integers(0, CLASSES, shape, np.uint8) for _ in range(2))
    truths, predictions = [], []
    for _ in range(frames):
        for labels, rate in ((truth, 0.02), (prediction, 0.04)):
            changed = random.random(shape) < rate
            labels[changed] = random.choice([0, 1, 2, 3, IGNORE], int(changed.sum()))
        truths.append(truth.copy())
        predictions.append(prediction.copy())
    return np.stack(truths), np.stack(predictions)


class TestVideoConsistency:
    def test_known_answer(self) -> None:
        truth = video("0000", "1111", "0001")
        prediction = video("2222", "1100", "0000")
        # Windows of 3. From 0: all three are stable, the second flickers. From 1: the third pixel is not stable.
        assert mvc([(truth, prediction)], 3, "clean") == pytest.approx((2 / 3 + 1 / 2) / 2)

    def test_a_wrong_but_still_prediction_is_consistent(self) -> None:
        assert mvc([(video("00000"), video("33333"))], 4, "clean") == 1.0

    def test_reference_mode_skips_the_last_window(self) -> None:
        truth, prediction = video("0000"), video("1112")
        assert mvc([(truth, prediction)], 3, "reference") == 1.0
        assert mvc([(truth, prediction)], 3, "clean") == 0.5

    def test_reference_mode_skips_a_video_of_one_window(self) -> None:
        assert np.isnan(mvc([(video("000"), video("000"))], 3, "reference"))
        assert mvc([(video("000"), video("000"))], 3, "clean") == 1.0

    def test_void_counts_as_still_truth_in_reference_mode_only(self) -> None:
        truth, prediction = video("0000", "xxxx"), video("1111", "1212")
        assert mvc([(truth, prediction)], 3, "reference") == 0.5
        assert mvc([(truth, prediction)], 3, "clean") == 1.0

    def test_a_pixel_that_was_void_counts_again_n_frames_later(self) -> None:
        truth, prediction = video("00x0000"), video("1111112")
        # Of the five windows of 3, only those from frames 3 and 4 hold no void, and the last sees the change.
        assert mvc([(truth, prediction)], 3, "clean") == 0.5

    def test_no_window_reaches_across_videos(self) -> None:
        still, other = (video("000"), video("111")), (video("000"), video("222"))
        assert mvc([still, other], 2, "clean") == 1.0

    @given(
        st.lists(nearly_still_video(), min_size=1, max_size=2),
        st.integers(2, 5),
        st.sampled_from(["clean", "reference"]),
    )
    @settings(max_examples=150)
    def test_agrees_with_the_definition(self, videos: list, n: int, mode: str) -> None:
        np.testing.assert_allclose(mvc(videos, n, mode), brute_force_mvc(videos, n, mode))

    @pytest.mark.parametrize(("n", "mode"), [(8, "clean"), (8, "reference"), (16, "clean"), (16, "reference")])
    def test_agrees_with_whole_windows_on_long_videos(self, n: int, mode: str) -> None:
        random = np.random.default_rng(n)
        videos = [flickering_video(random, frames) for frames in (40, n, n + 1, 5)]
        shares = []
        for truths, predictions in videos:
            for start in range(len(truths) - n + (mode == "clean")):
                window, predicted = truths[start : start + n], predictions[start : start + n]
                stable = (window == window[0]).all(axis=0)
                if mode == "clean":
                    stable &= window[0] != IGNORE
                if stable.any():
                    shares.append((predicted == predicted[0]).all(axis=0)[stable].mean())
        assert len(shares) > 20 and 0.2 < np.mean(shares) < 0.9
        np.testing.assert_allclose(mvc(videos, n, mode), np.mean(shares))

    def test_a_window_without_anything_stable_has_no_share_in_either_mode(self) -> None:
        truth, prediction = video("010111"), video("000001")
        # Windows of 2 from 0, 1, 2: nothing stands still. From 3 the prediction does, from 4 it does not.
        assert mvc([(truth, prediction)], 2, "clean") == 0.5
        assert mvc([(truth, prediction)], 2, "reference") == 1.0

    def test_a_video_as_long_as_the_window_counts_in_clean_mode_alone(self) -> None:
        for n in (8, 16):
            videos = [(video("0" * n), video("1" * n)), (video("0" * (n + 1)), video("1" * n + "2"))]
            assert mvc(videos, n, "clean") == pytest.approx(2 / 3)  # one window, then two of which the last changes
            assert mvc(videos, n, "reference") == 1.0  # the first window of the second video alone

    @pytest.mark.parametrize(("n", "mode", "message"), [(1, "clean", "at least 2"), (8, "vspw", "clean and reference")])
    def test_bad_arguments_are_refused(self, n: int, mode: str, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            VideoConsistency(n, mode)

    def test_a_change_of_size_is_refused(self) -> None:
        consistency = VideoConsistency(2)
        consistency.update(ids([[0]]), ids([[0]]))
        with pytest.raises(ValueError, match="the size changed within a video"):
            consistency.update(ids([[0, 0]]), ids([[0, 0]]))
