"""Training on several GPUs or machines: torchrun starts one process (a rank) for each.

Ranks share every batch. Norm statistics, weighted means of losses and prototypes are reduced over all ranks, so a run
does not depend on their number.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn

from sdcpc_ros.training.recipe_rules import RecipeError

#: The other ranks wait while rank 0 validates on a large split.
_TIMEOUT = timedelta(hours=4)


def rank_count() -> int:
    """How many processes train together, 1 when it is this one alone."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def all_reduce_sum(tensor: Tensor) -> Tensor:
    """`tensor`, summed in place over all ranks. Carries no gradient between them."""
    if rank_count() > 1:
        dist.all_reduce(tensor)
    return tensor


def differentiable_sum(values: Tensor) -> Tensor:
    """As `all_reduce_sum`, a new tensor with its gradient: every rank's loss depends on every rank's summand."""
    if rank_count() == 1:
        return values
    from torch.distributed.nn.functional import all_reduce

    return all_reduce(values)


def mean_share(total: Tensor, weight: Tensor) -> Tensor:
    """This rank's share of a weighted mean over all ranks: the ranks' shares average to it, and so do their gradients.

    total: the sum of weighted values here, a scalar; weight: the sum of weights here. 0 when all weights are 0.
    """
    return total / (all_reduce_sum(weight.detach().clone()) / rank_count()).clamp_min(1e-6)


@dataclass(frozen=True)
class DistributedContext:
    """The rank of this process, the number of ranks and the device."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this rank writes files, draws the progress bar and validates."""
        return self.rank == 0

    def barrier(self) -> None:
        """Waits until every rank has called this."""
        if self.size > 1:
            dist.barrier()

    def share_of(self, clips: int) -> int:
        """How many of a step's clips this rank works on. Raises RecipeError when they cannot be shared equally."""
        if clips % self.size:
            raise RecipeError(
                f"recipe: a step has {clips} clips, which {self.size} ranks cannot share equally; "
                "batch_size (half of it with a consistency_weight) must be a multiple of the ranks"
            )
        return clips // self.size


def is_main_process() -> bool:
    """Whether this process is rank 0 of torchrun's, or the only one; also outside of `init_distributed`."""
    return int(os.environ.get("RANK", "0")) == 0


@contextmanager
def init_distributed(device: str = "auto") -> Iterator[DistributedContext]:
    """Joins the process group of torchrun's environment; without torchrun, one process.

    device: "cpu", "cuda", or "auto": a GPU if there is one. Raises RecipeError for any other, or if it is absent.
    """
    rank, size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    world = DistributedContext(rank, size, _device(device))
    if size == 1:
        yield world
        return
    if world.device.type == "cuda":
        torch.cuda.set_device(world.device)
    dist.init_process_group("nccl" if world.device.type == "cuda" else "gloo", timeout=_TIMEOUT)
    try:
        yield world
    finally:
        dist.destroy_process_group()


def _device(wanted: str) -> torch.device:
    if wanted not in ("auto", "cpu", "cuda"):
        raise RecipeError(f"device is '{wanted}'; auto, cpu or cuda is needed")
    if wanted == "cuda" and not torch.cuda.is_available():
        raise RecipeError("device is 'cuda', but PyTorch finds no GPU here; cpu is possible")
    if wanted == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    local, count = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if local >= count:
        raise RecipeError(f"{local + 1} or more processes on a machine with {count} GPUs; one for each GPU is possible")
    return torch.device("cuda", local)


def convert_sync_batchnorm(module: nn.Module, device: torch.device) -> nn.Module:
    """Replaces the batch norms of `module` by ones over the batch of all ranks. Weights and names stay."""
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(module)
    for name, child in module.named_children():
        if type(child) is nn.BatchNorm2d:
            joined = _CpuSyncBatchNorm2d(child.num_features, child.eps, child.momentum)
            joined.load_state_dict(child.state_dict())
            setattr(module, name, joined)
        else:
            convert_sync_batchnorm(child, device)
    return module


class _CpuSyncBatchNorm2d(nn.BatchNorm2d):
    """nn.SyncBatchNorm for the CPU, which PyTorch's does not support."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        assert self.running_mean is not None and self.running_var is not None
        assert self.num_batches_tracked is not None and self.momentum is not None
        count = all_reduce_sum(torch.tensor(float(x.numel() // x.shape[1])))
        mean = differentiable_sum(x.sum((0, 2, 3))) / count
        centred = x - mean[:, None, None]
        variance = differentiable_sum(centred.square().sum((0, 2, 3))) / count
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1).clamp_min(1), self.momentum)
            self.num_batches_tracked += 1
        scale = self.weight * (variance + self.eps).rsqrt()
        return centred * scale[:, None, None] + self.bias[:, None, None]


def wrap_ddp(module: nn.Module, world: DistributedContext) -> nn.Module:
    """Wraps `module`, with its norms joined, in DistributedDataParallel; with one rank, `module` itself."""
    if world.size == 1:
        return module
    module = convert_sync_batchnorm(module, world.device)
    devices = [world.device] if world.device.type == "cuda" else None
    # Norms and prototypes keep their buffers equal by themselves. Not every phase of a recipe uses all parameters.
    return nn.parallel.DistributedDataParallel(
        module, device_ids=devices, broadcast_buffers=False, find_unused_parameters=True
    )
