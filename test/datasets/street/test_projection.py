"""A hand-made world whose pixels and flow can be worked out on paper."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from sdcpc_ros.datasets.street.projection import SKY, PinholeCamera
from sdcpc_ros.datasets.street.textures import Texture
from sdcpc_ros.datasets.street.weather import Weather
from sdcpc_ros.datasets.street.world import LABEL, EgoMotion, Motion, SurfaceTable, Thing, World, straight, swing

SIZE = (64, 100)
FOCAL = 90.0  # 0.9 of the width
CENTRE = (49.5, 28.3)  # (width - 1) / 2, 0.45 height - 0.5


class Steady(EgoMotion):
    """A camera at y = 1 that looks straight ahead and glides along z."""

    def __init__(self, speed: float) -> None:
        self.speed, self.height = speed, 1.0

    def position(self, time_s: float) -> np.ndarray:
        return np.array([0.0, self.height, self.speed * time_s])

    def rotation(self, time_s: float) -> np.ndarray:
        return np.diag([1.0, -1.0, 1.0])


@pytest.fixture
def world() -> World:
    """Nothing but a sky, which fills any image."""
    world = World(Weather(np.random.default_rng(0)))
    Thing(world, "sky").add((-2000, 2000, 900), (4000, 0, 0), (0, -4000, 0), plain(), at_infinity=True)
    return world


def plain(alpha: np.ndarray | None = None) -> Texture:
    return Texture(np.full((8, 8, 3), 128, np.uint8), alpha)


def add_panel(
    world: World,
    x: float,
    y: float,
    z: float,
    width: float,
    height: float,
    *,
    motion: Motion | None = None,
    texture: Texture | None = None,
    **options: object,
) -> int:
    """An upright panel that faces the camera, its top left corner at (x, y, z); returns its index."""
    Thing(world, "car", motion).add_upright((x, y, z), (width, height), texture or plain(), **options)
    return len(world.surfaces) - 1


def table_of(world: World) -> SurfaceTable:
    return SurfaceTable(world.surfaces)


def test_a_panel_covers_the_pixels_whose_centres_it_covers(world: World) -> None:
    panel = add_panel(world, x=-1, y=1.5, z=10, width=2, height=1)
    view = PinholeCamera(SIZE, Steady(0)).rasterise(table_of(world), 0.0)
    x, y = np.meshgrid(np.arange(SIZE[1]), np.arange(SIZE[0]))
    expected = (np.abs(x - CENTRE[0]) <= FOCAL / 10) & (np.abs(y - CENTRE[1]) <= 0.5 * FOCAL / 10)
    np.testing.assert_array_equal(view.surface == panel, expected)
    assert (view.surface[~expected] == SKY).all()
    np.testing.assert_allclose(view.inverse_depth[expected], 0.1, rtol=1e-5)


def test_the_nearer_panel_hides_the_farther_in_any_order(world: World) -> None:
    near = add_panel(world, x=-0.5, y=1.4, z=5, width=1, height=0.8)
    far = add_panel(world, x=-2, y=2, z=9, width=4, height=2)
    table = table_of(world)
    view = PinholeCamera(SIZE, Steady(0)).rasterise(table, 0.0)
    assert view.surface[28, 50] == near and view.surface[28, 62] == far
    swapped = SurfaceTable([world.surfaces[i] for i in (0, 2, 1)])
    np.testing.assert_array_equal(
        PinholeCamera(SIZE, Steady(0)).rasterise(swapped, 0.0).surface, np.array([0, 2, 1])[view.surface]
    )


def test_holes_in_a_texture_show_what_lies_behind(world: World) -> None:
    alpha = np.zeros((8, 8), np.uint8)
    alpha[:, :4] = 255
    panel = add_panel(world, x=-1, y=1.5, z=10, width=2, height=1, texture=plain(alpha))
    view = PinholeCamera(SIZE, Steady(0)).rasterise(table_of(world), 0.0)
    assert view.surface[28, 44] == panel and view.surface[28, 55] == SKY


def test_a_surface_is_seen_from_its_front_alone_unless_two_sided(world: World) -> None:
    Thing(world, "car").add((1, 1.5, 10), (-2, 0, 0), (0, -1, 0), plain())
    Thing(world, "car").add((3.5, 1.5, 10), (-2, 0, 0), (0, -1, 0), plain(), two_sided=True)
    camera = PinholeCamera((64, 400), Steady(0))  # wide enough for both
    seen = np.unique(camera.rasterise(table_of(world), 0.0).surface)
    np.testing.assert_array_equal(seen, [SKY, 2])


def test_ground_that_reaches_behind_the_camera_fills_the_foreground(world: World) -> None:
    Thing(world, "road").add((-50, 0, 150), (100, 0, 0), (0, 0, -200), plain())
    view = PinholeCamera(SIZE, Steady(0)).rasterise(table_of(world), 0.0)
    assert (view.surface[30:] == 1).all() and (view.surface[:28] == SKY).all()
    rows = np.arange(30, SIZE[0])
    np.testing.assert_allclose(view.inverse_depth[30:, 7], (rows - CENTRE[1]) / FOCAL, rtol=1e-4)  # y / f = 1 m / z


def test_flow_of_a_moving_panel_seen_from_a_moving_camera(world: World) -> None:
    panel = add_panel(world, x=-1, y=2, z=10, width=2, height=1, motion=straight(0.6, 0.3, -1.0))
    camera, table = PinholeCamera(SIZE, Steady(speed=2.0)), table_of(world)
    now, following = camera.rasterise(table, 0.0), camera.rasterise(table, 0.5)
    flow, valid = camera.flow(now, following)
    mine = now.surface == panel
    rows, columns = np.nonzero(mine)
    x, y = (columns - CENTRE[0]) * 10 / FOCAL, (rows - CENTRE[1]) * 10 / FOCAL  # metres off the axis
    depth = 10 - 0.5 - 1.0
    expected = np.stack([(x + 0.3) / depth - x / 10, (y - 0.15) / depth - y / 10], axis=-1) * FOCAL
    np.testing.assert_allclose(flow[mine], expected, atol=2e-4)
    assert valid[mine].all()
    np.testing.assert_allclose(flow[~mine], 0, atol=1e-3)  # the sky stays where it is


def test_flow_is_not_valid_where_something_comes_in_front_or_the_image_ends(world: World) -> None:
    add_panel(world, x=-1.0, y=1.5, z=5, width=1, height=1, motion=straight(1.0, 0.0, 0.0))
    back = add_panel(world, x=-9, y=2, z=10, width=20, height=2, motion=straight(0.5, 0.0, 0.0))
    camera, table = PinholeCamera(SIZE, Steady(0)), table_of(world)
    now, following = camera.rasterise(table, 0.0), camera.rasterise(table, 1.0)
    _, valid = camera.flow(now, following)
    row = now.surface[28] == back
    covered = (following.surface[28] != back)[np.clip(np.arange(100) + 4, 0, 99)]  # 0.5 m at 10 m is 4.5 px
    assert valid[28, 5:25].all()
    assert not valid[28, 97:].any()  # leaves the image
    assert not valid[28][row & covered & np.roll(covered, -1)].any()
    assert (row & covered)[:97].any()


def test_a_swing_moves_the_lower_end_only(world: World) -> None:
    leg = add_panel(world, x=-1, y=2, z=10, width=2, height=1, swing=partial(swing, (0.4, 0.0, 0.0), 0.5, 0.0))
    bases = table_of(world).bases(0.5)
    np.testing.assert_allclose(bases[leg].T, [[2, 0, 0], [0.4, -1, 0], [-1, 2, 10]], atol=1e-12)


def test_far_and_tiny_things_are_left_out(world: World) -> None:
    for z in (20.0, 60.0, 250.0):
        add_panel(world, x=-0.2, y=1.2, z=z, width=0.4, height=0.4)
    placed = PinholeCamera((640, 960), Steady(0)).place(table_of(world), 0.0)
    assert sorted(placed.in_sight) == [SKY, 1]


def test_labels_are_camvids() -> None:
    assert LABEL["sky"] == 0 and LABEL["bicyclist"] == 10 and len(LABEL) == 11
