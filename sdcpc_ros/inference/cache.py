"""Where compiled networks are kept, under names that say what each was compiled from and for."""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import torch

from sdcpc_ros import __version__, network
from sdcpc_ros.inference import step as step_module
from sdcpc_ros.inference.eager import BackendError
from sdcpc_ros.inference.precision import precision_name
from sdcpc_ros.inference.step import Step
from sdcpc_ros.runtime.atomic_file import atomic_path

#: The environment variable that names the folder.
VARIABLE = "SDCPC_CACHE"
#: The code that is compiled.
CODE_PLACES = (Path(network.__file__).parent, Path(step_module.__file__))
_POLL_S = 0.5

_Size = tuple[int, int]


def cache_folder() -> Path:
    """$SDCPC_CACHE, or sdcpc_ros in the user's cache folder."""
    if os.environ.get(VARIABLE):
        return Path(os.environ[VARIABLE]).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sdcpc_ros"


def target(device: torch.device, **versions: str) -> dict[str, str]:
    """What compiled code depends on besides the network: the processor and the versions of what compiled it."""
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        processor = f"{properties.name}-sm{properties.major}{properties.minor}"
    else:
        processor = f"{platform.machine()}-{torch.backends.cpu.get_cpu_capability()}"
    return {"processor": processor.replace(" ", "_"), "torch": torch.__version__, "sdcpc_ros": __version__, **versions}


class FileFormat(NamedTuple):
    """A form of file that a network is written to, for one network size (height, width)."""

    suffix: str
    check: Callable[[Step], None]  #: raises BackendError saying what writing lacks here; quick
    #: Given a path and what the file is to say of itself, which some formats cannot.
    write: Callable[[Step, _Size, Path, Mapping[str, str]], None]
    backend: str = ""  #: that looks for such files in the cache folder; empty where the user names the file
    noun: str = "file"
    place: str = ""  #: what kind of machine can write it
    made_for: Callable[[torch.device], dict[str, str]] = target  #: what files depend on besides the network


def file_name(form: FileFormat, step: Step, size: _Size) -> str:
    """`<backend>-<W>x<H>-<precision>-<processor>-torch<version>-<key>.<suffix>`, as far as `made_for` has them.

    The key covers weights, configuration, normalisation, size, precision, the network's code, as it may change while
    the version stays, and all of `made_for`; the rest of the name is for people.
    """
    precision, made_for = precision_name(step.dtype), sorted(form.made_for(step.mean.device).items())
    digest = hashlib.sha256()
    about = form.backend, step.config.to_dict(), size, precision, digest_of_code(CODE_PLACES), made_for
    digest.update(repr(about).encode())
    for name, tensor in sorted(step.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return _name(form, step, f"{size[1]}x{size[0]}", digest.hexdigest()[:16])


def cached_file(form: FileFormat, step: Step, size: _Size) -> Path | None:
    """The file of this network and size in the cache folder, or None."""
    if not any(cache_folder().glob(_name(form, step, f"{size[1]}x{size[0]}", "*"))):
        return None  # without reading all weights for the key
    path = cache_folder() / file_name(form, step, size)
    return path if path.is_file() else None


def write_file(form: FileFormat, step: Step, size: _Size, path: Path, metadata: Mapping[str, str]) -> None:
    """Writes `path`, whole or not at all. Raises BackendError as `form.check`, or if the folder cannot be written."""
    form.check(step)
    with ExitStack() as stack:
        with _writable_folder(path):
            temporary = stack.enter_context(atomic_path(path))
        with torch.no_grad():
            form.write(step, size, temporary, metadata)


def kept_file(form: FileFormat, step: Step, size: _Size) -> Path:
    """The file of a network in the cache folder, written if it is not there.

    Raises BackendError as `write_file`, or if others than the user could have put it there.
    """
    path = cache_folder() / file_name(form, step, size)
    if not path.is_file():
        _check_can_write(form, step, path)
        with only_builder(path):
            if not path.is_file():  # nor has another process written it meanwhile
                write_file(form, step, size, path, {})
    check_trusted(path)
    return path


def check_kept(form: FileFormat, step: Step) -> None:
    """Raises BackendError if no file of any size is kept for such a network, and none can be written here."""
    pattern = _name(form, step, "*", "*")
    if not any(cache_folder().glob(pattern)):
        _check_can_write(form, step, cache_folder() / pattern)


def _check_can_write(form: FileFormat, step: Step, path: Path) -> None:
    try:
        form.check(step)
    except BackendError as error:
        raise BackendError(
            f"backend '{form.backend}' finds no {form.noun} '{path}', nor can it make one: {error}. Write it with "
            f"`sdcpc export --format {form.backend}` on {form.place}, and copy it there"
        ) from error


def _name(form: FileFormat, step: Step, size: str, key: str) -> str:
    made_for = form.made_for(step.mean.device)
    where = [prefix + made_for[name] for name, prefix in (("processor", ""), ("torch", "torch")) if name in made_for]
    return "-".join((form.backend, size, precision_name(step.dtype), *where, key + form.suffix))


@lru_cache(maxsize=1)
def digest_of_code(places: tuple[Path, ...]) -> str:
    digest = hashlib.sha256()
    for place in places:
        for file in [place] if place.is_file() else sorted(place.rglob("*.py")):
            digest.update(f"{file.relative_to(place)} {len(code := file.read_bytes())} ".encode() + code)
    return digest.hexdigest()


@contextmanager
def _writable_folder(path: Path) -> Iterator[None]:
    """Makes the folder of `path`. Raises BackendError for an OSError there or within the block."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        choice = f", or name another folder in {VARIABLE}" if path.parent == cache_folder() else ""
        raise BackendError(
            f"'{path.name}' cannot be kept in '{path.parent}' ({error.strerror}): make it a writable folder{choice}"
        ) from error


@contextmanager
def only_builder(path: Path) -> Iterator[None]:
    """Waits until no other process builds a file in the folder of `path`: several nodes of a robot start together.

    Removes what killed processes have left of such files. Raises BackendError when the folder cannot be written.
    """
    with _writable_folder(path):
        descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        while not _locked(descriptor, path):
            time.sleep(_POLL_S)
        yield
    finally:
        os.close(descriptor)


def _locked(descriptor: int, path: Path) -> bool:
    """Tries to lock the folder of `path`, and cleans it then. True as well if the file system has no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return not isinstance(error, BlockingIOError)
    backend = path.name.partition("-")[0]
    for left in path.parent.glob(f".{backend}-*{path.suffix}.*"):
        shutil.rmtree(left, ignore_errors=True)
    return True


def check_trusted(path: Path) -> None:
    """A compiled network is machine code. Raises BackendError when others than its user could have put it there."""
    path = path.resolve()
    for place in (path, path.parent):
        status = place.stat()
        if status.st_uid not in (os.getuid(), 0) or status.st_mode & stat.S_IWOTH:
            raise BackendError(
                f"'{place}' belongs to another user or is writable by everyone, and what is in it would run as you: "
                f"correct that, or name another folder in {VARIABLE}"
            )
