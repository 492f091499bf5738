"""Build the ROS package with colcon, against the ROS that is sourced or that this Python environment holds."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE_PARTS = (
    *("package.xml", "CMakeLists.txt", "setup.py", "pyproject.toml", "LICENSE", "README.md"),
    *("sdcpc_ros", "msg", "launch", "config", "models", "scripts"),
    *("test", "docs", "benchmarks"),  # what the tests read
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=ROOT, help="for build/, install/ and log/, default %(default)s")
    parser.add_argument(
        "--with", type=Path, action="append", default=[], dest="others", help="another package's folder"
    )
    arguments = parser.parse_args()
    output = arguments.output.absolute()
    missing = missing_tools()
    if missing:
        print(f"build: no {', '.join(missing)} here: sudo apt install cmake g++ python3-dev", file=sys.stderr)
        return 1
    source = stage(output / "build" / "source")
    status = subprocess.run(colcon_command([source, *arguments.others], output), env=build_environment()).returncode
    if status == 0:
        print(f"build: done; to use it: source {output / 'install' / 'setup.bash'}")
    return status


def missing_tools() -> list[str]:
    """What generating and compiling the messages needs and this machine lacks."""
    missing = [tool for tool in ("cmake", "g++") if shutil.which(tool) is None]
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():
        missing.append("Python.h")
    return missing


def stage(source: Path) -> Path:
    """Copy the package to `source`: CMake refuses to export targets whose headers (.venv) lie in the source folder."""
    shutil.rmtree(source, ignore_errors=True)
    source.mkdir(parents=True)
    for part in PACKAGE_PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, source / part, ignore=shutil.ignore_patterns("__pycache__"))
        elif (ROOT / part).exists():
            shutil.copy2(ROOT / part, source / part)
    return source


def colcon_command(sources: list[Path], output: Path) -> list[str]:
    return [
        *("colcon", "--log-base", str(output / "log"), "build", "--base-paths", *map(str, sources)),
        *("--build-base", str(output / "build"), "--install-base", str(output / "install"), "--merge-install"),
        *("--event-handlers", "console_cohesion+"),
        *("--cmake-args", f"-DPython3_EXECUTABLE={sys.executable}"),
    ]


def build_environment() -> dict[str, str]:
    """With this environment's programs first, and with its ROS where it is an ament prefix (the ROS wheels)."""
    environment = dict(os.environ, PATH=os.pathsep.join([str(Path(sys.prefix, "bin")), os.environ["PATH"]]))
    if Path(sys.prefix, "share", "ament_cmake").is_dir():
        environment.update(AMENT_PREFIX_PATH=sys.prefix, CMAKE_PREFIX_PATH=sys.prefix)
    return environment


if __name__ == "__main__":
    sys.exit(main())
