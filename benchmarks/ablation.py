"""What each part of SD-CPC is worth: every row trained on the same budget from the same weights, scored as a stream.

    python -m benchmarks.ablation --root CAMVID --from start.safetensors --steps 80 --seeds 3

A run that was stopped goes on where it stopped, and what is done is not done again. The table is written anew after
every run, to benchmarks/results/ablation.md, and with every score to ablation.json beside it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from sdcpc_ros.datasets.dataset_kinds import open_dataset
from sdcpc_ros.datasets.synthetic_street import SyntheticStreet
from sdcpc_ros.model_files.checkpoint import Checkpoint, load_checkpoint, normalization, save_checkpoint
from sdcpc_ros.network import SDCPC, SDCPCConfig
from sdcpc_ros.runtime.atomic_file import atomic_path
from sdcpc_ros.training.recipe import Recipe, load_recipe, recipe_from
from sdcpc_ros.training.scoring import validate
from sdcpc_ros.training.trainer import train

ROOT = Path(__file__).resolve().parent.parent
#: The street that TC is taken on; training uses the seeds from 1000 up.
STREET_SEED = 0


@dataclass(frozen=True)
class Row:
    """A row of the table: what differs from the whole network, and the row that it is compared with."""

    name: str
    title: str
    against: str | None
    network: dict[str, Any] = field(default_factory=dict)  #: fields of SDCPCConfig that differ from the recipe's
    recipe: dict[str, Any] = field(default_factory=dict)  #: other fields of the recipe that differ
    prototypes: int = 0  #: of MCP-CL, per class; 0: without

    @property
    def single_frames(self) -> bool:
        """Whether it is trained on single frames: it has no use for references."""
        return not self.network.get("temporal", True)


ROWS = (
    Row("single", "single frame", None, {"static_aggregation": False, "temporal": False}),
    Row("ssea", "+ SSEA", "single", {"temporal": False}),
    Row("dssa", "+ DSSA", "ssea", {"recurrent": False}),
    Row("recurrent", "+ a recurrent memory", "dssa"),
    Row("whole", "+ MCP-CL: the whole", "recurrent", prototypes=10),
    Row("prototypes1", "1 prototype a class", "whole", prototypes=1),
    Row("prototypes5", "5 prototypes a class", "whole", prototypes=5),
    Row("one_reference", "1 reference", "whole", {"reference_offsets": [1]}, prototypes=10),
    Row("still", "no search at stride 16", "whole", {"coarse_radius": 0}, prototypes=10),
    Row("one_position", "one position at stride 4", "whole", {"fine_radius": 0}, prototypes=10),
    Row("no_vote_loss", "no vote loss", "whole", recipe={"vote_weight": 0.0}, prototypes=10),
    Row("no_trust_loss", "no trust loss", "whole", recipe={"trust_weight": 0.0}, prototypes=10),
    Row("no_stability_loss", "no stability loss", "whole", recipe={"stability_weight": 0.0}, prototypes=10),
)
#: Column -> where it is in the scores of a run.
COLUMNS = {
    "mIoU": ("val", "streaming", "miou"),
    "mIoU, single frame": ("val", "single_frame", "miou"),
    "mVC8": ("val", "streaming", "mvc8"),
    "mVC16": ("val", "streaming", "mvc16"),
    "street mIoU": ("street", "streaming", "miou"),
    "street TC": ("street", "streaming", "tc"),
}


def recipe_for(row: Row, base: dict[str, Any], steps: int, seed: int) -> dict[str, Any]:
    """The recipe of a run, as YAML holds it: `base` with the row's network and losses, its phases scaled to `steps`.

    A row without a temporal path leaves out the phases that train nothing else: what is left is trained as in all rows.
    """
    values = {**base, **row.recipe, "seed": seed, "network": {**base["network"], **row.network}}
    most = 0 if row.single_frames else len(values["network"].get("reference_offsets", SDCPCConfig(1).reference_offsets))
    whole, phases, left = sum(phase["steps"] for phase in base["phases"]), [], steps
    for index, phase in enumerate(base["phases"]):
        last = index == len(base["phases"]) - 1
        own = left if last else min(left, round(steps * phase["steps"] / whole))
        left -= own
        if own and not (row.single_frames and phase.get("trains") == "temporal"):
            phases.append({**phase, "steps": own, "references": min(most, phase["references"])})
    values["phases"] = phases
    values["prototypes"] = {**(base.get("prototypes") or {}), "per_class": row.prototypes} if row.prototypes else None
    values["validation"] = None  # scored at the end, and here
    return values


def starting_weights(base: Checkpoint, recipe: Recipe, path: Path) -> None:
    """Write what a run begins with: the base's weights wherever the row's network has them, the rest by the seed."""
    config = recipe.network_config(base.config.num_classes)
    torch.manual_seed(recipe.seed)
    weights = SDCPC(config).state_dict()
    weights |= {
        name: tensor.to(weights[name].dtype)
        for name, tensor in base.state_dict.items()
        if name in weights and weights[name].shape == tensor.shape
    }
    mean, std = normalization(config.encoder)
    save_checkpoint(path, Checkpoint(config, base.label_set, mean, std, recipe.input_size, weights))


def run(row: Row, seed: int, options: argparse.Namespace, base: dict[str, Any], key: str) -> dict[str, Any]:
    """The scores of one run, from its folder if they are there already."""
    values = recipe_for(row, base, options.steps, seed)
    recipe = recipe_from(values)
    key = hashlib.sha256(json.dumps([values, key], sort_keys=True).encode()).hexdigest()[:8]
    folder = options.work / f"{row.name}-seed{seed}-{key}"
    scores = folder / "scores.json"
    if scores.exists():
        return json.loads(scores.read_text())
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(values))
    start = None
    if options.start is not None:
        start = folder / "start.safetensors"
        starting_weights(load_checkpoint(options.start), recipe, start)
    checkpoint = load_checkpoint(train(folder / "recipe.yaml", options.root, folder, start, options.device))
    video = open_dataset(recipe.dataset, options.root, options.split)
    street = SyntheticStreet(seed=STREET_SEED, length=options.street_frames, size=recipe.input_size)
    result = {
        "row": row.name,
        "seed": seed,
        "parameters": sum(tensor.numel() for tensor in checkpoint.state_dict.values()),
        "hours": checkpoint.training["hours"],
        "val": validate(checkpoint, video, options.device).to_dict(),
        "street": validate(checkpoint, street, options.device).to_dict(),
    }
    with atomic_path(scores) as temporary:
        temporary.write_text(json.dumps(result, indent=2))
    return result


def table(results: list[dict[str, Any]], header: str) -> str:
    """Markdown: mean and spread (sample standard deviation) over the seeds, and the change against another row."""
    names = [row for row in ROWS if any(result["row"] == row.name for result in results)]
    lines = [
        "# Ablation",
        "",
        header,
        "",
        "Shares in percent, mean ± sample standard deviation over the seeds; the change is that of mIoU, seed by seed,",
        "against the row that is named.",
        "",
        f"| row | seeds | {' | '.join(COLUMNS)} | change |",
        f"|---|---|{'---|' * (len(COLUMNS) + 1)}",
    ]
    for row in names:
        own = _by_seed(results, row.name)
        cells = [_spread([_value(result, place) for result in own.values()]) for place in COLUMNS.values()]
        lines.append(f"| {row.title} | {len(own)} | {' | '.join(cells)} | {_change(results, row)} |")
    return "\n".join(lines) + "\n"


def _by_seed(results: list[dict[str, Any]], name: str) -> dict[int, dict[str, Any]]:
    return {result["seed"]: result for result in results if result["row"] == name}


def _value(result: dict[str, Any], place: tuple[str, str, str]) -> float:
    video, mode, name = place
    share = result[video][mode][name]
    return float("nan") if share is None else 100 * share


def _spread(values: list[float], sign: str = "") -> str:
    mean = f"{np.mean(values):{sign}.2f}"
    return f"{mean} ± {np.std(values, ddof=1):.2f}" if len(values) > 1 else mean


def _change(results: list[dict[str, Any]], row: Row) -> str:
    own, other = _by_seed(results, row.name), _by_seed(results, row.against or "")
    changes = [
        _value(own[seed], COLUMNS["mIoU"]) - _value(other[seed], COLUMNS["mIoU"]) for seed in own.keys() & other.keys()
    ]
    if not changes:
        return "-"
    return f"{_spread(changes, sign='+')} ({next(other.title for other in ROWS if other.name == row.against)})"


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ablation", description=(__doc__ or "").split("\n")[0])
    names = [row.name for row in ROWS]
    parser.add_argument("--root", required=True, type=Path, metavar="DIR", help="the recipe's data set")
    parser.add_argument("--from", dest="start", type=Path, metavar="CHECKPOINT", help="the common base; random if none")
    parser.add_argument("--config", type=Path, default=ROOT / "benchmarks/ablation.yaml", metavar="FILE")
    parser.add_argument("--rows", nargs="+", choices=names, default=names, metavar="ROW", help=f"of {', '.join(names)}")
    parser.add_argument("--split", default="val", help="that is scored, default %(default)s")
    parser.add_argument("--steps", type=int, default=80, help="of each run, default %(default)s")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each row, default %(default)s")
    parser.add_argument("--street-frames", type=int, default=60, help="of the street, scored; default %(default)s")
    parser.add_argument("--towns", type=int, help="of the street, to train each stage on; the recipe's if not given")
    parser.add_argument("--crop", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), help="px, the recipe's if not given")
    parser.add_argument("--threads", type=int, help="of PyTorch, all cores if not given")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--work", type=Path, default=ROOT / "checkpoints/ablation", metavar="DIR", help="for the runs")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks/results", metavar="DIR")
    options = parser.parse_args(arguments)
    for name in ("steps", "seeds", "street_frames"):
        if getattr(options, name) < 1:
            parser.error(f"--{name.replace('_', '-')} is {getattr(options, name)}; 1 or more is needed")
    return options


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    load_recipe(options.config)  # says what is wrong with it
    base = yaml.safe_load(options.config.read_text())
    if options.towns is not None:
        base["street_towns"] = options.towns
        base["temporal_towns"] = min(base.get("temporal_towns", 0), options.towns)
    if options.crop is not None:
        base["crop_size"] = options.crop
    start = hashlib.sha256(options.start.read_bytes()).hexdigest() if options.start else ""
    key = f"{start} {options.split} {options.street_frames}"
    options.results.mkdir(parents=True, exist_ok=True)
    results: list[dict[str, Any]] = []
    runs = [(row, seed) for seed in range(options.seeds) for row in ROWS if row.name in options.rows]
    command = f"python -m benchmarks.ablation --config {options.config.name}"
    header = (
        f"`{command} --steps {options.steps} --seeds {options.seeds}`"
        f"{f' from `{options.start.name}` (SHA-256 {start[:12]})' if start else ''}, {options.device}, "
        f"{platform.machine()}, PyTorch {torch.__version__}. Batches of {base.get('batch_size', 8)} at "
        f"{base['crop_size'][0]} x {base['crop_size'][1]} px; scored on split `{options.split}`. "
        "mVC as `clean`; TC by the exact flow of street "
        f"{STREET_SEED}, {options.street_frames} frames."
    )
    for number, (row, seed) in enumerate(runs, start=1):
        print(f"run {number} of {len(runs)}: {row.title}, seed {seed}", flush=True)
        results.append(run(row, seed, options, base, key))
        (options.results / "ablation.md").write_text(table(results, header))
        everything = json.dumps({"settings": header, "runs": results}, indent=2)
        (options.results / "ablation.json").write_text(everything + "\n")
    print(f"wrote {options.results / 'ablation.md'}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ValueError, OSError) as error:
        sys.exit(f"ablation: {error}")
