"""The `sdcpc` command. Each subcommand is a module of `sdcpc_ros.commands`; only the chosen one is imported."""

from __future__ import annotations

import argparse
import importlib
import os
import select
import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType

from sdcpc_ros import __version__
from sdcpc_ros.runtime.installation import install_advice
from sdcpc_ros.runtime.openmp import limit_omp_spin
from sdcpc_ros.runtime.process_memory import configure_malloc
from sdcpc_ros.runtime.wording import error_sentence

#: Subcommand -> its line in `sdcpc --help`. The description in its own help is the docstring of its module.
COMMANDS = {
    "demo": "play a bag to the ROS node and show the results",
    "evaluate": "score a model on labelled video",
    "evaluate-bag": "run bags through the node's segmenter and write reports",
    "make-bag": "write a folder of images and labels as a bag",
    "compare": "compare reports of one recording",
    "segment": "segment a video, images or a bag into a video or label images",
    "view": "show images, masks and scores in Rerun",
    "train": "train a model on labelled video",
    "import-weights": "import a public segmenter, or encoder weights for training",
    "import-onnx": "import any segmenter from an ONNX file",
    "doctor": "find what keeps the ROS node from working",
    "export": "write a model for a robot: ONNX, a compiled package, a TensorRT engine",
    "models": "list the shipped models",
    "info": "print a model card",
}

#: Exit statuses after SIGINT and SIGTERM, as of a shell.
_INTERRUPTED, _TERMINATED = 130, 143
#: Exit status if the reader of stdout has closed the pipe, as after SIGPIPE.
_READER_LEFT = 141


class _Terminated(KeyboardInterrupt):
    """SIGTERM ends a command as Ctrl-C does: half-written files are removed, and a node that was started is stopped."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status: 1 after one sentence on stderr, 2 (argparse) for wrong usage."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if "_ARGCOMPLETE" in os.environ:
        _complete()
    # Before PyTorch and OpenCV are imported and threads start, as in the node.
    configure_malloc()
    limit_omp_spin()
    os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(1 << 26))  # as `MAX_PIXELS`, for WebP, TIFF and others
    chosen = arguments[0] if arguments else ""
    on_main_thread = threading.current_thread() is threading.main_thread()  # others may set no signal handler
    before = signal.signal(signal.SIGTERM, _terminate) if on_main_thread else None
    try:
        parsed = build_parser(chosen).parse_args(arguments)
        status = parsed.run(parsed) or 0
        sys.stdout.flush()
        return status
    except (ValueError, OSError) as error:
        if isinstance(error, BrokenPipeError) and _reader_has_left():
            return _READER_LEFT
        print(f"sdcpc {chosen}: {error_sentence(error)}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        package = str(error.name).split(".")[0]
        advice = install_advice(package)
        if advice is None:
            raise
        print(f"sdcpc {chosen}: no Python package '{package}'; to get it: {advice}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        terminated = isinstance(stop, _Terminated)
        print(f"sdcpc {chosen}: {'terminated' if terminated else 'interrupted'}", file=sys.stderr)
        return _TERMINATED if terminated else _INTERRUPTED
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise _Terminated


def build_parser(chosen: str) -> argparse.ArgumentParser:
    """The whole command line. Only `chosen`, the subcommand to be parsed, is imported and has its options."""
    parser = argparse.ArgumentParser(
        prog="sdcpc",
        description="Temporally consistent semantic segmentation of video: show, evaluate, train, inspect.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary)
        if name == chosen:
            module = importlib.import_module(f"sdcpc_ros.commands.{name.replace('-', '_')}")
            command.description = module.__doc__
            module.add_arguments(command)
            command.set_defaults(run=module.run, parser=command)
    return parser


def _complete() -> None:
    """Prints the completions for the shell and ends the process, unless argcomplete or a needed package is missing."""
    words = os.environ.get("COMP_LINE", "").split()
    with suppress(ModuleNotFoundError):
        import argcomplete

        argcomplete.autocomplete(build_parser(chosen=words[1] if len(words) > 1 else ""))


def _reader_has_left() -> bool:
    """Whether the reader of stdout, a pipe, has closed it, as `| head` does. Then silences Python's flush at exit."""
    stdout = select.poll()
    stdout.register(sys.stdout.fileno(), 0)  # POLLERR only
    if not stdout.poll(0):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True


if __name__ == "__main__":
    sys.exit(main())
