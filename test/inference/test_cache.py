"""Names of compiled networks, and files that are there whole or not at all."""

from __future__ import annotations

import dataclasses
import os
import threading
from pathlib import Path

import pytest
import torch

from sdcpc_ros.inference import BackendError, Step, cache
from sdcpc_ros.inference import step as step_module
from sdcpc_ros.inference.cache import (
    FileFormat,
    cache_folder,
    check_trusted,
    digest_of_code,
    file_name,
    kept_file,
    target,
    write_file,
)

MEAN, STD = (110.0, 115.0, 120.0), (60.0, 61.0, 62.0)  # as of the fixture `step`
SIZE = (64, 96)

HERE = {"processor": "x86_64-AVX2", "torch": "2.9.0"}


def _name(step: Step, size=SIZE, made_for=HERE, backend="aot") -> str:
    form = FileFormat(".pt2", lambda step: None, lambda *it: None, backend, made_for=lambda device: made_for)
    return file_name(form, step, size)


def test_a_name_says_what_for(step: Step):
    assert _name(step).startswith("aot-96x64-float32-x86_64-AVX2-torch2.9.0-") and _name(step).endswith(".pt2")
    made_for = target(torch.device("cpu"), tensorrt="10.3")
    assert made_for["torch"] == torch.__version__ and made_for["tensorrt"] == "10.3"
    assert " " not in made_for["processor"] and os.uname().machine in made_for["processor"]


def test_the_same_network_has_the_same_name(step: Step, make_network):
    assert _name(step) == _name(Step(make_network(), MEAN, STD))


@pytest.mark.parametrize("what", ["weights", "mean", "size", "version", "backend", "config", "precision"])
def test_whatever_matters_changes_the_key(step: Step, make_network, what):
    network = make_network()
    if what == "weights":
        with torch.no_grad():
            bias = network.head.classify.bias
            bias[0] = torch.nextafter(bias[0], bias[0] + 1)  # by as little as can be
    if what == "config":
        network.config = dataclasses.replace(network.config, fine_radius=1)
    dtype = torch.float16 if what == "precision" else torch.float32
    other = Step(network, (1.0, 2.0, 3.0) if what == "mean" else MEAN, STD, dtype=dtype)
    size = (96, 64) if what == "size" else SIZE
    made_for = HERE | {"torch": "2.9.1"} if what == "version" else HERE | {}
    backend = "tensorrt" if what == "backend" else "aot"
    assert _key(_name(other, size, made_for, backend)) != _key(_name(step))


def test_other_code_is_another_network(step: Step, monkeypatch, tmp_path):
    """Whatever the version says: between two releases it says the same."""
    (tmp_path / "network").mkdir()
    names = set()
    for code in ("x + 1", "x + 2"):
        (tmp_path / "network" / "module.py").write_text(code)
        digest_of_code.cache_clear()
        monkeypatch.setattr(cache, "CODE_PLACES", (tmp_path / "network", Path(step_module.__file__)))
        names.add(_name(step))
    monkeypatch.undo()
    assert len({*names, _name(step)}) == 3


def _key(name: str) -> str:
    return name.rpartition("-")[2]


def test_the_folder_is_the_users_choice(monkeypatch, tmp_path):
    monkeypatch.setenv("SDCPC_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
    monkeypatch.delenv("SDCPC_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "sdcpc_ros"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "sdcpc_ros"


def _write(step: Step, path: Path, write) -> None:
    form = FileFormat(".pt2", lambda step: None, lambda step, size, path, metadata: write(path))
    write_file(form, step, SIZE, path, {})


def _write_nothing(path: Path) -> None:
    raise AssertionError("there is nothing to write to")


def test_a_new_file_is_there_whole(step: Step, tmp_path):
    path = tmp_path / "a" / "b" / "network.pt2"

    def write(temporary: Path) -> None:
        temporary.write_text("half")
        assert temporary.name == path.name and not path.exists()
        temporary.write_text("whole")

    _write(step, path, write)
    assert path.read_text() == "whole" and list(path.parent.iterdir()) == [path]


def test_or_not_at_all(step: Step, tmp_path):
    path = tmp_path / "network.pt2"
    path.write_text("the old one")

    def write(temporary: Path) -> None:
        temporary.write_text("half")
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        _write(step, path, write)
    assert path.read_text() == "the old one" and list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_written_is_named(step: Step, tmp_path, monkeypatch):
    """A file in its place: no permission stops the super-user."""
    (tmp_path / "taken").write_text("")
    monkeypatch.setenv("SDCPC_CACHE", str(tmp_path / "taken"))
    with pytest.raises(BackendError, match=r"'n.pt2' cannot be kept in '.*taken'.*another folder in SDCPC_CACHE"):
        _write(step, cache_folder() / "n.pt2", _write_nothing)


@pytest.mark.skipif(os.getuid() == 0, reason="nothing is forbidden to the super-user")
def test_a_read_only_folder_is_named(step: Step, tmp_path, monkeypatch):
    monkeypatch.setenv("SDCPC_CACHE", str(tmp_path))
    tmp_path.chmod(0o500)
    with pytest.raises(BackendError, match="Permission denied"):
        _write(step, tmp_path / "n.pt2", _write_nothing)


@pytest.mark.parametrize(("file_mode", "folder_mode"), [(0o666, 0o755), (0o644, 0o777)])
def test_what_anyone_could_have_written_is_not_trusted(tmp_path, file_mode, folder_mode):
    path = tmp_path / "n.pt2"
    path.write_text("")
    check_trusted(path)
    path.chmod(file_mode)
    tmp_path.chmod(folder_mode)
    with pytest.raises(BackendError, match=r"writable by everyone.*SDCPC_CACHE"):
        check_trusted(path)


def test_a_link_is_followed_to_what_would_run(tmp_path):
    loose = tmp_path / "loose"
    loose.mkdir()
    (loose / "n.pt2").write_text("")
    loose.chmod(0o777)
    link = tmp_path / "n.pt2"
    link.symlink_to(loose / "n.pt2")
    with pytest.raises(BackendError, match="loose"):
        check_trusted(link)


def test_a_second_process_waits_for_the_first_and_takes_its_file(step: Step, tmp_path, monkeypatch):
    """A lock of a file belongs to whoever opened it, so two threads stand for two processes."""
    monkeypatch.setenv("SDCPC_CACHE", str(tmp_path))
    written, found = [], []

    def write(step, size, path, metadata):
        written.append(path)
        second.start()
        second.join(0.5)
        assert second.is_alive() and not found
        path.write_text("compiled")

    form = FileFormat(".pt2", lambda step: None, write, "aot")
    path = tmp_path / file_name(form, step, SIZE)
    second = threading.Thread(target=lambda: found.append(kept_file(form, step, SIZE)))
    assert kept_file(form, step, SIZE) == path
    second.join(30)
    assert found == [path] and len(written) == 1


def test_what_a_killed_process_left_is_removed(step: Step, tmp_path, monkeypatch):
    monkeypatch.setenv("SDCPC_CACHE", str(tmp_path))
    (tmp_path / ".aot-32x32.pt2.x").mkdir()
    (tmp_path / ".aot-32x32.pt2.x" / "aot-32x32.pt2").write_text("half")
    form = FileFormat(".pt2", lambda step: None, lambda *it: it[2].write_text("it"), "aot")
    kept_file(form, step, SIZE)
    assert [path.name for path in tmp_path.iterdir()] == [file_name(form, step, SIZE)]
