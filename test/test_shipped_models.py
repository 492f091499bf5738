"""What is shipped: every model loads, has its card, and labels video it was not trained on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sdcpc_ros import DEFAULT_MODEL
from sdcpc_ros.datasets.camvid import CamVid
from sdcpc_ros.datasets.synthetic_street import SyntheticStreet
from sdcpc_ros.datasets.video_dataset import VideoDataset
from sdcpc_ros.evaluation.metrics import ConfusionMatrix
from sdcpc_ros.evaluation.temporal_tests import run_temporal_tests, temporal_tests
from sdcpc_ros.labels.label_set import CAMVID_11
from sdcpc_ros.model_files.checkpoint import load_checkpoint, resolve_model
from sdcpc_ros.streaming.segmenter import StreamingSegmenter

pytestmark = pytest.mark.slow

MODELS = sorted((Path(__file__).parents[1] / "models").glob("*.safetensors"))


def _segmenter():
    return StreamingSegmenter(load_checkpoint(resolve_model(DEFAULT_MODEL)))


def _streaming_miou(model, frames):
    segmenter = StreamingSegmenter(load_checkpoint(model))
    confusion = ConfusionMatrix(len(segmenter.label_set))
    for index, (image, labels) in enumerate(frames):
        confusion.update(labels, segmenter.segment(image, index / 15).labels)
    return confusion.miou()


def test_the_default_model_is_shipped():
    assert DEFAULT_MODEL in {model.stem for model in MODELS}


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.stem)
def test_a_model_has_its_card_and_says_how_it_was_trained(model):
    card = model.with_suffix(".md").read_text()
    training = load_checkpoint(model).training
    assert "licence" in card and training["licence"]
    assert "sdcpc train" in card and training["command"].startswith("sdcpc train")
    assert "seed" in training["recipe"]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.stem)
def test_it_labels_a_street_it_has_never_seen(model):
    street = SyntheticStreet(seed=7, length=40)
    miou = _streaming_miou(model, (street[index] for index in range(0, 40, 5)))
    assert miou > 0.6  # 0.73 over whole streets; an untrained network has 0.02


class Streets(VideoDataset):
    """Streets 2 and 4, which no training saw, as two videos of one data set."""

    def __init__(self, length: int, rate_hz: float = 15.0) -> None:
        streets = [SyntheticStreet(seed=seed, length=length, rate_hz=rate_hz) for seed in (2, 4)]
        self.parts = [(street, index) for street in streets for index in range(length)]
        super().__init__("streets 2 and 4", CAMVID_11, [street.frames[index] for street, index in self.parts])

    def image(self, index):
        street, own = self.parts[index]
        return street.image(own)

    def labels(self, index):
        street, own = self.parts[index]
        return street.labels(own)


@pytest.mark.parametrize("rate_hz", [15.0, 5.0, 1.0])
def test_references_do_not_make_the_street_worse(rate_hz):
    """On drives that no training saw: mIoU of the stream is not below that of its frames by themselves."""
    (result,) = run_temporal_tests(_segmenter(), temporal_tests(Streets(8, rate_hz), every=(1,)))
    evaluation = result.evaluation
    assert evaluation.streaming.miou >= evaluation.single_frame.miou - 0.001
    assert evaluation.streaming.miou > 0.65


def test_references_do_not_make_the_first_frame_after_a_cut_worse():
    (result,) = run_temporal_tests(_segmenter(), temporal_tests(Streets(10), cuts=(2,)))
    evaluation = result.evaluation
    assert evaluation.streaming.miou >= evaluation.single_frame.miou - 0.001


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.stem)
def test_it_labels_real_video(model):
    root = Path(os.environ.get("SDCPC_CAMVID") or Path(__file__).parents[2] / "shared" / "camvid")
    if not (root / "val").is_dir():
        pytest.skip(f"no CamVid at {root}; set SDCPC_CAMVID to its folder")
    video = CamVid(root, "val")
    assert _streaming_miou(model, (video[index] for index in range(40, 60))) > 0.6
