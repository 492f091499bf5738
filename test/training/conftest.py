"""A CamVid tree small enough to train on in a test."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

RECIPE = {
    "network": {"encoder": "resnet18", "base_width": 8, "embed_dim": 16, "key_dim": 8},
    "seed": 3,
    "batch_size": 2,
    "crop_size": [48, 64],
    "input_size": [64, 96],
    "street_towns": 1,
    "street_frames": 4,
    "learning_rate": 1e-3,
    "weight_decay": 0.01,
    "warmup_steps": 2,
    "ema_decay": 0.9,
    "class_balance": 0.5,
    "auxiliary_weight": 0.5,
    "consistency_weight": 1.0,
    "encoder_rate": 0.5,
    "scale_range": [0.8, 1.3],
    "phases": [
        {"steps": 3, "references": 0, "street_share": 0.0},
        {"steps": 3, "references": 2, "street_share": 0.5},
    ],
}


@pytest.fixture
def camvid_root(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for folder in ("images", "labels"):
        (tmp_path / "camvid" / "train" / folder).mkdir(parents=True)
    for frame in range(3):
        labels = np.repeat(np.repeat(rng.integers(0, 12, (4, 6), dtype=np.uint8), 16, 0), 16, 1)
        image = np.stack([labels * 20, 255 - labels * 20, labels * 7], -1).astype(np.uint8)
        name = f"0001TP_{6690 + 30 * frame:06d}.png"
        cv2.imwrite(str(tmp_path / "camvid" / "train" / "images" / name), image)
        cv2.imwrite(str(tmp_path / "camvid" / "train" / "labels" / name), labels)
    return tmp_path / "camvid"


@pytest.fixture
def write_recipe(tmp_path: Path):
    def write(**changes) -> Path:
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump({**RECIPE, **changes}))
        return path

    return write
