"""Where compiled networks are kept, and the names that say what each was compiled from and for."""

from __future__ import annotations

import hashlib
import os
import platform
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from sdcpc_ros import __version__
from sdcpc_ros.inference.errors import BackendError
from sdcpc_ros.inference.step import Step
from sdcpc_ros.network.dynamic_alignment import memory_shapes

#: The environment variable that names the folder.
VARIABLE = "SDCPC_CACHE"


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


def file_name(backend: str, suffix: str, step: Step, size: tuple[int, int], made_for: dict[str, str]) -> str:
    """`<backend>-<W>x<H>-<precision>-<processor>-torch<version>-<key>.<suffix>`.

    The key covers weights, configuration, normalisation, size, what is remembered of a frame, precision and all of
    `made_for`; the rest of the name is for people.
    """
    precision = str(step.scale.dtype).removeprefix("torch.")
    digest = hashlib.sha256()
    memory = memory_shapes(step.config, size)
    digest.update(repr((backend, step.config.to_dict(), size, memory, precision, sorted(made_for.items()))).encode())
    for name, tensor in sorted(step.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return (
        f"{backend}-{size[1]}x{size[0]}-{precision}-{made_for['processor']}-torch{made_for['torch']}-"
        f"{digest.hexdigest()[:16]}.{suffix}"
    )


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, which becomes `path`, whole, when the block ends well.

    Raises BackendError when the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".building-", dir=path.parent))
    except OSError as error:
        choice = f", or name another folder in {VARIABLE}" if path.parent == cache_folder() else ""
        raise BackendError(
            f"'{path.name}' cannot be kept in '{path.parent}' ({error.strerror}): make it a writable folder{choice}"
        ) from error
    temporary = folder / path.name
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
        folder.rmdir()


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
