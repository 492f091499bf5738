"""`benchmarks` is no installed package: found in the source tree, after everything that is installed or built."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2]))
