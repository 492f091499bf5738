from __future__ import annotations

import base64

import cv2
import numpy as np

from sdcpc_ros.evaluation.pages.frame_pictures import difference, flicker_map, frame_values
from sdcpc_ros.labels.label_set import IGNORE


def test_pictures_survive_their_addresses(make_report):
    report, pictures = make_report(frames=3)
    camera = frame_values(report, pictures.worst)[0]["views"][0]["picture"]
    kind, _, data = camera["uri"].partition(";base64,")
    assert kind == "data:image/jpeg"
    decoded = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    expected = pictures.worst.frames[0].image
    assert decoded.shape == expected.shape == (camera["height"], camera["width"], 3)
    assert np.abs(decoded.astype(int) - expected).max() <= 4


def test_only_wrong_pixels_are_coloured():
    image = np.full((4, 6, 3), 100, np.uint8)
    truth, labels = np.zeros((4, 6), np.uint8), np.zeros((4, 6), np.uint8)
    labels[:, 0], truth[:, 5] = 1, IGNORE
    drawn = difference(image, labels, truth).astype(int)
    colourful = np.ptp(drawn, axis=2) > 30
    assert colourful[:, 0].all() and not colourful[:, 1:].any()
    assert (drawn[:, 5] < drawn[:, 3]).all()


def test_the_map_shows_even_a_thin_line_of_flicker():
    rate = np.zeros((600, 800), np.float32)
    rate[:, 400] = 0.5
    rate[0] = np.nan
    drawn = flicker_map(rate, np.full((30, 40, 3), 120, np.uint8), 200).astype(int)
    assert drawn.shape == (150, 200, 3)
    colourful = np.ptp(drawn, axis=2) > 60
    assert colourful[5:, 99:101].any(axis=1).all() and not colourful[:, :90].any()


def test_a_small_map_is_not_enlarged():
    assert flicker_map(np.zeros((10, 12), np.float32), np.zeros((5, 6, 3), np.uint8), 760).shape == (10, 12, 3)
