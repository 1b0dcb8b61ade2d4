"""Rows for the table in docs/boards.md, out of reports that owners sent.

    pawlatch bench model/edge --report board.json      # on the board
    python tests/bench/board_table.py board.json ...

A file that is no report, or whose numbers cannot be, is named and ends it with status 2. Emulated boards are marked as such.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pawlatch.benchreport import HEADER, markdown_rows, read_report
from pawlatch.errors import PawlatchError


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("report", type=Path, nargs="+")
    args = parser.parse_args(argv)
    try:
        reports = [read_report(path) for path in args.report]
    except PawlatchError as error:
        print(f"board_table: {error}", file=sys.stderr)
        return 2
    print("\n".join([*HEADER, *(row for report in reports for row in markdown_rows(report))]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
