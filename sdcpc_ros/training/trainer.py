"""The trainer: one recipe, one output folder; a stopped run resumes from its saved state."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sdcpc_ros.evaluation.evaluate import LabelledVideo
from sdcpc_ros.labels.label_set import LabelSet
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
    convert_sync_batchnorm,
    init_distributed,
    wrap_ddp,
)
from sdcpc_ros.training.losses import Objective, Sample, class_weights
from sdcpc_ros.training.optimization import WeightAverage, build_optimizer, learning_rate
from sdcpc_ros.training.recipe import Recipe, RecipeError, load_recipe
from sdcpc_ros.training.run_files import (
    RunLog,
    data_used,
    load_state,
    optimizer_tensors,
    restore_optimizer,
    save_state,
    training_record,
    weights_to_ship,
)
from sdcpc_ros.training.scoring import VALIDATION_COLUMNS, check_label_sets, validate, validation_row, validation_video
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
    device: str | None = None,
    leave_out: Sequence[str] = (),
) -> Path:
    """Train by the recipe at `config` on the data set at `root`; returns the checkpoint `output`/model.safetensors.

    start: a checkpoint whose weights to begin with, of the recipe's network; random ones without. device: "cpu" or
    "cuda"; without, a GPU where there is one. leave_out: videos not to train on, in place of the recipe's.
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
        dataset, video = training_split(recipe, root), validation_video(recipe, root)
        if video is not None:
            check_label_sets(video.dataset.label_set, dataset.label_set, video.dataset.name)
        frequencies = class_frequencies(dataset, folder / _FREQUENCIES, world) if recipe.class_balance > 0 else None
        record = {**data_used(recipe, dataset), "command": command}
        trainer = _Trainer(recipe, folder, world, dataset.label_set, frequencies, video, record)
        if not trainer.resume() and start is not None:
            trainer.load_weights(start)
        if trainer.step < recipe.steps:
            trainer.fit(clip_batches(recipe, dataset, world.device))
        elif world.is_main and not (folder / MODEL).exists():
            trainer.export(MODEL)
        world.barrier()
        if world.is_main:
            print(f"wrote {folder / MODEL}", flush=True)
    return folder / MODEL


class _Trainer:
    """The network, its optimiser, its averaged weights and the step they have reached."""

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        world: DistributedContext,
        label_set: LabelSet,
        frequencies: np.ndarray | None,
        video: LabelledVideo | None,
        record: dict[str, str],
    ) -> None:
        """frequencies: of the classes, to balance them. video: to validate on. record: data, terms and command."""
        self.recipe, self.folder, self.world, self.label_set = recipe, folder, world, label_set
        self.video, self.record = video, record
        self.config = recipe.network_config(len(label_set))
        self.mean, self.std = normalization(self.config.encoder)
        torch.manual_seed(recipe.seed)
        weights = (
            torch.ones(len(label_set)) if frequencies is None else class_weights(frequencies, recipe.class_balance)
        )
        objective = Objective(SDCPC(self.config), recipe, weights, self.mean, self.std)
        if world.size > 1:
            convert_sync_batchnorm(objective, world.device)
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
        self.log = RunLog(folder / LOG, ("loss", "gradient_norm", "learning_rate", "seconds"))
        self.scores = RunLog(folder / VALIDATION_LOG, VALIDATION_COLUMNS)
        self.step = 0
        self.seconds = 0.0
        self.best: float | None = None  # mIoU of BEST, in percent

    def resume(self) -> bool:
        """Loads the saved state, if there is one. Raises RecipeError if it is unreadable or of another recipe."""
        path = self.folder / STATE
        found = load_state(path, self.recipe)
        if found is not None:
            try:
                self._load_state_dict(*found)
            except (RuntimeError, KeyError, ValueError, TypeError) as error:
                raise RecipeError(f"{path} does not fit this network ({error}); remove it to start afresh") from error
        steps = all_reduce_sum(torch.tensor(float(self.step), device=self.world.device))
        if steps != self.step * self.world.size:
            raise RecipeError(f"{path} is not the same file for all ranks; one folder for all is needed")
        if self.world.is_main:
            for log in (self.log, self.scores):
                log.cut_after(self.step)
            if found is not None:
                print(f"resuming at step {self.step} of {self.recipe.steps}", flush=True)
        return found is not None

    def _load_state_dict(self, parts: dict[str, dict[str, Tensor]], values: dict[str, Any]) -> None:
        self.objective.load_state_dict(parts["objective"])
        restore_optimizer(self.optimizer, parts.get("optimizer", {}))
        for name, tensor in self.average.weights.items():
            tensor.copy_(parts["average"][name])
        if values["scaler"]:
            self.scaler.load_state_dict(values["scaler"])
        self.step, self.seconds, self.best = values["step"], values["seconds"], values["best"]

    def load_weights(self, path: str | os.PathLike[str]) -> None:
        """Take the weights of a checkpoint. Raises CheckpointError when it is of another network than the recipe's."""
        checkpoint = load_checkpoint(path)
        theirs, ours = checkpoint.config.to_dict(), self.config.to_dict()
        differences = [
            f"{name} is {theirs.get(name)}, not {ours[name]}"
            for name in ours
            if theirs.get(name) != ours[name] and name not in FREE_FIELDS
        ]
        if checkpoint.label_set.class_names != self.label_set.class_names:
            differences.append(f"label set is {checkpoint.label_set.name}, not {self.label_set.name}")
        if differences:
            raise CheckpointError(f"{path} is not of the recipe's network: its {'; '.join(differences)}")
        self.network.load_state_dict(checkpoint.build_model().state_dict())
        self.average.restart()

    def fit(self, batches: ClipBatches) -> None:
        """Trains for the remaining steps; writes the checkpoint, the logs and the state into the run's folder."""
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
                if self._saves():
                    self.seconds += time.monotonic() - since
                    self._save(torch.stack(losses), bar)
                    losses.clear()
                    since = time.monotonic()

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

    def _saves(self) -> bool:
        return self.step % self.recipe.save_every == 0 or self.step == self.recipe.steps or self._validates()

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
            rate = learning_rate(self.recipe, self.step - 1)
            self.log.append(self.step, f"{loss:.6f}", f"{norm:.4f}", f"{rate:.3e}", f"{self.seconds:.0f}")
            report = bar.print if bar.is_terminal else print  # above the bar, or into the log of a job
            report(f"step {self.step} of {self.recipe.steps}, loss {loss:.4f}")
            if self.video is not None and self._validates():
                evaluation = validate(self._checkpoint(), self.video, str(self.world.device))
                self.scores.append(self.step, *validation_row(evaluation))
                streaming = evaluation.streaming
                report(f"step {self.step}: mIoU {100 * streaming.miou:.2f} %, mVC8 {100 * streaming.mvc8:.2f} %")
                if self.best is None or 100 * streaming.miou > self.best:
                    self.best = 100 * streaming.miou
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
            self.config,
            self.label_set,
            self.mean,
            self.std,
            self.recipe.input_size,
            {name: tensor.detach().cpu() for name, tensor in self.average.state_dict().items()},
            training_record(self.recipe, self.world, self.record, reached),
        )
