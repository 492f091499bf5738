"""The store of frames: the same frames whether they stay on the device or are decoded when they are asked for."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from sdcpc_ros.datasets.video_dataset import DatasetError, VideoDataset, VideoFrame
from sdcpc_ros.labels.label_set import CAMVID_11, IGNORE
from sdcpc_ros.training.clips import FrameStore
from sdcpc_ros.training.sources import render_drive

SIZE, CPU = (48, 64), torch.device("cpu")


class Film(VideoDataset):
    """Ten noisy frames, every second one labelled, that are one thread's to read, as open files are."""

    def __init__(self, sizes=(SIZE,), label_size=None) -> None:
        self.sizes, self.label_size, self.read = sizes, label_size, 0
        self.reader: int | None = None
        sources = [(f"image {i}", f"labels {i}") for i in range(10)]
        frames = [VideoFrame("a", float(i), f"{i}", i % 2 == 0, *sources[i]) for i in range(10)]
        super().__init__("film", CAMVID_11, frames)

    def image(self, index):
        self.read += 1
        self.reader = self.reader or threading.get_ident()
        assert self.reader == threading.get_ident()
        size = self.sizes[index % len(self.sizes)]
        return np.random.default_rng(index).integers(0, 256, (*size, 3), dtype=np.uint8)

    def labels(self, index):
        size = self.label_size or self.sizes[index % len(self.sizes)]
        return np.random.default_rng(index).integers(0, 11, size, dtype=np.uint8)


@pytest.fixture(scope="module")
def town():
    return render_drive(1000, frames=3, size=SIZE)


@pytest.fixture
def make(town):
    def store(film, *, resident, used=range(10), towns=(town,), workers=3):
        return FrameStore(film, list(used), towns, SIZE, CPU, workers, resident_bytes=1 << 30 if resident else 0)

    return store


def test_frames_are_the_same_wherever_they_are_kept(make, town):
    resident, decoded = (make(Film(), resident=where) for where in (True, False))
    numbers = [3, 0, 11, 3, 9, 12, 8, 1, 2, 4]  # the data set has ten, the town three more
    assert torch.equal(resident.read(numbers)[0], decoded.read(numbers)[0])
    assert torch.equal(resident.read(numbers)[1], decoded.read(numbers)[1])
    images, labels = resident.read(numbers)
    assert images.shape == (10, 3, *SIZE) and labels.shape == (10, *SIZE)
    assert images.dtype == labels.dtype == torch.uint8
    film = Film()
    assert torch.equal(images[1].permute(1, 2, 0), torch.from_numpy(film.image(0)))
    assert torch.equal(labels[1], torch.from_numpy(film.labels(0)))
    assert torch.equal(images[2].permute(1, 2, 0), torch.from_numpy(town[0][1]))
    assert torch.equal(labels[2], torch.from_numpy(town[1][1]))
    assert (labels[0] == IGNORE).all()  # frame 3 has no labels


def test_resident_frames_are_decoded_once_and_only_those_that_are_used(make):
    film = Film()
    store = make(film, resident=True, used=[2, 4])
    for _ in range(3):
        store.read([4, 2, 10])
    assert film.read == 2
    assert torch.equal(store.read([4])[0][0].permute(1, 2, 0), torch.from_numpy(Film().image(4)))


def test_nothing_is_read_ahead_of_data_that_do_not_fit(make):
    film = Film()
    make(film, resident=False)
    assert film.read == 0


def test_data_alone_and_towns_alone(make, town):
    for resident in (True, False):
        assert make(Film(), resident=resident, towns=()).read([1, 2])[0].shape == (2, 3, *SIZE)
        assert torch.equal(
            make(Film(), resident=resident).read([10, 12])[0][1].permute(1, 2, 0), torch.from_numpy(town[0][2])
        )


def test_frames_of_another_size_are_resized(make):
    for resident in (True, False):
        store = make(Film(sizes=(SIZE, (96, 128))), resident=resident)
        assert store.read([0, 1])[0].shape == (2, 3, *SIZE) and store.read([0, 1])[1].shape == (2, *SIZE)
        assert 90 < store.read([1])[0].float().mean() < 170
    store = make(Film(sizes=((96, 128),)), resident=True)
    assert set(store.read([0, 2])[1].unique().tolist()) <= set(range(11))


@pytest.mark.parametrize("resident", [True, False])
def test_labels_of_another_size_than_their_image_are_refused(make, resident):
    with pytest.raises(DatasetError, match="labels 0 is 32x24 but image 0 is 64x48"):
        make(Film(label_size=(24, 32)), resident=resident).read([0])
