"""`pawlatch explain`: why the door did what it did with a visit in its journal, and what would have changed it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from pawlatch.decide import POLICIES
from pawlatch.errors import JournalError
from pawlatch.explain import explain as explained
from pawlatch.journal import default_folder
from pawlatch.records import JournalReader
from pawlatch.rejudge import recorded_policy


def explain(argv: list[str]) -> int:
    """Print a recorded visit frame by frame."""
    parser = argparse.ArgumentParser(
        prog="pawlatch explain", description="Why the door opened or stayed shut, and what would have changed it.")
    parser.add_argument("event", type=int, metavar="EVENT", help="its number, as `pawlatch events` lists it")
    parser.add_argument("--journal", type=Path, default=default_folder(), metavar="DIR", help="its folder (here: %(default)s)")
    parser.add_argument("--policy", choices=POLICIES, help="as if this had decided")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    args = parser.parse_args(argv)
    with JournalReader(args.journal) as journal:
        visit = journal.visit(args.event)
        if not visit.observations:
            raise JournalError(f"event {args.event} kept no frame that was classified: there is nothing to explain")
        told = explained(recorded_policy(visit, args.policy), visit.observations,
                         refused=[(time_s, reason) for time_s, _, reason in visit.refusals])
    event = visit.event
    if args.json:
        print(json.dumps({"event": event.id, "started": event.started.isoformat(timespec="seconds"), "label": event.label,
                          "did": event.door, "after_s": event.time_to_unlock_s, "bundle": visit.bundle, **told.to_json()},
                         ensure_ascii=False))
        return 0
    name, variant, digest = visit.bundle
    print(f"event {event.id}, {event.started:%Y-%m-%d %H:%M:%S}: {event.label} {event.score:.2f}, {event.door}"
          + ("" if event.time_to_unlock_s is None else f" after {event.time_to_unlock_s:.1f} s"))
    print(f"by {name}, {variant} {digest[:8]}")
    print("\n".join(told.lines()))
    return 0
