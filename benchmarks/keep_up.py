"""Does every image reach a node that keeps up? python -m benchmarks.keep_up --profile shipped

A network of a few milliseconds, made here with random weights, gets raw colour images of 1280 x 720 pixels at 30 Hz,
best effort, as from a camera driver, from this process to the node's. Fast DDS reads its profile once in a process, so
each run has one: `shipped` is config/fastdds_profile.xml on both sides, `default` is Fast DDS as it comes.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.node_load import Flow, percentile, running_bench, steady_flow
from sdcpc_ros.bags.errors import PlaybackError
from sdcpc_ros.runtime.installation import FAST_DDS_PROFILE_VARIABLES

SIZE = (720, 1280)  # height, width
RATE_HZ = 30.0
CAMERA = "camera"
PROFILES = {"shipped": "config/fastdds_profile.xml on both sides", "default": "Fast DDS as it comes"}
_SHIPPED = Path(__file__).resolve().parents[1] / "config" / "fastdds_profile.xml"
#: A profile that changes nothing, in place of one that the user may have set.
_NO_CHANGE = """<?xml version="1.0" encoding="UTF-8"?>
<profiles xmlns="http://www.eprosima.com/XMLSchemas/fastRTPS_Profiles">
  <participant profile_name="as_it_comes" is_default_profile="true"><rtps/></participant>
</profiles>
"""


@dataclass(frozen=True)
class KeepUp:
    """What became of the images of one run; latencies are from publishing the image to the mask's arrival."""

    profile: str
    input_hz: float
    published_hz: float
    sent: int
    lost: int  # on the way to the node
    dropped: int  # for a newer one
    processed: int
    masks: int  # that came back
    p50_ms: float
    p99_ms: float
    node_cores: float
    camera_cores: float

    @classmethod
    def of(cls, profile: str, flow: Flow) -> KeepUp:
        return cls(
            profile=profile,
            input_hz=flow.sent / flow.seconds,
            published_hz=len(flow.latencies_ms) / flow.seconds,
            sent=flow.sent,
            lost=flow.lost,
            dropped=flow.counts["dropped: newer"],
            processed=flow.counts["processed"],
            masks=len(flow.latencies_ms),
            p50_ms=percentile(flow.latencies_ms, 50),
            p99_ms=percentile(flow.latencies_ms, 99),
            node_cores=flow.node_cores,
            camera_cores=flow.camera_cores,
        )

    @classmethod
    def read(cls, path: Path) -> KeepUp:
        return cls(**json.loads(path.read_text()))

    @property
    def all_served(self) -> bool:
        return self.sent == self.processed == self.masks


def write_small_model(path: Path) -> None:
    """A checkpoint with random weights of a network that takes milliseconds on a CPU: 80 x 144 px, CamVid's classes."""
    import torch

    from sdcpc_ros.labels.label_set import CAMVID_11
    from sdcpc_ros.model_files.checkpoint import Checkpoint, save_checkpoint
    from sdcpc_ros.network import SDCPC, SDCPCConfig

    torch.manual_seed(0)
    config = SDCPCConfig(
        num_classes=len(CAMVID_11), encoder="resnet18", base_width=8, embed_dim=16, key_dim=16, reference_offsets=(1, 2)
    )
    weights = SDCPC(config).state_dict()
    mean, std = (123.7, 116.3, 103.5), (58.4, 57.1, 57.4)
    save_checkpoint(path, Checkpoint(config, CAMVID_11, mean, std, input_size=(80, 144), state_dict=weights))


def profile_variables(profile: str, folder: Path) -> dict[str, str]:
    """The environment that has Fast DDS take this profile, whatever the user has set."""
    file = _SHIPPED
    if profile == "default":
        file = folder / "no_profile.xml"
        file.write_text(_NO_CHANGE)
    return dict.fromkeys(FAST_DDS_PROFILE_VARIABLES, str(file.resolve()))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.keep_up", description=__doc__)
    parser.add_argument("--profile", choices=PROFILES, default="shipped")
    parser.add_argument("--seconds", type=float, default=30.0, metavar="S", help="default %(default)s")
    parser.add_argument("--output", type=Path, default=Path("overload_output"), metavar="DIR")
    parser.add_argument("--json", type=Path, metavar="FILE", help="for what was measured")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    model = arguments.output / "small.safetensors"
    write_small_model(model)
    os.environ.update(profile_variables(arguments.profile, arguments.output))
    with running_bench(str(model), [CAMERA], SIZE, arguments.output) as bench:
        flow = steady_flow(bench, CAMERA, RATE_HZ, arguments.seconds, first_stamp_s=10_000)
    result = KeepUp.of(arguments.profile, flow)
    text = json.dumps(asdict(result), indent=2) + "\n"
    if arguments.json:
        arguments.json.write_text(text)
    else:
        print(text, end="")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except PlaybackError as error:
        sys.exit(f"keep_up: {error}")
