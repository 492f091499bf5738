from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdcpc_ros.evaluation import bootstrap
from sdcpc_ros.evaluation.bootstrap import block_length, resampled_sums


def autoregressive(count: int, memory: float, seed: int) -> np.ndarray:
    """A series each of whose values keeps a share of the one before; mean 0."""
    noise = np.random.default_rng(seed).standard_normal(count + 200)
    series = np.zeros(len(noise))
    for at in range(1, len(noise)):
        series[at] = memory * series[at - 1] + noise[at]
    return series[200:]


def slowly(columns: np.ndarray, block: int, replicates: int, seed: int) -> np.ndarray:
    """The same draws, frame by frame."""
    frames = len(columns)
    runs = -(-frames // block)
    starts = np.random.default_rng(seed).integers(0, frames, (replicates, runs))
    sums = []
    for row in starts:
        drawn = [(start + step) % frames for start in row for step in range(block)][:frames]
        sums.append(columns[drawn].sum(axis=0))
    return np.array(sums)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 5))
def test_sums_are_those_of_the_frames_drawn(frames, block, seed):
    block = min(block, frames)
    columns = np.random.default_rng(seed).integers(0, 1000, (frames, 3)).astype(float)
    fast = resampled_sums(columns, block=block, replicates=7, seed=seed)
    np.testing.assert_array_equal(fast, slowly(columns, block, 7, seed))


def test_drawing_in_pieces_changes_nothing(monkeypatch):
    columns = np.random.default_rng(0).random((50, 2))
    whole = resampled_sums(columns, block=7, replicates=300, seed=1)
    monkeypatch.setattr(bootstrap, "CHUNK_BYTES", 8 * 50 * 13)
    np.testing.assert_allclose(resampled_sums(columns, block=7, replicates=300, seed=1), whole)


@pytest.mark.parametrize("block", [0, 11])
def test_a_block_that_does_not_fit_is_refused(block):
    with pytest.raises(ValueError, match=f"blocks of {block} frames cannot be drawn from 10"):
        resampled_sums(np.ones((10, 1)), block=block, replicates=100, seed=0)


@pytest.mark.parametrize("memory", [0.3, 0.6, 0.8])
def test_block_lengths_are_those_of_the_theory(memory):
    """For an autoregressive series the best length is known: (1.5 (2 m / (1 - m^2))^2 n)^(1/3)."""
    count = 5000
    best = (1.5 * (2 * memory / (1 - memory**2)) ** 2 * count) ** (1 / 3)
    found = [block_length(autoregressive(count, memory, seed)) for seed in range(10)]
    assert 0.7 * best < np.median(found) < 1.4 * best


def test_noise_needs_no_blocks_to_speak_of():
    assert np.median([block_length(autoregressive(1000, 0.0, seed)) for seed in range(20)]) <= 4


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=60))
def test_block_lengths_are_possible_for_any_series(values):
    assert 1 <= block_length(np.array(values)) <= max(1, len(values) // 3)


def test_intervals_hold_the_truth_as_often_as_they_say():
    """The mean of a series that remembers: 90 % intervals hold the true mean about nine times in ten, and intervals
    that draw frame by frame clearly fail to."""

    def held(block: int | None) -> float:
        hits = 0
        for seed in range(150):
            series = autoregressive(400, 0.7, seed)
            length = block_length(series) if block is None else block
            means = resampled_sums(series[:, None], block=length, replicates=300, seed=seed)[:, 0] / 400
            low, high = np.quantile(means, (0.05, 0.95))
            hits += low <= 0 <= high
        return hits / 150

    assert 0.78 < held(None) < 0.97
    assert held(1) < 0.65
