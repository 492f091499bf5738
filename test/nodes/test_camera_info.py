"""CameraInfo that is scaled with the mask, checked by projecting points."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("sensor_msgs", reason="no ROS 2 in this environment")

from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from sdcpc_ros.nodes.camera_info import camera_info_fault, scale_camera_info


def make_info() -> CameraInfo:
    info = CameraInfo(height=480, width=640, distortion_model="plumb_bob", d=[0.1, -0.2, 0.0, 0.0, 0.05], binning_x=1)
    info.k = [500.0, 0.0, 321.5, 0.0, 510.0, 238.0, 0.0, 0.0, 1.0]
    info.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    info.p = [490.0, 0.0, 320.0, -49.0, 0.0, 495.0, 240.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    return info


def pixel(info: CameraInfo, matrix: str, point: tuple[float, float, float]) -> tuple[float, float]:
    """Where a point falls in the image, as image_geometry projects it with K or P, region of interest and binning."""
    adjusted, homogeneous = np.reshape(getattr(info, matrix), (3, -1)), (*point, 1)
    u, v, w = adjusted @ homogeneous[: adjusted.shape[1]]
    return (u / w - info.roi.x_offset) / max(info.binning_x, 1), (v / w - info.roi.y_offset) / max(info.binning_y, 1)


@pytest.mark.parametrize("roi", [(0, 0, 0, 0), (64, 48, 320, 240), (0, 0, 640, 480)])
@pytest.mark.parametrize("binning", [(0, 0), (2, 2), (1, 4)])
def test_a_mask_of_the_images_size_has_the_cameras_info(roi, binning):
    """The region of interest and the binning make the image smaller than the sensor."""
    info = make_info()
    info.binning_x, info.binning_y = binning
    info.roi.x_offset, info.roi.y_offset, info.roi.width, info.roi.height = roi
    size = ((roi[3] or 480) // max(binning[1], 1), (roi[2] or 640) // max(binning[0], 1))
    assert scale_camera_info(info, info.header, size) == info
    halved = scale_camera_info(info, info.header, (size[0] // 2, size[1] // 2))
    for matrix in ("k", "p"):
        for was, now in zip(pixel(info, matrix, (0.3, -0.2, 2.0)), pixel(halved, matrix, (0.3, -0.2, 2.0))):
            assert now == pytest.approx(was / 2, abs=0.26)  # of a pixel: the centre of the first one moves


@given(
    size=st.tuples(st.integers(60, 960), st.integers(80, 1280)),
    point=st.tuples(st.floats(-2, 2), st.floats(-2, 2), st.floats(1, 20)),
)
def test_a_point_falls_on_the_same_place_of_the_scene(size, point):
    info, header = make_info(), Header(frame_id="eye")
    scaled = scale_camera_info(info, header, size)
    assert scaled.header is header and (scaled.height, scaled.width) == size
    for matrix, columns, homogeneous in (("k", 3, point), ("p", 4, (*point, 1))):
        u, v, w = np.reshape(getattr(info, matrix), (3, columns)) @ homogeneous
        su, sv, sw = np.reshape(getattr(scaled, matrix), (3, columns)) @ homogeneous
        # Measured from the image's corner, half a pixel before the first pixel's centre, all lengths scale alike.
        assert (su / sw + 0.5) / size[1] == pytest.approx((u / w + 0.5) / 640, abs=1e-9)
        assert (sv / sw + 0.5) / size[0] == pytest.approx((v / w + 0.5) / 480, abs=1e-9)


def test_what_does_not_depend_on_the_size_stays():
    info = make_info()
    info.roi.x_offset, info.roi.y_offset, info.roi.width, info.roi.height = 64, 48, 320, 240
    scaled = scale_camera_info(info, Header(), (120, 160))
    assert (scaled.height, scaled.width) == (240, 320)
    assert list(scaled.d) == list(info.d) and list(scaled.r) == list(info.r)
    assert (scaled.distortion_model, scaled.binning_x, scaled.binning_y) == ("plumb_bob", 1, 0)
    roi = scaled.roi
    assert (roi.x_offset, roi.y_offset, roi.width, roi.height) == (32, 24, 160, 120)


@pytest.mark.parametrize("field", ["d", "k", "r", "p"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused(field, value):
    info = make_info()
    assert camera_info_fault(info) is None
    getattr(info, field)[1] = value
    assert camera_info_fault(info) == f"{field} of the CameraInfo holds a value that is not finite"


def test_a_camera_info_without_size_is_refused():
    assert "0 x 0" in camera_info_fault(CameraInfo())
