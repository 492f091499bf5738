"""TC and the warp of labels against hand-made cases."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sdcpc_ros.evaluation.metrics import TemporalConsistency, warp_labels
from sdcpc_ros.labels.label_set import IGNORE

CLASSES = 4
LABELS = st.sampled_from([0, 1, 2, 3, IGNORE])


def ids(rows: list[list[int]]) -> np.ndarray:
    return np.array(rows, np.uint8)


def label_images(frames: int, height: int, width: int) -> st.SearchStrategy[np.ndarray]:
    return hnp.arrays(np.uint8, (frames, height, width), elements=LABELS)


def flow_of(dx: float, dy: float, height: int, width: int) -> np.ndarray:
    return np.broadcast_to(np.array([dx, dy], np.float32), (height, width, 2)).copy()


class TestWarpLabels:
    def test_known_answer(self) -> None:
        warped, visible = warp_labels(ids([[0, 1, 2], [3, 4, 5]]), flow_of(1, -1, 2, 3))
        np.testing.assert_array_equal(visible, [[False, False, False], [True, True, False]])
        np.testing.assert_array_equal(warped[visible], [1, 2])

    def test_nearest_pixel(self) -> None:
        labels = ids([[0, 1, 2]])
        warped, _ = warp_labels(labels, flow_of(0.49, 0, 1, 3))
        np.testing.assert_array_equal(warped, labels)
        warped, visible = warp_labels(labels, flow_of(0.51, 0, 1, 3))
        np.testing.assert_array_equal(warped[visible], [1, 2])

    @given(hnp.arrays(np.float32, (3, 4, 2), elements=st.floats(-6, 6, width=32) | st.sampled_from([np.nan, np.inf])))
    def test_agrees_with_a_loop(self, flow: np.ndarray) -> None:
        labels = np.arange(12, dtype=np.uint8).reshape(3, 4)
        warped, visible = warp_labels(labels, flow)
        for y, x in np.ndindex(3, 4):
            dx, dy = (float(value) for value in flow[y, x])
            inside = np.isfinite([dx, dy]).all() and -0.5 <= x + dx < 3.5 and -0.5 <= y + dy < 2.5
            assert visible[y, x] == inside
            if inside:
                assert warped[y, x] == labels[int(np.floor(y + dy + 0.5)), int(np.floor(x + dx + 0.5))]

    def test_bad_shapes_are_refused(self) -> None:
        labels = ids([[0, 1]])
        with pytest.raises(ValueError, match=r"flow has shape \(1, 2\)"):
            warp_labels(labels, np.zeros((1, 2)))
        with pytest.raises(ValueError, match="valid is float64"):
            warp_labels(labels, flow_of(0, 0, 1, 2), np.ones((1, 2)))


class TestTemporalConsistency:
    def test_a_prediction_that_moves_with_the_scene_is_consistent(self) -> None:
        consistency = TemporalConsistency(3)
        consistency.update(ids([[0, 1, 1, 2]]), ids([[0, 0, 1, 1]]), flow_of(1, 0, 1, 4))
        assert consistency.value() == 1.0

    def test_known_answer(self) -> None:
        consistency = TemporalConsistency(2)
        consistency.update(ids([[0, 0, 1, 1]]), ids([[0, 1, 1, 1]]), flow_of(0, 0, 1, 4))
        assert consistency.value() == pytest.approx((1 / 2 + 2 / 3) / 2)

    def test_occluded_pixels_are_masked(self) -> None:
        consistency = TemporalConsistency(2)
        valid = np.array([[True, False]])
        consistency.update(ids([[0, 0]]), ids([[0, 1]]), flow_of(0, 0, 1, 2), valid)
        assert consistency.value() == 1.0

    def test_an_unlabelled_point_that_is_seen_again_lost_its_label(self) -> None:
        consistency = TemporalConsistency(2)
        consistency.update(ids([[0, 0, IGNORE]]), ids([[0, IGNORE, 1]]), flow_of(0, 0, 1, 3))
        assert consistency.value() == 0.5

    @given(
        hnp.arrays(np.uint8, (3, 3, 4), elements=LABELS),
        hnp.arrays(np.float32, (2, 3, 4, 2), elements=st.floats(-3, 3, width=32)),
        hnp.arrays(np.bool_, (2, 3, 4)),
    )
    def test_agrees_with_pixels_followed_one_by_one(
        self, predictions: np.ndarray, flows: np.ndarray, valid: np.ndarray
    ) -> None:
        consistency = TemporalConsistency(CLASSES)
        pairs: list[tuple[int, int]] = []  # class here, class where the flow leads, over both pairs of frames
        for t in range(2):
            consistency.update(predictions[t], predictions[t + 1], flows[t], valid[t])
            for y, x in np.ndindex(3, 4):
                to_x, to_y = (int(np.floor(np.float64(p) + float(d) + 0.5)) for p, d in zip((x, y), flows[t, y, x]))
                if valid[t, y, x] and 0 <= to_x < 4 and 0 <= to_y < 3 and predictions[t, y, x] != IGNORE:
                    pairs.append((int(predictions[t, y, x]), int(predictions[t + 1, to_y, to_x])))
        by_class = []
        for class_id in {here for here, _ in pairs}:
            both = sum(here == there == class_id for here, there in pairs)
            either = sum(class_id in pair for pair in pairs)
            by_class.append(both / either)
        np.testing.assert_allclose(consistency.value(), np.mean(by_class) if by_class else np.nan)

    def test_nothing_visible_is_nan(self) -> None:
        consistency = TemporalConsistency(2)
        consistency.update(ids([[0, 0]]), ids([[0, 1]]), flow_of(50, 0, 1, 2))
        assert np.isnan(consistency.value())
