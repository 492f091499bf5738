"""The package's descriptions agree with each other and with the code, and a plain `pip install` is complete."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import build_package
import pytest

import sdcpc_ros

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # comes with pytest

ROOT = Path(__file__).resolve().parent.parent
DISTRIBUTIONS = {
    "cv2": "opencv-python-headless",
    "jinja2": "Jinja2",
    "rerun": "rerun-sdk",
    "triton": "torch",  # whose builds for GPUs bring it; imported only where there is one
    "yaml": "PyYAML",
}  # where the name differs from the module's


@pytest.fixture(scope="module")
def package_xml() -> ElementTree.Element:
    return ElementTree.parse(ROOT / "package.xml").getroot()


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def imported() -> set[str]:
    """Top-level modules that the package and its launch files import, the standard library's left out."""
    found = set()
    for path in [*(ROOT / "sdcpc_ros").rglob("*.py"), *(ROOT / "launch").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add((node.module or "").split(".")[0])
    return found - set(sys.stdlib_module_names) - {"sdcpc_ros"}


def test_one_version(package_xml: ElementTree.Element, project: dict) -> None:
    assert package_xml.findtext("version") == sdcpc_ros.__version__
    assert project["dynamic"] == ["version"]


def test_colcon_sees_a_cmake_package_with_messages() -> None:
    catkin_pkg = pytest.importorskip("catkin_pkg.package", reason="catkin_pkg is not installed")
    warnings: list[str] = []
    package = catkin_pkg.parse_package(str(ROOT), warnings=warnings)
    assert warnings == []
    assert (package.package_format, package.licenses) == (3, ["Apache-2.0"])
    assert package.get_build_type() == "ament_cmake"
    assert [group.name for group in package.member_of_groups] == ["rosidl_interface_packages"]


def test_every_import_is_declared(package_xml: ElementTree.Element, project: dict, imported: set[str]) -> None:
    ros = {tag.text for kind in ("depend", "exec_depend") for tag in package_xml.iter(kind)}
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    from_pip = {re.split(r"[<>=\[ ]", requirement)[0] for requirements in lists for requirement in requirements}
    undeclared = {name for name in imported if name not in ros and DISTRIBUTIONS.get(name, name) not in from_pip}
    assert not undeclared


def test_every_requirement_has_an_upper_bound(project: dict) -> None:
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    assert not [requirement for requirements in lists for requirement in requirements if "<" not in requirement]


def test_every_message_is_generated_and_every_script_installed() -> None:
    cmake = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    messages = {f"msg/{path.name}" for path in (ROOT / "msg").glob("*.msg")}
    scripts = {f"scripts/{path.name}" for path in (ROOT / "scripts").iterdir()}
    assert set(re.findall(r'"(msg/\w+\.msg)"', cmake)) == messages
    assert set(re.findall(r"^\s+(scripts/\w+)$", cmake, flags=re.MULTILINE)) == scripts
    assert all(os.access(ROOT / script, os.X_OK) for script in scripts)


def test_every_room_is_a_package() -> None:
    folders = {path.parent for path in (ROOT / "sdcpc_ros").rglob("*.py")}
    assert not {folder for folder in folders if not (folder / "__init__.py").is_file()}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The prefix of a plain `pip install`, made from a copy because setuptools builds inside the source folder."""
    source = build_package.stage(tmp_path_factory.mktemp("source") / "sdcpc_ros")
    prefix = tmp_path_factory.mktemp("prefix")
    options = ["--no-deps", "--no-build-isolation", "--ignore-installed", "--no-compile", "--quiet"]
    command = [sys.executable, "-m", "pip", "install", *options, "--prefix", str(prefix), str(source)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return prefix


def run_without_ros(installed: Path, code: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run code on the installed package in a Python that has no ROS: its modules can't be imported."""
    ros = ("rclpy", "launch", "sensor_msgs", "std_msgs", "diagnostic_msgs", "ament_index_python", "vision_msgs")
    site_packages = next(installed.glob("l*/python3*/*-packages"))
    environment = {name: value for name, value in os.environ.items() if name != "AMENT_PREFIX_PATH"}
    return subprocess.run(
        [sys.executable, "-c", f"import sys; sys.modules.update(dict.fromkeys({ros}))\n{code}"],
        cwd=cwd,
        env=environment | {"PYTHONPATH": str(site_packages)},
        capture_output=True,
        text=True,
    )


def test_pip_gives_the_command_without_ros(installed: Path, tmp_path: Path) -> None:
    assert (installed / "bin" / "sdcpc").is_file()
    result = run_without_ros(installed, "from sdcpc_ros.cli import main; main(['--help'])", tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("usage: sdcpc")


def test_pip_gives_the_library_without_ros(installed: Path, tmp_path: Path) -> None:
    code = "import sdcpc_ros.streaming.segmenter as s, sdcpc_ros.evaluation.evaluate; print(s.__file__)"
    result = run_without_ros(installed, code, tmp_path)
    assert result.returncode == 0, result.stderr
    assert Path(result.stdout.strip()).is_relative_to(installed)


def test_pip_puts_the_shared_files_where_colcon_does(installed: Path) -> None:
    for folder in ("config", "launch", "models"):
        wanted = {path.relative_to(ROOT) for path in (ROOT / folder).rglob("*.*") if "__pycache__" not in path.parts}
        share = installed / "share" / "sdcpc_ros"
        assert {path.relative_to(share) for path in (share / folder).rglob("*.*")} == wanted


def test_pip_and_colcon_give_all_that_lies_beside_the_code(installed: Path) -> None:
    """The templates of the pages, say: whatever in the package is no code must be named in two places."""
    beside = [path for path in (ROOT / "sdcpc_ros").rglob("*.*") if path.is_file() and "__pycache__" not in path.parts]
    site_packages = next(installed.glob("l*/python3*/*-packages"))
    assert not [path for path in beside if not (site_packages / path.relative_to(ROOT)).is_file()]
    patterns = re.findall(r'PATTERN "\*(\.\w+)"', (ROOT / "CMakeLists.txt").read_text(encoding="utf-8"))
    assert {path.suffix for path in beside} == set(patterns)


def test_pip_gives_the_shipped_models(installed: Path, tmp_path: Path) -> None:
    code = "from sdcpc_ros.model_files.checkpoint import shipped_models; print(*shipped_models().values(), sep='\\n')"
    result = run_without_ros(installed, code, tmp_path)
    assert result.returncode == 0, result.stderr
    shipped = {path.name for path in (ROOT / "models").glob("*.safetensors")}
    assert {Path(line).name for line in result.stdout.split() if Path(line).is_relative_to(installed)} == shipped
