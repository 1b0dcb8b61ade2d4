"""`pawlatch web token`: what opens the door's page."""

from __future__ import annotations

import argparse
from pathlib import Path

from pawlatch.config import read_config
from pawlatch.journal_options import default_folder
from pawlatch.web.tokens import Kind, Tokens


def web(argv: list[str]) -> int:
    """Make a token, keep its hash, and print it this once."""
    parser = argparse.ArgumentParser(prog="pawlatch web", description="The door's page, which `pawlatch run` serves with [web].")
    actions = parser.add_subparsers(dest="action", required=True, metavar="token")
    token = actions.add_parser("token", help="make the token that opens the page, in place of the one there was",
                               description="Make a token and print it, this once: only its hash is kept, in the journal's folder. "
                                           "Whoever is logged in by the one before is logged out.")
    where = token.add_mutually_exclusive_group()
    where.add_argument("--config", type=Path, metavar="door.toml", help="the door's settings, which name the journal's folder")
    where.add_argument("--journal", type=Path, metavar="DIR", help=f"the journal's folder itself (here: {default_folder()})")
    token.add_argument("--metrics", action="store_true", help="one that can only read GET /metrics, for Prometheus")
    args = parser.parse_args(argv)
    folder = read_config(args.config).journal.folder if args.config else args.journal or default_folder()
    kind: Kind = "metrics" if args.metrics else "page"
    print(Tokens(folder).new(kind))
    return 0
