"""A CamVid tree small enough to train on in a test, and a recipe for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml

from sdcpc_ros.training.recipe import Recipe, recipe_from

RECIPE: dict[str, Any] = {
    "network": {"encoder": "resnet_tiny", "embed_dim": 16, "key_dim": 16, "reference_offsets": [1, 2]},
    "phases": [
        {"steps": 3, "references": 0},
        {
            **{"steps": 3, "references": 2, "trains": "temporal", "street_share": 0.25, "filmed_share": 0.25},
            **{"cut_share": 0.25, "turn_share": 0.5, "disturbed_share": 0.5},
        },
    ],
    "crop_size": [48, 64],
    "input_size": [64, 96],
    "scale_range": [0.8, 1.3],
    "street_towns": 1,
    "street_frames": 4,
    "seed": 3,
    "batch_size": 4,
    "workers": 0,
    "encoder_rate": 0.5,
    "warmup_steps": 2,
    "ema_decay": 0.9,
    "class_balance": 0.5,
    "jaccard_weight": 0.5,
    "consistency_weight": 1.0,
    "prototypes": {"per_class": 2, "dimension": 8},
    "save_every": 2,
    "validation": {"every": 3},
}
#: Split -> video -> frames, a second apart.
FRAMES = {"train": {"0001TP": 4, "0006R0": 2}, "val": {"0016E5": 4}}


@pytest.fixture(scope="session")
def camvid_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Splits train, of two drives, and val: images whose colour is their class."""
    root, rng = tmp_path_factory.mktemp("data") / "camvid", np.random.default_rng(0)
    for split, videos in FRAMES.items():
        for folder in ("images", "labels"):
            (root / split / folder).mkdir(parents=True)
        for video, frame in [(video, frame) for video, frames in videos.items() for frame in range(frames)]:
            labels = np.repeat(np.repeat(rng.integers(0, 12, (4, 6), dtype=np.uint8), 16, 0), 16, 1)
            image = np.stack([labels * 20, 255 - labels * 20, labels * 7], -1).astype(np.uint8)
            name = f"{video}_{6690 + 30 * frame:06d}.png"
            cv2.imwrite(str(root / split / "images" / name), image)
            cv2.imwrite(str(root / split / "labels" / name), labels)
    return root


@pytest.fixture
def write_recipe(tmp_path: Path) -> Callable[..., Path]:
    def write(**changes: Any) -> Path:
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump({**RECIPE, **changes}))
        return path

    return write


@pytest.fixture(scope="session")
def base_recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "recipe.yaml"
    path.write_text(yaml.safe_dump(RECIPE))
    return path


@pytest.fixture(scope="session")
def make_recipe() -> Callable[..., Recipe]:
    return lambda **changes: recipe_from({**RECIPE, **changes})


@pytest.fixture
def one_thread():
    """Sums in another order differ in the last bit; equality needs one order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
