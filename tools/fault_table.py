"""Write docs/faults.md from the notes of the fault tests: fault, number sent, counts, good frames served after it.

SDCPC_FAULT_REPORT=faults.jsonl pytest test/system/node test/nodes/test_hostile_messages.py
python tools/fault_table.py faults.jsonl > docs/faults.md
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

_HEAD = """# Fault tests of the node

Each row is a test that passed. The test sent the fault, asserted that the node survived and counted
it, and that the node then served good frames. Written on {date}, on {processors} processors, by
`tools/fault_table.py` from the tests' notes; [node.md](node.md#faults-and-load) has the commands.

Images are sent best effort, so fewer may arrive than were sent. The counts include the good frames
in between. *Through the conversion layer* means without a node; the counts are the results of the
conversions.

| fault | sent | counts | good frames served after it | test |
|---|---|---|---|---|
"""


class BadReport(ValueError):
    """An invalid fault report; the message names the file and the line."""


def read_rows(files: Sequence[Path]) -> list[dict[str, Any]]:
    """The last note of each fault. Raises BadReport."""
    rows: dict[str, dict[str, Any]] = {}
    for file in files:
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise BadReport(f"{file} cannot be read: {error.strerror}") from None
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line)
                rows[row["fault"]] = {key: row[key] for key in ("fault", "sent", "counted", "served", "test")}
            except (ValueError, KeyError, TypeError):
                raise BadReport(f"{file}, line {number} is no line of a fault report") from None
    if not rows:
        raise BadReport(f"no fault is noted in {', '.join(map(str, files))}")
    return list(rows.values())


def markdown(rows: Iterable[dict[str, Any]]) -> str:
    lines = [_HEAD.format(date=datetime.date.today(), processors=os.cpu_count())]
    for row in rows:
        counted = ", ".join(f"{key} {count:,}" for key, count in row["counted"].items()) or "nothing to count"
        test = row["test"].removeprefix("test/")
        lines.append(f"| {row['fault']} | {row['sent']:,} | {counted} | {row['served']:,} | `{test}` |\n")
    return "".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reports", type=Path, nargs="+", metavar="FILE", help="a file that SDCPC_FAULT_REPORT named")
    arguments = parser.parse_args()
    try:
        print(markdown(read_rows(arguments.reports)), end="")
    except BadReport as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
