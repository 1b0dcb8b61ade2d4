"""What a person asked of a door and is to hold when it starts again: a mode below the settings', a hold that keeps it locked.

Without it, a power cut in the night would undo "keep it locked". It is a small file in the journal's folder. One that cannot be
read keeps the door off: whatever it said, nobody asked for more.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path

from pawlatch.errors import OutputError
from pawlatch.files import write_atomic
from pawlatch.rules import Mode

logger = logging.getLogger(__name__)

NAME = "standing.json"


@dataclass(frozen=True)
class Standing:
    """`mode` holds for as long as the settings say `settings_mode`: an owner who changes them has spoken later.

    `locked_until_unix_s` is wall time. `who` asked.
    """

    mode: Mode | None = None
    settings_mode: Mode | None = None
    locked_until_unix_s: float | None = None
    who: str = ""


def read_standing(folder: Path) -> Standing:
    """What is written in `folder`; nothing where there is no file."""
    path = folder / NAME
    try:
        found = Standing(**json.loads(path.read_text(encoding="utf-8")))
        until_s = found.locked_until_unix_s
        if found.mode not in (None, "off", "observe", "armed") or not (until_s is None or isinstance(until_s, int | float)):
            raise ValueError("it holds other values than those that are written")
    except FileNotFoundError:
        return Standing()
    except (OSError, ValueError, TypeError) as error:
        logger.error("%s cannot be read (%s), so the door is off; remove the file, or choose a mode again", path, error)
        return Standing("off", None, None, f"the damaged {path}")
    return found


def write_standing(folder: Path, standing: Standing) -> str | None:
    """Keep it for the next start. Returns what is wrong, where it cannot be kept."""
    try:
        if standing == Standing(who=standing.who):
            (folder / NAME).unlink(missing_ok=True)
        else:
            write_atomic(folder / NAME, json.dumps(asdict(standing)))
    except (OutputError, OSError) as error:
        logger.error("what %s asked for is forgotten at the next start: %s", standing.who, error)
        return str(error)
    return None
