"""The trainer: one recipe, one output folder, resumed from where it stopped."""

from __future__ import annotations

import csv
import json
import os
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.data import DataLoader

from sdcpc_ros.checkpoint import Checkpoint, CheckpointError, load_checkpoint, normalization, save_checkpoint
from sdcpc_ros.datasets.camvid import CamVid
from sdcpc_ros.network import SDCPC
from sdcpc_ros.training.clips import ClipSamples, FromStep
from sdcpc_ros.training.losses import class_weights, segmentation_loss
from sdcpc_ros.training.recipe import Recipe, RecipeError, load_recipe
from sdcpc_ros.training.views import consistency_loss, random_motion, second_view

_SAVE_EVERY_STEPS = 100
_YOUNG_SHARE = 0.3
_STATE = "state.safetensors"
_LOG = "log.csv"
_MODEL = "model.safetensors"


def train(
    config: str | os.PathLike[str],
    root: str | os.PathLike[str],
    output: str | os.PathLike[str],
    start: str | os.PathLike[str] | None = None,
) -> Path:
    """Train by the recipe at `config` on the CamVid tree at `root`; returns the checkpoint `output`/model.safetensors.

    start: a checkpoint whose weights to begin with, of the recipe's network; random ones without.
    A run that was stopped goes on from its last saved step, and ends as one that never stopped. Raises RecipeError,
    CheckpointError, DatasetError or OSError with a sentence.
    """
    recipe = load_recipe(config)
    camvid = CamVid(root, "train")
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    run = _Run(recipe, camvid, folder)
    if not run.resume() and start is not None:
        run.begin_with(start)
    run.fit(ClipSamples(recipe, camvid))
    command = f"sdcpc train --config {Path(config).name} --root CAMVID --output {folder.name}"
    if start is not None:
        command += f" --from {Path(start).name}"
    run.export(command)
    return folder / _MODEL


class _Run:
    """The state of a training run: the network, its optimiser, its averaged weights and the step they have reached."""

    def __init__(self, recipe: Recipe, camvid: CamVid, folder: Path) -> None:
        self.recipe, self.label_set, self.folder = recipe, camvid.label_set, folder
        self.model = SDCPC(recipe.network_config(len(self.label_set))).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = torch.optim.AdamW(_parameter_groups(self.model, recipe), betas=(0.9, 0.99))
        self.average = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        self.mean, self.std = normalization(self.model.config.encoder)
        self.step = 0
        self.seconds = 0.0

    def fit(self, samples: ClipSamples) -> None:
        weights = class_weights(samples.class_frequencies(self.label_set), self.recipe.class_balance)
        loader = DataLoader(samples, self.recipe.clips_per_step, sampler=FromStep(samples, self.step), num_workers=1)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self.model.train()
        console = Console()
        with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
            task = progress.add_task("training", total=self.recipe.steps, completed=self.step)
            started, losses = time.monotonic(), []
            for clip, labels in loader:
                losses.append(self._step(clip, labels, weights))
                progress.update(task, advance=1, description=f"training, loss {losses[-1]:.3f}")
                if self.step % _SAVE_EVERY_STEPS == 0 or self.step == self.recipe.steps:
                    self.seconds += time.monotonic() - started
                    self._log(sum(losses) / len(losses))
                    self._save()
                    if not console.is_terminal:  # a log file gets lines where a terminal has the bar
                        print(f"step {self.step} of {self.recipe.steps}, loss {losses[-1]:.4f}", flush=True)
                    started, losses = time.monotonic(), []

    def _step(self, clip: Tensor, labels: Tensor, weights: Tensor) -> float:
        # All that is random in a step is seeded by the step, so that resuming needs no generator states.
        torch.manual_seed(self.recipe.seed * 1_000_003 + self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate() * group["rate"]
        loss = self._loss(clip.float(), labels, weights)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)
        self.optimizer.step()
        self.step += 1
        self._update_average()
        return float(loss.detach())

    def _loss(self, clip: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        """clip: (B, K + 1, 3, H, W) in 0..255; labels: (B, H, W) of its last frames."""
        batch, references = clip.shape[0], clip.shape[1] - 1
        if not (consistent := self.recipe.consistency_weight > 0):
            views, motion = 1, torch.empty(0)
        else:
            views, motion = 2, random_motion(batch)
            view, view_labels = second_view(clip[:, -1], labels, motion)
            clip = torch.cat((clip, view[:, None]), 1)
            labels = torch.stack((labels, view_labels), 1).flatten(0, 1)
        mean, std = torch.tensor(self.mean).view(3, 1, 1), torch.tensor(self.std).view(3, 1, 1)
        output = self.model((clip - mean) / std, _young_streams(batch, references), views)
        loss = segmentation_loss(output, labels, weights, self.recipe.auxiliary_weight)
        if consistent:
            loss = loss + self.recipe.consistency_weight * consistency_loss(
                output.logits[::2], output.logits[1::2], motion
            )
        return loss

    def _learning_rate(self) -> float:
        """Linear warm-up, then polynomial decay (power 0.9) to zero."""
        warmup = min(1.0, (self.step + 1) / max(1, self.recipe.warmup_steps))
        return self.recipe.learning_rate * warmup * (1 - self.step / self.recipe.steps) ** 0.9

    @torch.no_grad()
    def _update_average(self) -> None:
        # Early on the average follows closely: it must not remember the random start.
        decay = min(self.recipe.ema_decay, (1 + self.step) / (10 + self.step))
        for name, tensor in self.model.state_dict().items():
            if tensor.is_floating_point():
                self.average[name].lerp_(tensor, 1 - decay)
            else:
                self.average[name].copy_(tensor)

    def _log(self, loss: float) -> None:
        path = self.folder / _LOG
        fresh = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.writer(file)
            if fresh:
                writer.writerow(["step", "mean_loss", "learning_rate", "seconds"])
            writer.writerow([self.step, f"{loss:.5f}", f"{self._learning_rate():.3e}", f"{self.seconds:.0f}"])

    def _save(self) -> None:
        """Everything to go on from, as one safetensors file that appears whole or not at all."""
        tensors = {f"model/{name}": tensor for name, tensor in self.model.state_dict().items()}
        tensors |= {f"average/{name}": tensor for name, tensor in self.average.items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{index}/{name}": tensor for name, tensor in state.items()}
        temporary = self.folder / f".{_STATE}"
        metadata = {"step": str(self.step), "seconds": str(self.seconds), "recipe": _fingerprint(self.recipe)}
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary, metadata=metadata)
        os.replace(temporary, self.folder / _STATE)

    def resume(self) -> bool:
        """Take up a saved state, if there is one. Raises RecipeError when it is unreadable or another's."""
        path = self.folder / _STATE
        if not path.exists():
            return False
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        except SafetensorError as error:
            raise RecipeError(f"{path} is not readable ({error}); remove it to start afresh") from error
        if metadata.get("recipe") != _fingerprint(self.recipe):
            raise RecipeError(f"{path} was saved by another recipe; train into another folder, or remove it")
        parts: dict[str, dict[str, Tensor]] = {"model": {}, "average": {}, "optimizer": {}}
        for name, tensor in tensors.items():
            part, rest = name.split("/", 1)
            parts[part][rest] = tensor
        self.model.load_state_dict(parts["model"])
        self.average = parts["average"]
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in parts["optimizer"].items():
            index, key = name.split("/")
            state.setdefault(int(index), {})[key] = tensor
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})
        self.step, self.seconds = int(metadata["step"]), float(metadata["seconds"])
        print(f"resuming at step {self.step} of {self.recipe.steps}", flush=True)
        return True

    def begin_with(self, path: str | os.PathLike[str]) -> None:
        """Take the weights of a checkpoint. Raises CheckpointError when it is of another network than the recipe's."""
        checkpoint = load_checkpoint(path)
        if checkpoint.config != self.model.config:
            theirs, ours = checkpoint.config.to_dict(), self.model.config.to_dict()
            differences = [f"{name} is {theirs[name]}, not {ours[name]}" for name in ours if theirs[name] != ours[name]]
            raise CheckpointError(f"{path} is not of the recipe's network: its {'; '.join(differences)}")
        self.model.load_state_dict(checkpoint.build_model().state_dict())
        self.average = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}

    def export(self, command: str) -> None:
        """The averaged weights as a checkpoint, in half precision: half the size."""
        weights = {n: t.half() if t.is_floating_point() else t for n, t in self.average.items()}
        record = {
            "data": "CamVid train (367 frames, SegNet split) and the synthetic street",
            "licence": "the weights carry CamVid's terms: non-commercial research use",
            "command": command,
            "recipe": json.loads(_fingerprint(self.recipe)),
            "steps": self.step,
            "hours": round(self.seconds / 3600, 2),
            "torch": torch.__version__,
        }
        config = self.model.config
        save_checkpoint(
            self.folder / _MODEL,
            Checkpoint(config, self.label_set, self.mean, self.std, self.recipe.input_size, weights, record),
        )


def _young_streams(batch: int, references: int) -> Tensor:
    """(B, K) bool, which references of a clip, oldest first, to use: some streams have only just begun.

    What a node publishes after a reset must be as good as it can be, so a share of the clips lacks its oldest
    references, or all of them.
    """
    young = torch.rand(batch) < _YOUNG_SHARE
    remembered = torch.where(young, (torch.rand(batch) * references).long(), references)
    return torch.arange(references) >= references - remembered[:, None]


def _parameter_groups(model: SDCPC, recipe: Recipe) -> list[dict[str, object]]:
    """Weight decay for matrices and filters, none for norms, biases, embeddings and depth-wise filters."""
    groups = []
    for encoder in (True, False):
        own = [p for name, p in model.named_parameters() if name.startswith("encoder.") is encoder]
        decayed = [p for p in own if _mixes_channels(p)]
        plain = [p for p in own if not _mixes_channels(p)]
        rate = recipe.encoder_rate if encoder else 1.0
        groups += [
            {"params": decayed, "rate": rate, "weight_decay": recipe.weight_decay},
            {"params": plain, "rate": rate, "weight_decay": 0.0},
        ]
    return groups


def _mixes_channels(parameter: Tensor) -> bool:
    return parameter.dim() in (2, 4) and parameter.shape[1] > 1


def _fingerprint(recipe: Recipe) -> str:
    values = dict(vars(recipe))
    values["phases"] = [vars(phase) for phase in recipe.phases]
    return json.dumps(values, sort_keys=True, default=list)
