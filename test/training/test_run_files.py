"""The files of a run: logs in step with the state, whatever was written after it, and what is shipped."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from sdcpc_ros.training.distributed import DistributedContext
from sdcpc_ros.training.run_files import append_row, cut_log, training_record, weights_to_ship


def test_lines_come_under_their_columns(tmp_path):
    append_row(tmp_path / "log.csv", {"step": 2, "loss": "0.5", "rate": "1e-3"})
    append_row(tmp_path / "log.csv", {"step": 4, "loss": "0.4", "rate": "9e-4"})
    assert (tmp_path / "log.csv").read_text().split() == ["step,loss,rate", "2,0.5,1e-3", "4,0.4,9e-4"]


@pytest.mark.parametrize("cut_short", ["", "6", "6,0.", "3", "4,0.", "step,x\n"])
def test_what_came_after_a_step_is_forgotten(tmp_path, cut_short):
    path = tmp_path / "log.csv"
    for step in (2, 4, 5):
        append_row(path, {"step": step, "loss": step})
    with path.open("a") as file:
        file.write(cut_short)
    cut_log(path, 4)
    append_row(path, {"step": 6, "loss": 6})
    assert path.read_text().split() == ["step,loss", "2,2", "4,4", "6,6"]


@pytest.mark.parametrize("content", ["", "st", "step,loss\r\n", "step,loss\r\n1,3\r\n", None])
def test_a_log_without_a_line_to_keep_begins_anew(tmp_path, content):
    path = tmp_path / "log.csv"
    if content is not None:
        path.write_text(content)
    cut_log(path, 0)
    assert not path.exists()
    append_row(path, {"step": 1, "loss": 1})
    assert path.read_text().split() == ["step,loss", "1,1"]


def test_parameters_are_halved_and_statistics_kept():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    network[1].running_var.fill_(1e6)  # more than half precision holds
    shipped = weights_to_ship(network, dict(network.state_dict()))
    assert shipped.keys() == network.state_dict().keys()
    assert shipped["0.weight"].dtype == torch.float16 and shipped["1.bias"].dtype == torch.float16
    assert torch.equal(shipped["1.running_var"], network[1].running_var)
    assert shipped["1.num_batches_tracked"].dtype == torch.int64


def test_the_record_names_data_recipe_and_machine(make_recipe):
    film = SimpleNamespace(name="CamVid", labelled=[0, 3])
    world = DistributedContext(0, 2, torch.device("cpu"))
    record = training_record(make_recipe(), world, film, "sdcpc train", {"steps": 5})
    assert record["data"] == "CamVid (2 labelled frames) and the synthetic street"
    assert record["steps"] == 5 and record["command"] == "sdcpc train" and record["hardware"].startswith("2 x ")
    assert record["recipe"]["phases"][1]["references"] == 2 and record["recipe"]["prototypes"]["per_class"] == 2
    assert "workers" not in record["recipe"]
