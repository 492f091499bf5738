import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: Asks itself to end again and again while other threads start threads: Linux then gives them a share of the signals.
PROGRAM = """
import os, signal, sys, threading
from sdcpc_ros.nodes.stop_signals import StopSignals

def start_threads():
    while True:
        thread = threading.Thread(target=int)
        thread.start()
        thread.join()

signals = StopSignals()
for _ in range(2):
    threading.Thread(target=start_threads, daemon=True).start()
for _ in range(100):
    timer = threading.Timer(0.002, os.kill, (os.getpid(), getattr(signal, sys.argv[1])))
    timer.start()
    signals.wait()
signals.ignore()
os.kill(os.getpid(), getattr(signal, sys.argv[1]))
print("ended by itself", flush=True)
os._exit(0)
"""


def run(signal_name: str, program: str = PROGRAM) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program, signal_name], capture_output=True, text=True, timeout=60)


def test_no_signal_is_lost_whatever_the_threads_do():
    for name in ("SIGINT", "SIGTERM"):
        result = run(name)
        assert (result.returncode, result.stdout) == (0, "ended by itself\n"), result.stderr


def test_a_signal_that_came_before_the_wait_counts_and_others_do_not():
    program = """
import os, signal, sys
from sdcpc_ros.nodes.stop_signals import StopSignals
signals = StopSignals()
signal.signal(signal.SIGUSR1, lambda *_: print("not for us", flush=True))
os.kill(os.getpid(), signal.SIGUSR1)
signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
signal.alarm(1)
signals.wait()
os.kill(os.getpid(), signal.SIGINT)
signals.wait()
print("ended by itself")
"""
    result = run("", program)
    assert (result.returncode, result.stdout) == (0, "not for us\nended by itself\n"), result.stderr


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize(
    "program",
    [
        *([str(ROOT / "scripts" / name)] for name in ("segmentation_node", "mask_checker", "dynamic_object_mask")),
        *(["-m", f"sdcpc_ros.{name}"] for name in ("nodes.segmentation_node", "consumers.mask_checker")),
        ["-m", "sdcpc_ros.consumers.dynamic_object_mask"],
    ],
)
def test_a_signal_while_the_node_imports_ros_ends_it_without_a_traceback(tmp_path, program, name):
    (tmp_path / "rclpy.py").write_text(f"import os, signal; os.kill(os.getpid(), signal.{name}); signal.pause()")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    result = subprocess.run([sys.executable, *program], env=environment, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stderr) == (0, "")
