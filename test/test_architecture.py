"""The rooms of the package and the doors between them: who may import whom, and what nobody may do."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "sdcpc_ros"

# Room -> the rooms it may import besides itself. Read downwards, as a frame travels: nothing imports upwards.
DOORS: dict[str, set[str]] = {
    "cli": {"commands", "runtime"},
    "commands": {
        *("bags", "consumers", "datasets", "doctor", "evaluation", "inference", "labels", "model_files"),
        *("replay", "runtime", "streaming", "training", "viewing"),
    },
    "doctor": {"model_files", "nodes", "runtime"},
    "consumers": {"images", "labels", "nodes", "runtime", "viewing"},
    "nodes": {"images", "labels", "model_files", "msg", "runtime", "streaming"},
    "training": {"datasets", "evaluation", "labels", "model_files", "network", "runtime", "streaming"},
    "replay": {
        *("bags", "datasets", "evaluation", "images", "labels", "model_files", "runtime", "streaming", "viewing"),
    },
    "viewing": {"evaluation", "labels", "runtime"},
    "evaluation": {"datasets", "labels", "runtime", "streaming"},
    "datasets": {"bags", "images", "labels", "runtime", "streaming"},
    "bags": {"images", "labels", "runtime", "streaming"},
    "streaming": {"inference", "labels", "model_files", "network"},
    "images": {"runtime"},
    "model_files": {"labels", "network", "runtime"},
    "inference": {"model_files", "network", "runtime"},
    "labels": set(),
    "runtime": set(),
    "network": set(),
}
ROOMS_WITH_ROS = {"nodes", "replay", "consumers", "doctor"}
ROS_MODULES = {
    *("ament_index_python", "builtin_interfaces", "cv_bridge", "diagnostic_msgs", "launch", "launch_ros"),
    *("lifecycle_msgs", "rcl_interfaces", "rclpy", "rosgraph_msgs", "sensor_msgs", "std_msgs", "std_srvs"),
    "vision_msgs",
}
# Each of these runs, or can be made to run, what a file or a message says.
FORBIDDEN_MODULES = {"pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
FORBIDDEN_CALLS = {
    *("eval", "exec", "os.popen", "os.system", "subprocess.getoutput", "subprocess.getstatusoutput"),
    *("torch.hub.load", "torch.load", "yaml.load", "yaml.unsafe_load"),
}


def parse(path: Path) -> ast.Module:
    """The syntax tree, as the oldest Python that is supported reads it."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path), feature_version=(3, 10))


def imported_modules(tree: ast.AST) -> Iterator[str]:
    """Dotted names of what is imported anywhere in a file, inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute in this package"
            yield node.module or ""
            if node.module == "sdcpc_ros":  # rooms, or what __init__.py itself holds
                names = {alias.name for alias in node.names} & {path.stem for path in PACKAGE.iterdir()}
                yield from (f"sdcpc_ros.{name}" for name in names)


def top_levels(tree: ast.AST) -> set[str]:
    return {module.split(".")[0] for module in imported_modules(tree)}


def rooms(tree: ast.AST) -> set[str]:
    return {module.split(".")[1] for module in imported_modules(tree) if module.startswith("sdcpc_ros.")}


def dangers(tree: ast.AST) -> list[str]:
    """What a file does that can run foreign code or a shell."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [
        *sorted(top_levels(tree) & FORBIDDEN_MODULES),
        *(ast.unparse(call.func) for call in calls if ast.unparse(call.func) in FORBIDDEN_CALLS),
        *("shell=" for call in calls if any(keyword.arg == "shell" for keyword in call.keywords)),
    ]


@pytest.fixture(scope="module")
def sources() -> dict[str, tuple[str, ast.Module]]:
    """File name -> its room and syntax tree, for every file of the package but its `__init__.py`."""
    paths = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")
    return {
        path.relative_to(ROOT).as_posix(): (path.relative_to(PACKAGE).parts[0].removesuffix(".py"), parse(path))
        for path in paths
    }


def test_every_room_has_its_doors(sources: dict[str, tuple[str, ast.Module]]) -> None:
    assert {room for room, _ in sources.values()} == set(DOORS)


def test_no_two_rooms_import_each_other() -> None:
    unplaced, built = dict(DOORS), {"msg"}
    while unplaced:
        floor = {room for room, doors in unplaced.items() if doors <= built}
        assert floor, f"these import each other in a circle: {sorted(unplaced)}"
        built |= floor
        for room in floor:
            del unplaced[room]


def test_imports_go_through_the_doors(sources: dict[str, tuple[str, ast.Module]]) -> None:
    trespasses = {file: rooms(tree) - DOORS.get(room, set()) - {room} for file, (room, tree) in sources.items()}
    assert not {file: wanted for file, wanted in trespasses.items() if wanted}


def modules(tree: ast.AST) -> set[str]:
    """The files of the package that a file imports from, as dotted names; of a package without submodules named, its
    `__init__`."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sdcpc_ros."):
            folder = ROOT / str(node.module).replace(".", "/")
            for name in (alias.name for alias in node.names):
                if not folder.is_dir():
                    found.add(str(node.module))
                elif (folder / f"{name}.py").is_file():
                    found.add(f"{node.module}.{name}")
                else:
                    found.add(f"{node.module}.__init__")
    return found


def test_no_modules_import_each_other_in_a_circle(sources: dict[str, tuple[str, ast.Module]]) -> None:
    """Imports inside functions and for type checking count too."""
    unplaced = {file.removesuffix(".py").replace("/", "."): modules(tree) for file, (_, tree) in sources.items()}
    while unplaced:
        floor = [module for module, imported in unplaced.items() if not imported & unplaced.keys()]
        assert floor, f"each of these is in a circle of imports, or imports one that is: {sorted(unplaced)}"
        for module in floor:
            del unplaced[module]


def test_ros_stays_in_its_rooms(sources: dict[str, tuple[str, ast.Module]]) -> None:
    with_ros = {room for room, tree in sources.values() if top_levels(tree) & ROS_MODULES}
    assert with_ros <= ROOMS_WITH_ROS


def test_the_network_knows_torch_and_nothing_else(sources: dict[str, tuple[str, ast.Module]]) -> None:
    known = {"torch", "sdcpc_ros", *sys.stdlib_module_names}
    strangers = {file: top_levels(tree) - known for file, (room, tree) in sources.items() if room == "network"}
    # The one kernel; imported only where a GPU runs it.
    strangers["sdcpc_ros/network/window_attention/triton_kernel.py"] -= {"triton"}
    assert not {file: names for file, names in strangers.items() if names}


def test_nothing_runs_what_data_says(sources: dict[str, tuple[str, ast.Module]]) -> None:
    others = [path for folder in ("launch", "tools", "benchmarks") for path in (ROOT / folder).glob("*.py")]
    trees = {path.name: parse(path) for path in others} | {file: tree for file, (_, tree) in sources.items()}
    found = {file: dangers(tree) for file, tree in trees.items()}
    assert not {file: what for file, what in found.items() if what}


@pytest.mark.parametrize(
    ("code", "imported", "danger"),
    [
        ("def f():\n    import rclpy.node as n", {"rclpy.node"}, []),
        ("from sdcpc_ros import nodes", {"sdcpc_ros", "sdcpc_ros.nodes"}, []),
        ("from sdcpc_ros import DEFAULT_MODEL", {"sdcpc_ros"}, []),
        ("from sdcpc_ros.bags.reader import Reader", {"sdcpc_ros.bags.reader"}, []),
        ("import pickle", {"pickle"}, ["pickle"]),
        ("x = torch.load('model.pt')", set(), ["torch.load"]),
        ("subprocess.run('ls', shell=True)", set(), ["shell="]),
        ("model.eval()", set(), []),
    ],
)
def test_the_rules_see_what_they_forbid(code: str, imported: set[str], danger: list[str]) -> None:
    tree = ast.parse(code)
    assert set(imported_modules(tree)) == imported
    assert dangers(tree) == danger


def private_patches(tree: ast.AST) -> list[str]:
    """Private names that a test patches by name: `setattr(module, "_name", ...)`, `setattr("module._name", ...)`."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
    literals = [
        argument.value
        for call in calls
        if isinstance(call.func, ast.Attribute) and call.func.attr in ("setattr", "delattr")
        for argument in call.args[:2]
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
    ]
    return [name for name in literals if name.rpartition(".")[2].startswith("_") and not name.endswith("__")]


def test_no_test_patches_a_private_name() -> None:
    found = {path.name: private_patches(parse(path)) for path in (ROOT / "test").rglob("*.py")}
    assert not {file: names for file, names in found.items() if names}
    assert private_patches(ast.parse("m.setattr(a, '_b', 1); m.setattr('a.b._c', 1); m.setattr(a, '__file__', 1)")) == [
        *("_b", "a.b._c"),
    ]
