"""A step stays on its device: while a CUDA graph is captured, nothing can be copied from the host."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sdcpc_ros.inference.step import Step, example_inputs
from sdcpc_ros.network import SDCPC, SDCPCConfig
from sdcpc_ros.network.steadied import SteadiedConfig, SteadiedNetwork
from sdcpc_ros.network.window_attention.tile_geometry import made_once
from sdcpc_ros.streaming.label_upsampling import DeviceLabels

SIZE = (64, 96)
COLOUR = (120.0, 120.0, 120.0)


class _Elsewhere(TorchDispatchMode):
    """Notes the operators that see a tensor of another device than "meta"."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, torch.Tensor)]
        if any(tensor.device.type != "meta" for tensor in tensors):
            self.found.add(str(function))
        return result


class _Given(SteadiedNetwork):
    def segment(self, image):
        return image.new_zeros((len(image), self.config.num_classes, image.shape[2] // 4, image.shape[3] // 4))


def _network(name):
    if name == "steadied":
        return _Given(SteadiedConfig(5), COLOUR, COLOUR)
    return SDCPC(SDCPCConfig(5, encoder=name, embed_dim=16, key_dim=16, persistence=1.5)).eval()


@pytest.mark.parametrize("name", ["efficientnet_lite0", "mit_b0", "resnet_tiny", "steadied"])
def test_what_a_graph_captures_touches_no_other_device(name):
    step = Step(_network(name), COLOUR, COLOUR).to("meta")
    inputs = example_inputs(step, SIZE)
    upsample = DeviceLabels((SIZE[0] // 4, SIZE[1] // 4), (72, 100), torch.device("meta"))
    made_once.cache_clear()  # as in a capture, which makes all constants anew
    with torch.inference_mode(), _Elsewhere() as elsewhere:
        logits, *_ = step(*inputs)
        labels = upsample(logits[0])
    assert labels.shape == (72, 100) and elsewhere.found == set()
