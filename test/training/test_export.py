"""What is shipped of a run."""

from __future__ import annotations

import torch
from torch import nn

from sdcpc_ros.training.distributed import DistributedContext
from sdcpc_ros.training.run_files import training_record, weights_to_ship


def test_parameters_are_halved_and_statistics_kept():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    network[1].running_var.fill_(1e6)  # more than half precision holds
    shipped = weights_to_ship(network, dict(network.state_dict()))
    assert shipped.keys() == network.state_dict().keys()
    assert shipped["0.weight"].dtype == torch.float16 and shipped["1.bias"].dtype == torch.float16
    assert torch.equal(shipped["1.running_var"], network[1].running_var)
    assert shipped["1.num_batches_tracked"].dtype == torch.int64


def test_the_record_names_data_recipe_and_machine(make_recipe):
    origin = {"data": "CamVid", "command": "sdcpc train"}
    record = training_record(make_recipe(), DistributedContext(0, 2, torch.device("cpu")), origin, {"steps": 5})
    assert record["steps"] == 5 and record["data"] == "CamVid" and record["hardware"].startswith("2 x ")
    assert record["recipe"]["phases"][1]["references"] == 2 and record["recipe"]["prototypes"]["per_class"] == 2
    assert "workers" not in record["recipe"]
