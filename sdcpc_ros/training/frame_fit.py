"""After training: how well a reference must fit as a whole to be trusted (`DSSA.frame_fit`).

After a cut single places fit by chance, so the fit of whole frames decides. It is measured on new clips of the last
phase, after cuts and from a running camera, with the finished network.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sdcpc_ros.network import SDCPC
from sdcpc_ros.training.clips import ClipBatches

#: Clips of each sort that are measured, and plans that are searched for them.
_CLIPS, _PLANS = 64, 4096
#: Up to this age, seconds, a reference is one of a running camera.
_RUNNING_S = 0.25
#: Trust begins where this share of the cuts fits worse, and is full where that share of the running cameras does.
_CUTS, _RUNNING = 0.95, 0.25
_LEAST_RAMP = 0.02


def measured_frame_fit(network: SDCPC, batches: ClipBatches, mean: Tensor, std: Tensor) -> Tensor | None:
    """Values for `DSSA.frame_fit`, (2, 2), or None where the last phase has no clips of one of the sorts.

    network: finished, in evaluation mode. mean, std: of RGB, in units of 0..255, (3, 1, 1).
    """
    cuts, running = _clips(batches) if network.config.temporal else ([], [])
    if min(len(cuts), len(running)) < _CLIPS:
        return None
    begin, full = _fits(network, batches, cuts, mean, std), _fits(network, batches, running, mean, std)
    begin, full = begin.quantile(_CUTS, 0), full.quantile(_RUNNING, 0)
    return torch.stack((begin, full.maximum(begin + _LEAST_RAMP)), 1)


def _clips(batches: ClipBatches) -> tuple[list[int], list[int]]:
    """Indices of clips whose newest reference is from before a cut, and of those where it is the running camera's."""
    recipe = batches.recipe
    cuts, running = list[int](), list[int]()
    if recipe.phases[-1].references == 0:
        return cuts, running
    first = recipe.steps * recipe.clips_per_step
    for index in range(first, first + _PLANS):
        plan = batches.planner.plan(index)
        if 0 <= plan.age_s[-1] <= _RUNNING_S:
            (cuts if plan.cut else running).append(index)
        if min(len(cuts), len(running)) >= _CLIPS:
            break
    return cuts[:_CLIPS], running[:_CLIPS]


@torch.inference_mode()
def _fits(network: SDCPC, batches: ClipBatches, clips: list[int], mean: Tensor, std: Tensor) -> Tensor:
    """`DSSAOutput.whole_fit` of the newest reference of each clip, (N, 2)."""
    views, step, found = batches.recipe.views, batches.recipe.clips_per_step, list[Tensor]()
    for first in range(0, len(clips), step):
        batch = batches.batch(clips[first : first + step])
        aggregation = network((batch.clip - mean) / std, batch.age_s, views).aggregation
        assert aggregation is not None
        found.append(aggregation.whole_fit[::views, -1])
    return torch.cat(found)
