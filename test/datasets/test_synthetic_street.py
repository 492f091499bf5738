from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from copy import deepcopy
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdcpc_ros.datasets.street.projection import SKY
from sdcpc_ros.datasets.synthetic_street import SyntheticStreet
from sdcpc_ros.labels.label_set import CAMVID_11

pytestmark = pytest.mark.slow

SEED = 4


class Frame(NamedTuple):
    image: np.ndarray
    labels: np.ndarray
    flow: np.ndarray
    flow_valid: np.ndarray


def frame_of(street: SyntheticStreet, i: int) -> Frame:
    flow = street.flow(i)
    assert flow is not None
    return Frame(street.image(i), street.labels(i), *flow)


@pytest.fixture(scope="module")
def street() -> SyntheticStreet:
    return SyntheticStreet(seed=SEED, size=(180, 240), length=30)


@pytest.fixture(scope="module")
def frames(street: SyntheticStreet) -> list[Frame]:
    return [frame_of(street, i) for i in range(6)]


def digest(frame: Frame) -> str:
    parts = (frame.image, frame.labels, frame.flow, frame.flow_valid)
    return hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in parts)).hexdigest()


# --- the same bytes, however they are asked for -----------------------------------------------------------------


def test_random_access_gives_the_bytes_of_sequential_access(frames: list[Frame]) -> None:
    np.random.seed(99)  # a global state that must not matter
    other = SyntheticStreet(seed=SEED, size=(180, 240), length=30)
    for i in (5, 0, 3, 3, 1):
        assert digest(frame_of(other, i)) == digest(frames[i])


def test_image_and_labels_are_those_of_the_frame(street: SyntheticStreet, frames: list[Frame]) -> None:
    image, labels = street[2]
    np.testing.assert_array_equal(image, frames[2].image)
    np.testing.assert_array_equal(labels, frames[2].labels)


def test_another_process_draws_the_same_bytes(frames: list[Frame]) -> None:
    root = Path(__file__).parents[2]
    code = (
        "from test_synthetic_street import SyntheticStreet, digest, frame_of\n"
        f"print(digest(frame_of(SyntheticStreet(seed={SEED}, size=(180, 240), length=30), 4)))"
    )
    search = os.pathsep.join([str(root), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONHASHSEED": "123", "PYTHONPATH": search}
    output = subprocess.run(
        [sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True, timeout=120
    )
    assert output.stdout.strip() == digest(frames[4])


def test_seeds_make_different_towns() -> None:
    pictures = [SyntheticStreet(seed=seed, size=(60, 80), length=1)[0][0] for seed in range(3)]
    for first, second in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(pictures[first].astype(int) - pictures[second]).mean() > 10


# --- what a frame holds -----------------------------------------------------------------------------------------


def test_a_frame_is_what_it_says(frames: list[Frame]) -> None:
    for frame in frames:
        assert frame.image.shape == (180, 240, 3) and frame.image.dtype == np.uint8
        assert frame.labels.shape == (180, 240) and frame.labels.dtype == np.uint8
        assert frame.flow.shape == (180, 240, 2) and frame.flow.dtype == np.float32
        assert frame.flow_valid.shape == (180, 240) and frame.flow_valid.dtype == np.bool_
        assert frame.labels.max() < len(CAMVID_11)
        assert np.isfinite(frame.flow).all()
        assert 20 < frame.image.mean() < 235 and frame.image.std() > 20


def test_all_classes_occur_over_a_few_towns() -> None:
    counts = np.zeros(len(CAMVID_11), np.int64)
    for seed in range(5):
        street = SyntheticStreet(seed=seed, size=(120, 160), length=60)
        for i in (5, 30, 55):
            counts += np.bincount(street[i][1].ravel(), minlength=len(CAMVID_11))
    assert (counts / counts.sum() > 5e-4).all(), dict(zip(CAMVID_11.class_names, counts))


def test_the_road_lies_below_and_the_sky_above(frames: list[Frame]) -> None:
    labels = frames[0].labels
    road, sky = (np.flatnonzero((labels == CAMVID_11.class_names.index(name)).any(axis=1)) for name in ("road", "sky"))
    assert road.min() > 0.4 * labels.shape[0] and road.max() == labels.shape[0] - 1
    assert sky.max() < 0.5 * labels.shape[0]


def test_the_light_changes_along_the_drive() -> None:
    street = SyntheticStreet(seed=2, size=(60, 80), length=90)
    sky_means = []
    for i in range(0, 90, 15):
        image, labels = street[i]
        sky_means.append(image[labels == 0].mean(axis=0))
    assert np.ptp(np.array(sky_means), axis=0).max() > 4


# --- flow -------------------------------------------------------------------------------------------------------


def test_labels_go_where_the_flow_says(frames: list[Frame]) -> None:
    for now, following in pairwise(frames):
        height, width = now.labels.shape
        rows, columns = np.nonzero(now.flow_valid)
        target = now.flow[rows, columns] + np.stack([columns, rows], axis=-1)
        x, y = np.rint(target).astype(int).T
        assert x.min() >= 0 and y.min() >= 0 and x.max() < width and y.max() < height
        assert (now.labels[rows, columns] == following.labels[y, x]).mean() >= 0.995
        assert now.flow_valid.mean() > 0.6
        assert np.linalg.norm(now.flow[rows, columns], axis=1).max() > 3  # something moves


def test_flow_of_what_stands_still_follows_from_depth_and_camera_alone(street: SyntheticStreet) -> None:
    """The flow comes from homographies of surfaces; here each pixel is carried by its depth instead."""
    i = 3
    view, ego, matrix = street.view(i), street.scene.ego, street.camera.matrix
    frame, (height, width) = frame_of(street, i), street.size
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    rays = np.stack([x, y, np.ones_like(x)], axis=-1) @ np.linalg.inv(matrix).T
    times = i / street.rate_hz, (i + 1) / street.rate_hz
    world = (rays / view.inverse_depth[..., None]) @ ego.rotation(times[0]) + ego.position(times[0])
    moved = (world - ego.position(times[1])) @ ego.rotation(times[1]).T @ matrix.T
    expected = moved[..., :2] / moved[..., 2:] - np.stack([x, y], axis=-1)
    bases = [street.scene.surfaces.bases(time) for time in times]
    still = (bases[0] == bases[1]).all(axis=(1, 2)) & ~street.scene.surfaces.at_infinity
    compared = still[view.surface] & frame.flow_valid
    assert compared.mean() > 0.4
    np.testing.assert_allclose(frame.flow[compared], expected[compared], atol=5e-3)


def test_flow_of_the_sky_is_the_cameras_rotation(street: SyntheticStreet) -> None:
    i = 2
    frame, view, ego, matrix = frame_of(street, i), street.view(i), street.scene.ego, street.camera.matrix
    turn = ego.rotation((i + 1) / street.rate_hz) @ ego.rotation(i / street.rate_hz).T
    rows, columns = np.nonzero(view.surface == SKY)
    moved = np.stack([columns, rows, np.ones_like(rows)], axis=-1) @ (matrix @ turn @ np.linalg.inv(matrix)).T
    expected = moved[:, :2] / moved[:, 2:] - np.stack([columns, rows], axis=-1)
    assert len(rows) > 500
    np.testing.assert_allclose(frame.flow[rows, columns], expected, atol=2e-3)
    assert (frame.labels[rows, columns] == 0).all()


def test_the_next_image_warped_back_looks_like_this_one(frames: list[Frame]) -> None:
    now, following = frames[1], frames[2]
    height, width = now.labels.shape
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    warped = cv2.remap(following.image, x + now.flow[..., 0], y + now.flow[..., 1], cv2.INTER_LINEAR).astype(np.float32)
    light = now.image[now.flow_valid].mean(axis=0) / warped[now.flow_valid].mean(axis=0)  # exposure changes on the way

    def error(picture: np.ndarray) -> float:
        return float(np.abs(picture * light - now.image)[now.flow_valid].mean())

    assert error(warped) < 5.0
    assert error(warped) < 0.65 * error(following.image.astype(np.float32))


# --- sizes and mistakes -----------------------------------------------------------------------------------------


@settings(max_examples=8)
@given(
    seed=st.integers(0, 2**40),
    height=st.integers(32, 150),
    width=st.integers(32, 150),
    length=st.integers(1, 20),
    rate_hz=st.floats(1, 60),
)
def test_any_town_in_any_size(seed: int, height: int, width: int, length: int, rate_hz: float) -> None:
    street = SyntheticStreet(seed=seed, size=(height, width), length=length + 1, rate_hz=rate_hz)
    assert len(street) == length + 1
    frame = frame_of(street, length - 1)
    assert frame.image.shape == (height, width, 3)
    assert frame.labels.max() < len(CAMVID_11)
    assert np.isfinite(frame.flow).all()


@pytest.mark.parametrize("size", [(400, 32), (32, 400)])
def test_tall_and_wide_images(size: tuple[int, int]) -> None:
    frame = frame_of(SyntheticStreet(seed=0, size=size, length=2), 0)
    assert frame.image.shape == (*size, 3)


@pytest.mark.parametrize("i", [30, -1])
@pytest.mark.parametrize("part", ["image", "labels", "flow"])
def test_there_are_no_other_frames(street: SyntheticStreet, part: str, i: int) -> None:
    with pytest.raises(IndexError, match=f"frame {i} of a street of 30 frames"):
        getattr(street, part)(i)


def test_it_is_one_labelled_video() -> None:
    street = SyntheticStreet(seed=7, size=(48, 64), length=4, rate_hz=10)
    assert (street.name, street.label_set, street.names[1]) == (
        "synthetic street, seed 7",
        CAMVID_11,
        "street 7, frame 1",
    )
    assert street.runs == [range(4)] and street.labelled == [0, 1, 2, 3]
    assert street.rate_hz == pytest.approx(10)
    assert [street.flow(index) is None for index in range(4)] == [False, False, False, True]
    np.testing.assert_array_equal(street.image(2), deepcopy(street).image(2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -1}, "seed is -1"),
        ({"seed": 0, "size": (31, 480)}, "size is 31 x 480"),
        ({"seed": 0, "size": (360, 8)}, "at least 32 x 32"),
        ({"seed": 0, "length": 0}, "length is 0 frames"),
        ({"seed": 0, "rate_hz": 0.0}, "rate_hz is 0"),
        ({"seed": 0, "rate_hz": float("nan")}, "rate_hz is nan"),
    ],
)
def test_mistakes_are_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SyntheticStreet(**arguments)  # type: ignore[arg-type]
