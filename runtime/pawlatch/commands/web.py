"""`pawlatch web token`: what opens the door's page."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pawlatch.config import read_config
from pawlatch.journal_options import default_folder
from pawlatch.web.tokens import Kind, Tokens


def web(argv: list[str]) -> int:
    """Make a token, keep its hash, and print it this once."""
    parser = argparse.ArgumentParser(
        prog="pawlatch web", description="The door's page, which `pawlatch run` serves where door.toml has a port below [web].")
    parser.add_argument("what", choices=("token",),
                        help="token: make the one that opens the page, in place of the one there was, and print it this once; "
                             "whoever is logged in by the one before is logged out")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--config", type=Path, metavar="door.toml", help="the door's settings, which name the journal's folder")
    where.add_argument("--journal", type=Path, default=default_folder(), metavar="DIR", help="that folder (here: %(default)s)")
    parser.add_argument("--metrics", action="store_true", help="a token that can only read GET /metrics, for Prometheus")
    args = parser.parse_args(argv)
    folder = read_config(args.config).journal.folder_of_door if args.config else args.journal
    kind: Kind = "metrics" if args.metrics else "page"
    print(Tokens(folder).new(kind))
    print(f"for the door whose journal is in {folder}", file=sys.stderr)
    return 0
