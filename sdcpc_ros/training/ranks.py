"""Sums over all processes of a distributed training run; where there is only one, its own."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def rank_count() -> int:
    """How many processes train together, 1 when it is this one alone."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def all_reduce_sum(tensor: Tensor) -> Tensor:
    """`tensor`, summed in place over all ranks. Carries no gradient between them."""
    if rank_count() > 1:
        dist.all_reduce(tensor)
    return tensor


class _AllReduceSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return all_reduce_sum(values.clone())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return all_reduce_sum(gradients[0].clone())


def differentiable_sum(values: Tensor) -> Tensor:
    """As `all_reduce_sum`, a new tensor with its gradient: every rank's loss depends on every rank's summand."""
    return _AllReduceSum.apply(values)


def mean_share(total: Tensor, weight: Tensor) -> Tensor:
    """This rank's share of a weighted mean over all ranks: the ranks' shares average to it, and so do their gradients.

    total: the sum of weighted values here, a scalar; weight: the sum of weights here. 0 when all weights are 0.
    """
    return total / (all_reduce_sum(weight.detach().clone()) / rank_count()).clamp_min(1e-6)
