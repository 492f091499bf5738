"""The trainer: one recipe, one output folder; a stopped run resumes from its saved state."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sdcpc_ros.model_files.checkpoint import (
    Checkpoint,
    CheckpointError,
    load_checkpoint,
    normalization,
    save_checkpoint,
)
from sdcpc_ros.network import SDCPC
from sdcpc_ros.network.config import FREE_FIELDS
from sdcpc_ros.runtime.progress import ProgressBar
from sdcpc_ros.training.clips import ClipBatches
from sdcpc_ros.training.distributed import (
    DistributedContext,
    all_reduce_sum,
    init_distributed,
    wrap_ddp,
)
from sdcpc_ros.training.frame_fit import measured_frame_fit
from sdcpc_ros.training.losses import Objective, Sample, class_weights
from sdcpc_ros.training.optimization import WeightAverage, build_optimizer, learning_rate
from sdcpc_ros.training.recipe import Recipe, RecipeError, load_recipe
from sdcpc_ros.training.run_files import (
    append_row,
    cut_log,
    load_state,
    optimizer_tensors,
    restore_optimizer,
    save_state,
    training_record,
    weights_to_ship,
)
from sdcpc_ros.training.scoring import validate, validation_row, validation_video
from sdcpc_ros.training.sources import class_frequencies, clip_batches, training_split

#: Files of a run's folder.
STATE, LOG, VALIDATION_LOG = "state.safetensors", "log.csv", "validation.csv"
MODEL, BEST = "model.safetensors", "best.safetensors"
_FREQUENCIES = "class_frequencies.json"
_PRECISIONS = {"float16": torch.float16, "bfloat16": torch.bfloat16}


def train(
    config: str | os.PathLike[str],
    root: str | os.PathLike[str],
    output: str | os.PathLike[str],
    start: str | os.PathLike[str] | None = None,
    device: str = "auto",
    leave_out: Sequence[str] = (),
) -> Path:
    """Train by the recipe at `config` on the data set at `root`; returns the checkpoint `output`/model.safetensors.

    start: a checkpoint whose weights to begin with, of the recipe's network; random ones without. device: "cpu",
    "cuda", or "auto": a GPU if there is one. leave_out: videos not to train on, in place of the recipe's.
    Under torchrun every process calls this, and `output` is a folder that all of them see. A run that was stopped,
    whatever killed it, goes on from its last saved state, and ends as one that never stopped. Raises RecipeError,
    CheckpointError, DatasetError or OSError with a sentence.
    """
    recipe, folder = load_recipe(config, leave_out), Path(output)
    command = f"sdcpc train --config {Path(config).name} --root DATA --output {folder.name}"
    if start is not None:
        command += f" --from {Path(start).name}"
    command += "".join(f" --leave-out {video}" for video in leave_out)
    with init_distributed(device) as world:
        world.share_of(recipe.clips_per_step)
        folder.mkdir(parents=True, exist_ok=True)
        trainer = _Trainer(recipe, Path(root), folder, world, command)
        if not trainer.resume() and start is not None:
            trainer.load_weights(start)
        if trainer.step < recipe.steps:
            trainer.fit()
        elif world.is_main and not (folder / MODEL).exists():
            trainer.export(MODEL)
        world.barrier()
        if world.is_main:
            print(f"wrote {folder / MODEL}", flush=True)
    return folder / MODEL


class _Trainer:
    """The network, its optimiser, its averaged weights and the step they have reached."""

    def __init__(self, recipe: Recipe, root: Path, folder: Path, world: DistributedContext, command: str) -> None:
        """root: of the data set. command: for the record."""
        self.recipe, self.folder, self.world, self.command = recipe, folder, world, command
        self.dataset = dataset = training_split(recipe, root)
        self.video = validation_video(recipe, root, dataset.label_set)
        config = recipe.network_config(len(dataset.label_set))
        self.mean, self.std = normalization(config.encoder)
        weights = torch.ones(len(dataset.label_set))
        if recipe.class_balance > 0:
            weights = class_weights(class_frequencies(dataset, folder / _FREQUENCIES, world), recipe.class_balance)
        torch.manual_seed(recipe.seed)
        objective = Objective(SDCPC(config), recipe, weights, self.mean, self.std)
        if world.device.type == "cuda":
            torch.set_float32_matmul_precision("high")  # TF32, as cuDNN's convolutions use by default
        self.objective = objective.to(world.device)
        self.network = self.objective.network
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.module = wrap_ddp(self.objective, world)
        self.optimizer = build_optimizer(self.objective, recipe)
        self.average = WeightAverage(self.network, recipe.ema_decay)
        self.dtype = _PRECISIONS.get(recipe.precision) if world.device.type == "cuda" else None
        self.scaler = torch.amp.GradScaler(world.device.type, enabled=self.dtype is torch.float16)
        self.step = 0
        self.seconds = 0.0
        self.best: float | None = None  # mIoU of BEST, in percent

    def resume(self) -> bool:
        """Loads the saved state, if there is one. Raises RecipeError if it is unreadable or of another recipe."""
        path = self.folder / STATE
        found = load_state(path, self.recipe)
        if found is not None:
            try:
                parts, values = found
                self.objective.load_state_dict(parts["objective"])
                restore_optimizer(self.optimizer, parts.get("optimizer", {}))
                for name, tensor in self.average.weights.items():
                    tensor.copy_(parts["average"][name])
                if values["scaler"]:
                    self.scaler.load_state_dict(values["scaler"])
                self.step, self.seconds, self.best = values["step"], values["seconds"], values["best"]
            except (RuntimeError, KeyError, ValueError, TypeError) as error:
                raise RecipeError(f"{path} does not fit this network ({error}); remove it to start afresh") from error
        steps = all_reduce_sum(torch.tensor(float(self.step), device=self.world.device))
        if steps != self.step * self.world.size:
            raise RecipeError(f"{path} is not the same file for all ranks; one folder for all is needed")
        if self.world.is_main:
            for name in (LOG, VALIDATION_LOG):
                cut_log(self.folder / name, self.step)
            if found is not None:
                print(f"resuming at step {self.step} of {self.recipe.steps}", flush=True)
        return found is not None

    def load_weights(self, path: str | os.PathLike[str]) -> None:
        """Take the weights of a checkpoint. Raises CheckpointError when it is of another network than the recipe's."""
        checkpoint = load_checkpoint(path)
        theirs, ours = checkpoint.config.to_dict(), self.network.config.to_dict()
        differences = [
            f"{name} is {theirs.get(name)}, not {ours[name]}"
            for name in ours
            if theirs.get(name) != ours[name] and name not in FREE_FIELDS
        ]
        if checkpoint.label_set.class_names != self.dataset.label_set.class_names:
            differences.append(f"label set is {checkpoint.label_set.name}, not {self.dataset.label_set.name}")
        if differences:
            raise CheckpointError(f"{path} is not of the recipe's network: its {'; '.join(differences)}")
        self.network.load_state_dict(checkpoint.build_model().state_dict())
        self.average.restart()

    def fit(self) -> None:
        """Trains for the remaining steps; writes the checkpoint, the logs and the state into the run's folder."""
        batches = clip_batches(self.recipe, self.dataset, self.world.device)
        clips, own = self.recipe.clips_per_step, self.world.share_of(self.recipe.clips_per_step)
        with ProgressBar(self.recipe.steps, "training", disabled=not self.world.is_main) as bar:
            bar.update(completed=self.step)
            losses: list[Tensor] = []  # on the device, so that no step waits for a value
            since = time.monotonic()
            while self.step < self.recipe.steps:
                self._enter_stage()
                first = self.step * clips + self.world.rank * own
                losses.append(self._train_step(batches.batch(range(first, first + own))))
                bar()
                if self.step == self.recipe.steps:
                    self._set_frame_fit(batches)
                if self.step % self.recipe.save_every == 0 or self.step == self.recipe.steps or self._validates():
                    self.seconds += time.monotonic() - since
                    self._save(torch.stack(losses), bar)
                    losses.clear()
                    since = time.monotonic()

    def _set_frame_fit(self, batches: ClipBatches) -> None:
        """Measures `DSSA.frame_fit` with the averaged weights, for them and for the network."""
        network, objective = self._checkpoint().build_model().to(self.world.device), self.objective
        assert isinstance(network, SDCPC)
        found = measured_frame_fit(network, batches, objective.mean, objective.std)
        if found is not None:
            self.network.dssa.frame_fit.copy_(found)
            self.average.state_dict()["dssa.frame_fit"].copy_(found)

    def _enter_stage(self) -> None:
        """Freezes all but the DSSA in the temporal stage, which begins from the averaged weights."""
        temporal = self.recipe.phase_at(self.step).trains == "temporal"
        if temporal and self.step == self.recipe.stage_at(self.step)[0]:
            self.network.load_state_dict(self.average.state_dict())
        self.module.train()
        if temporal:
            for part in self.network.children():
                frozen = part is not self.network.dssa
                part.train(not frozen)
                part.requires_grad_(not frozen)

    def _train_step(self, batch: Sample) -> Tensor:
        """One step of the optimiser: the loss (this rank's share of it) and the gradients' norm before clipping."""
        # All that is random in a step is seeded by the step, so that resuming needs no generator states.
        seed = (self.recipe.seed * 1_000_003 + self.step) * 1024 + self.world.rank
        torch.manual_seed(seed % 2**63)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.recipe, self.step) * group["rate"]
        with torch.autocast(self.world.device.type, self.dtype, enabled=self.dtype is not None):
            loss = self.module(batch, self.step)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.objective.parameters(), self.recipe.gradient_clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.step += 1
        self.average.update(self.step)
        return torch.stack((loss.detach(), norm))

    def _validates(self) -> bool:
        settings = self.recipe.validation
        return settings is not None and (self.step % settings.every == 0 or self.step == self.recipe.steps)

    def _save(self, losses: Tensor, bar: ProgressBar) -> None:
        """Logs, validates, exports and saves the state, which comes last, since a run resumes from it.

        losses: (steps since the last time, 2), from `_train_step`.
        """
        loss, norm = (all_reduce_sum(losses.mean(0)) / self.world.size).tolist()
        if not (np.isfinite([loss, norm]).all() or self.scaler.is_enabled()):  # a scaler skips the step and scales less
            raise RecipeError(
                f"recipe: before step {self.step} the loss or the norm of its gradients is no longer finite; a lower "
                f"learning_rate is needed. The state of an earlier step is in '{self.folder}'"
            )
        if self.world.is_main:
            row = {
                "step": self.step,
                "loss": f"{loss:.6f}",
                "gradient_norm": f"{norm:.4f}",
                "learning_rate": f"{learning_rate(self.recipe, self.step - 1):.3e}",
                "seconds": f"{self.seconds:.0f}",
            }
            append_row(self.folder / LOG, row)
            report = bar.print if bar.is_terminal else print  # above the bar, or into the log of a job
            report(f"step {self.step} of {self.recipe.steps}, loss {loss:.4f}")
            if self.video is not None and self._validates():
                scores = validate(self._checkpoint(), self.video, str(self.world.device))
                append_row(self.folder / VALIDATION_LOG, {"step": self.step, **validation_row(scores)})
                miou, mvc8 = 100 * scores.streaming.miou, 100 * scores.streaming.mvc8
                report(f"step {self.step}: mIoU {miou:.2f} %, mVC8 {mvc8:.2f} %")
                if self.best is None or miou > self.best:
                    self.best = miou
                    self.export(BEST)
            self.export(MODEL)
            parts = {
                "objective": self.objective.state_dict(),
                "average": self.average.weights,
                "optimizer": optimizer_tensors(self.optimizer),
            }
            values = {"step": self.step, "seconds": self.seconds, "best": self.best, "scaler": self.scaler.state_dict()}
            save_state(self.folder / STATE, self.recipe, parts, values)
        self.world.barrier()

    def export(self, name: str) -> None:
        """Write the averaged weights as a checkpoint into the run's folder."""
        checkpoint = self._checkpoint()
        weights = weights_to_ship(self.network, checkpoint.state_dict)
        save_checkpoint(self.folder / name, replace(checkpoint, state_dict=weights))

    def _checkpoint(self) -> Checkpoint:
        reached = {"steps": self.step, "hours": round(self.seconds / 3600, 2), "best_validation_miou": self.best}
        return Checkpoint(
            self.network.config,
            self.dataset.label_set,
            self.mean,
            self.std,
            self.recipe.input_size,
            {name: tensor.detach().cpu() for name, tensor in self.average.state_dict().items()},
            training_record(self.recipe, self.world, self.dataset, self.command, reached),
        )
