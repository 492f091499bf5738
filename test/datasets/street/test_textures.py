from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sdcpc_ros.datasets.street import roadside
from sdcpc_ros.datasets.street.cars import Car
from sdcpc_ros.datasets.street.textures import MAX_LEVEL, Texture, bricks, noise


@given(st.integers(1, 90), st.integers(1, 90), st.integers(0, MAX_LEVEL), st.integers(0, MAX_LEVEL))
def test_levels_halve_each_axis_by_itself_and_keep_the_mean(height: int, width: int, across: int, down: int) -> None:
    rng = np.random.default_rng(height * 100 + width)
    picture = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    colour, alpha = Texture(picture, picture[..., 0]).level(across, down)
    assert colour.shape == (max(1, height >> down), max(1, width >> across), 3)
    assert alpha is not None and alpha.shape == colour.shape[:2]
    np.testing.assert_allclose(colour.mean(axis=(0, 1)), picture.mean(axis=(0, 1)), atol=1.0)


def test_noise_has_unit_size_and_no_trend() -> None:
    field = noise(np.random.default_rng(1), (300, 400), cell=12)
    assert field.shape == (300, 400) and field.dtype == np.float32
    assert abs(field.mean()) < 0.1 and 0.7 < field.std() < 1.4


def test_every_other_course_of_bricks_is_shifted() -> None:
    brightness = bricks(np.random.default_rng(1), (32, 2000), (110, 50, 40), (8, 20)).sum(axis=2)
    joints = [brightness[row].reshape(-1, 20).mean(axis=0).argmax() for row in (4, 12, 20, 28)]
    assert joints == [0, 10, 0, 10]


def test_a_dashed_line_and_yellow_edges_are_painted() -> None:
    road = roadside.road(np.random.default_rng(2), (16.0, 7.0), (90, 90, 90), edge_lines=2, dash_m=4.0).colour.astype(
        int
    )
    middle = road[:, road.shape[1] // 2].mean(axis=1)
    dash = int(4.0 * roadside.GROUND_SCALE)
    assert middle[:dash].mean() > 150 > 110 > middle[dash : 2 * dash].mean()
    edge = road[:, int(0.3 * roadside.GROUND_SCALE) + 1].mean(axis=0)
    assert edge[0] - edge[2] > 60  # yellow: much red, little blue


def test_a_tree_stands_on_its_foot_inside_its_picture() -> None:
    for winter in (False, True):
        texture = roadside.tree(np.random.default_rng(3), (78, 108, 46), winter=winter)
        assert texture.alpha is not None
        opaque = texture.alpha > 127
        assert opaque[-1].any() and set(np.flatnonzero(opaque[-1])) <= set(range(112, 145))
        assert 0.05 < opaque.mean() < 0.6
        assert opaque[:, 0].sum() == opaque[:, -1].sum() == 0


def test_sides_of_a_car_are_closed_below_the_belt_and_show_glass_above() -> None:
    car = Car(np.random.default_rng(4))
    lower, cabin = car.lower_side, car.cabin_side
    assert lower.alpha is not None and cabin.alpha is not None
    assert (lower.alpha[5, 30:330] == 255).all()  # in front of that the bonnet falls away
    glass = cabin.colour[cabin.colour.shape[0] // 2].mean(axis=1)
    assert ((glass > 40) & (glass < 90)).any()
