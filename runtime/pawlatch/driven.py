"""Which latch a door drives, left where `pawlatch latch lock` finds it after a kill: door.toml may name another by then.

It is a file in the runtime directory that systemd makes for the service (RuntimeDirectory in systemd.exec(5)). A boot empties
it, so what was once wired to a pin is not driven after a rewiring. Outside of a service there is none.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from pawlatch.errors import OutputError
from pawlatch.latch import LatchOptions
from pawlatch.tables import parse

logger = logging.getLogger(__name__)

VARIABLE = "RUNTIME_DIRECTORY"
NAME = "latch.json"


@contextmanager
def driving(options: LatchOptions) -> Iterator[None]:
    """Leave word of a latch for as long as it is driven, and after what was not a good end."""
    path = _path()
    if path is not None:
        from pawlatch.files import write_atomic  # only here: `pawlatch latch lock` has no use for it, and starts fast

        try:
            write_atomic(path, json.dumps({name: value for name, value in asdict(options).items() if value is not None}))
        except OutputError as error:  # the door works without
            logger.error("after a kill and an edit of [latch] nobody would know which latch to lock: %s", error)
    yield
    forget()


def left_driven() -> LatchOptions | None:
    """The latch of a door that was killed, or goes on; None where there is none, or none that can be read."""
    path = _path()
    try:
        text = None if path is None else path.read_text(encoding="utf-8")
        return None if text is None or path is None else parse(LatchOptions, json.loads(text), name="latch", folder=path.parent)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:  # a ConfigError is one, too
        logger.error("%s cannot be read, so only the latch of the settings is locked: %s", path, error)
        return None


def forget() -> None:
    """It is locked, and nobody drives it."""
    if (path := _path()) is not None:
        path.unlink(missing_ok=True)


def _path() -> Path | None:
    folder = os.environ.get(VARIABLE)
    return Path(folder) / NAME if folder else None
