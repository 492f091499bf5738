"""Augmentation: what is neutral changes nothing, values stay in range, and an image does not depend on the others."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sdcpc_ros.labels.label_set import IGNORE
from sdcpc_ros.training import augmentation

N, SIZE = 3, (48, 64)
ONES, NONE = torch.ones(N), torch.zeros(N)
IDENTITY = torch.eye(2, 3).repeat(N, 1, 1)
NO_BOXES, KINDS = torch.zeros(N, 2, 4), torch.tensor([[0, 1], [2, 3], [3, 0]])
BOXES = torch.tensor([[-0.5, -0.5, 0.5, 0.5], [0, 0, 1, 1]]).repeat(N, 1, 1)


def _images(seed: int = 0) -> torch.Tensor:
    """Smooth ones with sharp edges, as photographs have, (N, 3, 48, 64) float32."""
    generator = torch.Generator().manual_seed(seed)
    smooth = F.interpolate(torch.rand(N, 3, 6, 8, generator=generator), SIZE, mode="bicubic").clamp(0, 1) * 255
    smooth[:, :, 10:30, 20:28] = torch.rand(N, 3, 1, 1, generator=generator) * 255
    return smooth.round()


def _noise() -> torch.Tensor:
    return torch.randn(N, 3, *SIZE, generator=torch.Generator().manual_seed(1))


#: Function -> its arguments where it does something, each image's of its own, and those where it does nothing.
STRONG = {
    "colour": (
        torch.tensor([0.5, 1.0, 2.0]),
        torch.tensor([0.7, 1.5, 1.2]),
        torch.tensor([-0.2, 0.3, 0.1]),
        torch.tensor([0.2, 1.5, 2.0]),
        torch.tensor([[0.8, 1.0, 1.3], [1.2, 1.2, 1.0], [0.5, 1.0, 1.0]]),
    ),
    "blur": (torch.tensor([0.4, 1.0, 3.0]),),
    "jpeg": (torch.tensor([10.0, 40.0, 90.0]),),
    "shadow": (torch.tensor([[1.0, 0, 0], [0, 1, 0.2], [0.7, 0.7, -0.2]]), torch.tensor([0.3, 0.6, 1.0])),
    "haze": (torch.tensor([0.2, 0.5, 1.0]), torch.tensor([140.0, 200, 255])),
    "damage": (BOXES, KINDS, _noise()),
}
NEUTRAL = {
    "colour": (ONES, ONES, NONE, ONES, torch.ones(N, 3)),
    "blur": (NONE,),
    "shadow": (STRONG["shadow"][0], NONE),
    "haze": (NONE, STRONG["haze"][1]),
    "damage": (NO_BOXES, KINDS, _noise()),
}


@pytest.mark.parametrize("name", NEUTRAL)
def test_neutral_parameters_change_nothing(name):
    torch.testing.assert_close(getattr(augmentation, name)(_images(), *NEUTRAL[name]), _images(), atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", STRONG)
def test_values_stay_in_range_and_images_change(name):
    for images in (_images(), torch.zeros(N, 3, *SIZE), torch.full((N, 3, *SIZE), 255.0), (_noise() > 0) * 255.0):
        changed = getattr(augmentation, name)(images, *STRONG[name])
        assert changed.shape == images.shape and changed.dtype == torch.float32
        assert changed.min() >= -1e-3 and changed.max() <= 255 + 1e-3
    changed = getattr(augmentation, name)(_images(), *STRONG[name])
    assert ((changed - _images()).abs().amax((1, 2, 3)) > 1).all()


@pytest.mark.parametrize("name", STRONG)
def test_an_image_depends_on_its_own_parameters_alone(name):
    together = getattr(augmentation, name)(_images(), *STRONG[name])
    for i in range(N):
        alone = getattr(augmentation, name)(_images()[i : i + 1], *(values[i : i + 1] for values in STRONG[name]))
        torch.testing.assert_close(together[i : i + 1], alone, atol=1e-3, rtol=0)


def test_the_input_is_left_as_it_was():
    for name, arguments in STRONG.items():
        images = _images()
        getattr(augmentation, name)(images, *arguments)
        assert torch.equal(images, _images()), name


def test_the_identity_warps_to_the_same():
    images = _images().byte()
    torch.testing.assert_close(augmentation.warp(images, IDENTITY, SIZE), images.float(), atol=1e-2, rtol=0)
    labels = torch.randint(0, 11, (N, *SIZE), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    labels[0, :5] = IGNORE
    assert torch.equal(augmentation.warp_labels(labels, IDENTITY, SIZE), labels.long())


def test_labels_follow_the_image_and_what_comes_in_is_void():
    """A shift by a quarter of the width, and its mirror image."""
    columns = torch.arange(64, dtype=torch.uint8).expand(1, 48, 64)
    images = (columns * 2)[:, None].expand(-1, 3, -1, -1)
    for flip in (1.0, -1.0):
        matrices = torch.tensor([[[flip, 0, 0.5], [0, 1, 0]]])  # half of the range -1..1, which is the whole width
        seen = augmentation.warp(images, matrices, SIZE)[0, 0]
        labels = augmentation.warp_labels(columns % 11, matrices, SIZE)[0]
        known = labels != IGNORE
        assert known.float().mean() == 0.75
        torch.testing.assert_close((seen[known] / 2).round().long() % 11, labels[known])


def test_a_crop_beyond_the_frame_is_void():
    labels = torch.zeros(1, 60, 80, dtype=torch.uint8)
    found = augmentation.warp_labels(labels, torch.eye(2, 3)[None] * 2, (120, 160))
    assert (found == IGNORE).sum() == 120 * 160 - 60 * 80 and (found == 0).sum() == 60 * 80


@pytest.mark.parametrize("quality", [20, 50, 80, 95])
def test_jpeg_errs_as_much_as_a_coder(quality):
    images = _images()
    ours = augmentation.jpeg(images, torch.full((N,), float(quality)))
    coded = []
    for image in images.permute(0, 2, 3, 1).numpy().astype(np.uint8):
        _, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
        coded.append(cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1].copy())
    theirs = torch.from_numpy(np.stack(coded)).permute(0, 3, 1, 2).float()
    size = [(other - images).square().mean().sqrt().item() for other in (ours, theirs)]
    assert size[0] == pytest.approx(size[1], rel=0.25)
    # Independent errors would be 1.4 times as far apart as each is large.
    assert (ours - theirs).square().mean().sqrt() < size[1]


def test_damage_stays_in_its_boxes():
    changed = augmentation.damage(_images(), BOXES[:, :1], KINDS[:, :1], _noise())
    outside = torch.ones(SIZE, dtype=torch.bool)
    outside[11:37, 15:49] = False
    assert torch.equal(changed[:, :, outside], _images()[:, :, outside])
    assert not torch.equal(changed, _images())


def test_a_shadow_and_haze_are_where_they_should_be():
    white = torch.full((1, 3, *SIZE), 200.0)
    right = augmentation.shadow(white, torch.tensor([[1.0, 0, 0]]), torch.tensor([0.5]))[0, 0]
    assert right[:, -1].allclose(torch.tensor(100.0), atol=1e-2)
    assert right[:, 0].allclose(torch.tensor(200.0), atol=1e-2)
    foggy = augmentation.haze(white * 0, torch.tensor([0.5]), torch.tensor([200.0]))[0, 0, :, 0]
    assert foggy.argmax().item() in range(18, 24) and foggy[-1] < foggy[0]  # the horizon is above the middle
