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
from dataclasses import asdict
from pathlib import Path

from benchmarks.networks import save_tiny_model
from benchmarks.node_load import CAMERA, running_bench, steady_flow
from sdcpc_ros.bags.errors import PlaybackError
from sdcpc_ros.runtime.installation import FAST_DDS_PROFILE_VARIABLES

SIZE = (720, 1280)  # height, width
RATE_HZ = 30.0
PROFILES = {"shipped": "config/fastdds_profile.xml on both sides", "default": "Fast DDS as it comes"}
_SHIPPED = Path(__file__).resolve().parents[1] / "config" / "fastdds_profile.xml"
#: A profile that changes nothing, in place of one that the user may have set.
_NO_CHANGE = """<?xml version="1.0" encoding="UTF-8"?>
<profiles xmlns="http://www.eprosima.com/XMLSchemas/fastRTPS_Profiles">
  <participant profile_name="as_it_comes" is_default_profile="true"><rtps/></participant>
</profiles>
"""


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
    parser.add_argument("--json", type=Path, default=Path("/dev/stdout"), metavar="FILE", help="default %(default)s")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    model = arguments.output / "small.safetensors"
    save_tiny_model(model)
    os.environ.update(profile_variables(arguments.profile, arguments.output))
    with running_bench(str(model), [CAMERA], SIZE, arguments.output) as bench:
        flow = steady_flow(bench, CAMERA, RATE_HZ, arguments.seconds, first_stamp_s=10_000)
    arguments.json.write_text(json.dumps(asdict(flow)) + "\n")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except PlaybackError as error:
        sys.exit(f"keep_up: {error}")
