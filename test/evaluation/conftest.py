"""Reports as `evaluate_bag` makes them, of streams small enough to score for every test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sdcpc_ros.evaluation.pages.frame_pictures import ReportPictures
from sdcpc_ros.evaluation.report_file import REPORT_FORMAT
from sdcpc_ros.evaluation.scorer import Scorer
from sdcpc_ros.labels.label_set import CAMVID_11, LabelSet

SIZE = (24, 32)


def make_report(
    frames: int = 40,
    *,
    label_set: LabelSet = CAMVID_11,
    seed: int = 0,
    wrong: float = 0.2,
    truth: bool = True,
    name: str = "drive",
    resets: dict[int, str] | None = None,
) -> tuple[dict[str, Any], ReportPictures]:
    """A report and its pictures: bands of classes as the truth, labels wrong in a share of the pixels."""
    random = np.random.default_rng(seed)
    scores = Scorer(label_set)
    pictures = ReportPictures(apart=5)
    bands = np.repeat(np.arange(SIZE[0])[:, None] * len(label_set) // SIZE[0], SIZE[1], axis=1).astype(np.uint8)
    image = np.repeat(bands[..., None] * 2, 3, axis=2)
    for number in range(frames):
        error = random.random(SIZE) < wrong
        labels = np.where(error, random.integers(0, len(label_set), SIZE), bands).astype(np.uint8)
        scores.update(
            *(labels, bands if truth else None, np.full(SIZE, 200, np.uint8)),
            **{"number": number, "stamp_ns": 10**18 + number * 66_666_667, "references": min(number, 2)},
            reset=(resets or {}).get(number),
        )
        value = scores.log.miou[-1] if truth else scores.log.confidence[-1]
        pictures.add(value, number, image, labels, bands if truth else None)
    report = {
        "format": REPORT_FORMAT,
        "command": f"sdcpc evaluate-bag {name}",
        "bag": {
            "name": name,
            "path": f"bags/{name}",
            "camera": "/camera/image_raw",
            "camera_type": "sensor_msgs/msg/Image",
            "truth": "topic /camera/ground_truth" if truth else "none",
            "start_ns": 10**18,
            "duration_s": frames / 15,
            "images": frames,
            "unusable": 0,
            "topics": {"/camera/image_raw": ["sensor_msgs/msg/Image", frames]},
        },
        "model": {"name": "tiny", "sha256": "ab" * 32, "label_set": label_set.to_dict(), "model_size": [24, 32]},
        "settings": {
            **{"camera": None, "truth": None, "void": [], "start_s": 0.0, "duration_s": None, "max_gap_s": 1.0},
            **{"device": "cpu", "backend": "eager", "input_size": None},
        },
        "versions": {"sdcpc_ros": "0.1.0", "python": "3.11.2"},
        **scores.report(),
        "problems": [],
        "worst": [extreme.number for extreme in pictures.worst.frames],
        "best": [extreme.number for extreme in pictures.best.frames],
        "timing": {
            "finished": "2026-11-24T10:00:00Z",
            "ms_per_frame": {"p50": 30.0, "p95": 41.5, "max": 402.0},
            "frames_ms": [30.0 + number % 7 for number in range(frames)],
        },
    }
    pictures.flicker = scores.flicker.rate()
    return report, pictures


@pytest.fixture(name="make_report")
def make_report_fixture() -> Callable[..., tuple[dict[str, Any], ReportPictures]]:
    return make_report


@pytest.fixture
def pair() -> tuple[dict[str, Any], dict[str, Any]]:
    """A report, and one of a clearly worse model on the same frames."""
    return make_report(wrong=0.2, seed=1)[0], make_report(wrong=0.25, seed=2)[0]
