"""Fixtures for all tests: a tiny real checkpoint, and ROS domains that tests do not share."""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from sdcpc_ros.network import SDCPC

pytest_plugins = ["bag_fixtures"]

# Before PyTorch is imported: each process of pytest-xdist has its share of the cores. With a thread for every core in
# every process the threads mostly wait for each other (test_segment_batch.py: 139 s of CPU time instead of 20).
if "PYTEST_XDIST_WORKER_COUNT" in os.environ:
    share = (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.environ.setdefault("OMP_NUM_THREADS", str(max(share, 1)))

# A script that starts the tests in the background has them ignore Ctrl-C, and with them every process that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# No time limit for a single example: on a shared machine it would fail tests for their neighbours' work.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


_FIRST_PORT = 47_000
_TURN = itertools.count()
_DOMAINS = range(1, 102)  # above, DDS ports run into those that Linux hands out


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks tests that speak to ROS, and says which tests one process runs where several share them.

    Tests of one file share its fixtures. Files that need compiled backends share these, and files that need the package
    built by colcon share the build: both take minutes. Groups with slow tests come first, so that the processes end at
    about the same time.
    """
    groups: dict[pytest.Item, str] = {}
    built = {item.path for item in items if "sourced" in getattr(item, "fixturenames", ())}
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        if {"ros_domain", "module_ros_domain"} & fixtures or "/system/" in item.path.as_posix():
            item.add_marker(pytest.mark.ros)
        if {"compiled", "swap", "robot_cache"} & fixtures:
            item.add_marker(pytest.mark.slow)
        if item.config.pluginmanager.hasplugin("xdist"):
            group = item.path.relative_to(item.config.rootpath).as_posix()
            if group.startswith("test/inference/") or item.path.name == "test_compiled_node.py":
                group = "compiled backends"
            elif item.path in built:
                group = "colcon build"
            item.add_marker(pytest.mark.xdist_group(group))
            groups[item] = group
    long = {group for item, group in groups.items() if {"ros", "slow"} & {mark.name for mark in item.iter_markers()}}
    items.sort(key=lambda item: groups.get(item) not in long)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Packages that a developer has compiled for the shipped models play no part."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SDCPC_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _no_build_is_left() -> Iterator[None]:
    """Fails a test after which a backend is still built in this process: it would hold up later captures and builds."""
    yield
    backend = sys.modules.get("sdcpc_ros.inference.backend")
    give_up_s = time.monotonic() + 5
    while backend is not None:
        with backend.holding_builds() as none_runs:
            if none_runs:
                return
        assert time.monotonic() < give_up_s, "this test has left the build of a backend behind"
        time.sleep(0.05)


@contextmanager
def _reserved_domain() -> Iterator[int]:
    """A ROS domain id that no other test of this machine holds; a bound port is the lock, freed whatever happens."""
    for _ in range(len(_DOMAINS)):
        # Another one each time: a node that outlives its test cannot answer the next.
        domain = _DOMAINS[(os.getpid() * 7 + next(_TURN)) % len(_DOMAINS)]
        with socket.socket() as lock:
            try:
                lock.bind(("127.0.0.1", _FIRST_PORT + domain))
            except OSError:
                continue
            yield domain
            return
    raise RuntimeError("every ROS domain is taken by another test")


@contextmanager
def _isolated_ros(log_folder: Path) -> Iterator[int]:
    with _reserved_domain() as domain, pytest.MonkeyPatch.context() as environment:
        environment.setenv("ROS_DOMAIN_ID", str(domain))
        if os.environ.get("ROS_DISTRO") == "humble":
            environment.setenv("ROS_LOCALHOST_ONLY", "1")
        else:
            environment.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        environment.setenv("ROS_LOG_DIR", str(log_folder))
        yield domain


@pytest.fixture
def ros_domain(tmp_path: Path) -> Iterator[int]:
    """This test's own ROS domain, set in the environment with the discovery range and log folder."""
    with _isolated_ros(tmp_path / "ros_log") as domain:
        yield domain


@pytest.fixture(scope="module")
def module_ros_domain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """As `ros_domain`, for tests of one module that share a node."""
    with _isolated_ros(tmp_path_factory.mktemp("ros_log")) as domain:
        yield domain


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with random weights whose network takes milliseconds: CamVid's classes, 96 x 128 px."""
    import torch

    from sdcpc_ros.labels.label_set import CAMVID_11
    from sdcpc_ros.model_files.checkpoint import Checkpoint, save_checkpoint
    from sdcpc_ros.network import SDCPC, SDCPCConfig

    config = SDCPCConfig(
        num_classes=len(CAMVID_11),
        encoder="resnet_tiny",
        embed_dim=16,
        key_dim=16,
        reference_offsets=(1, 2),
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        weights = SDCPC(config).state_dict()
        # Random biases would outweigh what random weights see: every pixel of one class, and none surer than another.
        for name, tensor in weights.items():
            if name.endswith("classify.bias"):
                tensor.zero_()
            elif name.endswith("classify.weight"):
                tensor.mul_(20)
    path = tmp_path_factory.mktemp("models") / "tiny.safetensors"
    save_checkpoint(
        path,
        Checkpoint(
            config=config,
            label_set=CAMVID_11,
            mean=(123.7, 116.3, 103.5),
            std=(58.4, 57.1, 57.4),
            input_size=(96, 128),
            state_dict=weights,
        ),
    )
    return path


@pytest.fixture(scope="session")
def recurrent_checkpoint(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny_checkpoint` with an open gate and a recurrent memory: every frame's labels depend on all before it."""
    from dataclasses import replace

    import torch

    from sdcpc_ros.model_files.checkpoint import load_checkpoint, save_checkpoint

    checkpoint = load_checkpoint(tiny_checkpoint)
    open_gate = {"dssa.gate.2.bias": torch.full((1,), 2.0)}
    path = tmp_path_factory.mktemp("models") / "recurrent.safetensors"
    config = replace(checkpoint.config, recurrent=True)
    save_checkpoint(path, replace(checkpoint, config=config, state_dict={**checkpoint.state_dict, **open_gate}))
    return path


@pytest.fixture(scope="session")
def as_if_trained() -> Callable[[SDCPC], SDCPC]:
    """Changes a network of random weights, in place, so that its labels vary over an image and its past counts."""
    import torch

    def change(network: SDCPC) -> SDCPC:
        training = network.training
        network.eval()
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(0)
            torch.nn.init.normal_(network.dssa.gate[2].weight)
            torch.nn.init.constant_(network.dssa.gate[2].bias, 2.0)  # the gate is open
            classify = network.head.classify
            logits = network.encode(torch.randn(1, 3, 96, 128)).logits
            scale = 2 / logits.std((0, 2, 3))
            classify.weight *= scale[:, None, None, None]
            classify.bias.copy_((classify.bias - logits.mean((0, 2, 3))) * scale)
            classify.bias[0] += 2  # one class is wide: votes spare thin ones
        return network.train(training)

    return change


@pytest.fixture(scope="session")
def make_network(as_if_trained: Callable[[SDCPC], SDCPC]) -> Callable[[], SDCPC]:
    """Makes a tiny network whose past counts, the same each time."""
    import torch

    from sdcpc_ros.network import SDCPC, SDCPCConfig

    def make() -> SDCPC:
        sizes = {"embed_dim": 16, "key_dim": 16, "pool_grids": (1, 2)}  # few pools: compilers unroll each
        config = SDCPCConfig(5, encoder="resnet_tiny", reference_offsets=(1, 2), **sizes)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            network = SDCPC(config)
            for module in network.modules():  # so that folding a norm away changes something
                if isinstance(module, torch.nn.BatchNorm2d):
                    module.running_mean.normal_(std=0.1)
                    module.running_var.uniform_(0.5, 1.5)
        return as_if_trained(network.eval())

    return make


@pytest.fixture(scope="session")
def robot_model(make_network: Callable[[], SDCPC], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`make_network`'s as a checkpoint, for 64 x 96 px."""
    from sdcpc_ros.labels.label_set import LabelSet
    from sdcpc_ros.model_files.checkpoint import Checkpoint, save_checkpoint

    network = make_network()
    path = tmp_path_factory.mktemp("robot") / "model.safetensors"
    label_set = LabelSet(name="five", class_names=tuple("abcde"), colours=tuple((40 * i, 90, 200) for i in range(5)))
    checkpoint = Checkpoint(
        config=network.config,
        label_set=label_set,
        mean=(110.0, 115.0, 120.0),
        std=(60.0, 61.0, 62.0),
        input_size=(64, 96),
        state_dict=network.state_dict(),
    )
    save_checkpoint(path, checkpoint)
    return path


@pytest.fixture(scope="session")
def robot_cache(robot_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `sdcpc export --format aot` writes of `robot_model`, to be copied to a robot; takes tens of seconds."""
    import torch

    from sdcpc_ros.cli import main
    from sdcpc_ros.inference import BackendError, Step
    from sdcpc_ros.inference.aot import check_can_write
    from sdcpc_ros.model_files.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(robot_model)
    try:
        check_can_write(Step(checkpoint.build_model(), checkpoint.mean, checkpoint.std, torch.device("cpu")))
    except BackendError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("robot_cache")
    assert main(["export", str(robot_model), "--format", "aot", "-o", str(folder)]) == 0
    return folder


@pytest.fixture
def note_fault(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Notes a fault that a test has held the node to, for tools/fault_table.py: a line of JSON in SDCPC_FAULT_REPORT.

    Called last, when all that is noted has been asserted; does nothing without that variable.
    """

    def note(fault: str, *, sent: int, counted: Mapping[str, int], served: int) -> None:
        """counted: what the node counted; served: good frames that it answered after the fault."""
        assert sent > 0
        file = os.environ.get("SDCPC_FAULT_REPORT")
        if file:
            test = request.node.nodeid.partition("@")[0].partition("[")[0]  # behind @ its group among processes
            row = {"fault": fault, "sent": sent, "counted": dict(counted), "served": served, "test": test}
            with open(file, "a", encoding="utf-8") as report:
                report.write(json.dumps(row) + "\n")

    return note
