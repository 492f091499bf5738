"""Compiles an exported network in a process of its own, so that a robot's streams keep their cores and memory."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import warnings
from contextlib import suppress
from pathlib import Path

import torch
from torch.export import ExportedProgram

from sdcpc_ros.inference.inductor import leave_cores_to_the_stream

#: How often the wait for the compiler looks whether this process is to end.
_POLL_S = 0.1
_LOWEST_PRIORITY = 19  # as niceness


def compile_package(program: ExportedProgram, package: Path) -> None:
    """Compiles a program for the CPU ahead of time and writes it to the file `package`.

    Called in a thread other than the main one, it compiles at the lowest priority, since frames come meanwhile. Raises
    RuntimeError with the last line of the compiler's output.
    """
    # PyTorch warns of weights that are not contiguous, such as channels-last ones. It writes them whole.
    warnings.filterwarnings("ignore", "No complete tensor found in the group")
    with tempfile.TemporaryDirectory(dir=package.parent) as folder:
        exported = Path(folder, "program.pt2")
        torch.export.save(program, exported)
        # With -m, Python would run this module a second time. The compiled code has a fixed number of threads.
        command = [sys.executable, "-c", f"import {__name__} as module; module._main()"]
        in_background = threading.current_thread() is not threading.main_thread()
        command += [str(exported.resolve()), str(package.resolve())]
        command += [str(torch.get_num_threads()), str(_LOWEST_PRIORITY if in_background else 0)]
        with Path(folder, "output.txt").open("w+", errors="replace") as output:
            with subprocess.Popen(
                command,
                cwd=folder,  # Python imports from the current folder first
                env={**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))},
                stdin=subprocess.PIPE,  # never written to: it is closed when this process ends
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C does not reach it, and it ends together with its g++
            ) as compiler:
                try:
                    _wait(compiler)
                finally:
                    if compiler.poll() is None:
                        os.killpg(compiler.pid, signal.SIGKILL)
            output.seek(0)
            lines = output.read().strip().splitlines() or [f"the compiler ended with {compiler.returncode}"]
    if compiler.returncode:
        raise RuntimeError(lines[-1])


def _wait(process: subprocess.Popen[bytes]) -> None:
    """Waits for the end of a process. The waits are short, because a thread can only be ended between them."""
    while process.poll() is None:
        with suppress(subprocess.TimeoutExpired):
            process.wait(_POLL_S)


def _main() -> None:
    """The other process. Its arguments: the files of program and package, the number of threads, the niceness."""
    threading.Thread(target=_end_with_the_caller, daemon=True).start()
    exported, package, threads, niceness = sys.argv[1:]
    os.nice(int(niceness))
    torch.set_num_threads(int(threads))
    importlib.import_module("sdcpc_ros.network")  # registers the operators
    write_package(torch.export.load(exported), Path(package))


def _end_with_the_caller() -> None:
    """Kills this process and its g++ when the caller has ended, also when that was killed."""
    os.read(sys.stdin.fileno(), 1)  # returns when the caller's end of the pipe is closed
    os.killpg(0, signal.SIGKILL)


def write_package(program: ExportedProgram, package: Path) -> None:
    """Compiles a program ahead of time in this process."""
    leave_cores_to_the_stream()
    # Weights become constants, laid out for a CPU's convolutions; only where gradients are off.
    options = {"freezing": next(iter(program.state_dict.values())).device.type == "cpu"}
    if hasattr(torch._inductor.config.aot_inductor, "precompile_headers"):
        options["aot_inductor.precompile_headers"] = False  # for one package they take longer than they save
    with torch.no_grad():
        torch._inductor.aoti_compile_and_package(program, package_path=str(package), inductor_configs=options)
