"""Batch norms folded into convolutions: the same numbers, and only where that is so."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sdcpc_ros.inference.folding import fold_batch_norms


def _random(norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    for parameter in (norm.weight, norm.bias, norm.running_mean):
        nn.init.normal_(parameter)
    nn.init.uniform_(norm.running_var, 0.5, 2)
    return norm


def _norms(model: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())


@torch.no_grad()
def test_a_folded_network_gives_the_same():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False), _random(nn.BatchNorm2d(4)), nn.ReLU(), nn.Conv2d(4, 4, 1, groups=2),
        _random(nn.BatchNorm2d(4)),
    ).eval()  # fmt: skip
    image = torch.randn(2, 3, 9, 9)
    expected = model(image)
    assert fold_batch_norms(model, lambda: model(image)) == 2
    assert _norms(model) == 0
    torch.testing.assert_close(model(image), expected)


@torch.no_grad()
def test_what_feeds_no_norm_or_many_stays():
    torch.manual_seed(0)

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.twice, self.norm = nn.Conv2d(3, 3, 1), _random(nn.BatchNorm2d(3))
            self.first = _random(nn.BatchNorm2d(3))  # of an image, not of a convolution
            self.activated, self.after = nn.Conv2d(3, 3, 1), _random(nn.BatchNorm2d(3))

        def forward(self, x):
            x = self.first(x)
            x = self.norm(self.twice(self.twice(x)))
            return self.after(self.activated(x).relu())

    model = Model().eval()
    image = torch.randn(1, 3, 5, 5)
    expected = model(image)
    assert fold_batch_norms(model, lambda: model(image)) == 0
    assert _norms(model) == 3 and (model(image) == expected).all()


def test_no_hook_is_left_behind_by_a_run_that_fails():
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)).eval()
    with pytest.raises(RuntimeError):
        fold_batch_norms(model, lambda: model(torch.zeros(1, 1)))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_the_network_keeps_few_norms(step):
    """Those of SSEA, whose inputs go elsewhere too."""
    left = [name for name, module in step.named_modules() if isinstance(module, nn.BatchNorm2d)]
    assert left == [] or all("ssea" in name for name in left)
