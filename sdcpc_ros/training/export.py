"""The weights and the training record of a run's checkpoint."""

from __future__ import annotations

import platform
from typing import Any

import torch
from torch import Tensor, nn

from sdcpc_ros.datasets.video_dataset import VideoDataset
from sdcpc_ros.training.distributed import DistributedContext
from sdcpc_ros.training.recipe import Recipe
from sdcpc_ros.training.run_state import recipe_values

#: Terms that weights inherit from their data set.
_TERMS = {
    "camvid": "the weights carry CamVid's terms: non-commercial research use",
    "cityscapes": "the weights carry Cityscapes' terms: non-commercial research use",
    "vspw": "the weights carry VSPW's terms: non-commercial research use",
}


def data_used(recipe: Recipe, dataset: VideoDataset) -> dict[str, str]:
    """The data of a run and its terms, for the training record."""
    street = " and the synthetic street" if recipe.uses_street else ""
    return {
        "data": f"{dataset.name} ({len(dataset.labelled)} labelled frames){street}",
        "licence": _TERMS.get(recipe.dataset, "the weights carry the terms of the data they were trained on"),
    }


def training_record(
    recipe: Recipe, world: DistributedContext, origin: dict[str, str], reached: dict[str, Any]
) -> dict[str, Any]:
    """How weights came about, for people. origin: data, terms, command; reached: steps, hours, scores."""
    processor = torch.cuda.get_device_name(world.device) if world.device.type == "cuda" else platform.processor()
    hardware = f"{world.size} x {processor or platform.machine()}"
    return {
        **origin,
        "recipe": recipe_values(recipe),
        **reached,
        "hardware": hardware,
        "torch": torch.__version__,
    }


def weights_to_ship(network: nn.Module, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Parameters in half precision, half the size; buffers, whose variances may be too large for it, as they are."""
    parameters = {name for name, _ in network.named_parameters()}
    return {name: tensor.half() if name in parameters else tensor for name, tensor in weights.items()}
