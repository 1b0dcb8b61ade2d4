"""What the journal keeps, and where it lies."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from pawlatch.errors import ConfigError

SERVICE_FOLDER = Path("/var/lib/pawlatch")


def own_folder() -> Path:
    """Where this user's door writes: where systemd lets a service ($STATE_DIRECTORY), else in the home folder."""
    if state := os.environ.get("STATE_DIRECTORY"):
        return Path(state.split(":")[0])
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "pawlatch"


def default_folder() -> Path:
    """Where a reader looks: the service's folder on a machine that has one, else this user's."""
    return SERVICE_FOLDER if SERVICE_FOLDER.is_dir() else own_folder()


@dataclass(frozen=True)
class JournalOptions:
    """What is kept, and where."""

    # the folder of the journal; absent: /var/lib/pawlatch for the service, else ~/.local/state/pawlatch
    folder: Path = field(default_factory=own_folder)
    # days that the door runs after which a visit is forgotten; at least 1
    days: int = 30
    # visits that are kept at most; at least 10
    visits: int = 5000
    # megabytes that the journal takes at most, pictures included; at least 10
    megabytes: int = 1000
    # megabytes of pictures written within a day at most, so that a bush in the wind wears out no SD card; unlocks come on top
    megabytes_a_day: int = 200
    # whether pictures are kept; without them a visit can be explained, but not shown, labelled, or tried on another model
    pictures: bool = True

    def __post_init__(self) -> None:
        for name, least in (("days", 1), ("visits", 10), ("megabytes", 10), ("megabytes_a_day", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} of the journal must be at least {least}, got {getattr(self, name)}")

    @property
    def folder_of_door(self) -> Path:
        """Where the door with these settings writes; by hand, beside a service, another default holds."""
        return default_folder() if self.folder == own_folder() else self.folder
