"""The benchmarks are no part of the package: they are imported from the source tree, which comes last on the path."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2]))
