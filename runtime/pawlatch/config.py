"""`door.toml`: everything that an owner sets of a door, in one table for each part.

`examples/door.toml` shows every setting and tells what it means.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pawlatch.camera import CameraOptions
from pawlatch.decide import DecisionOptions
from pawlatch.door import DoorOptions
from pawlatch.gate import GateOptions
from pawlatch.journal import JournalOptions
from pawlatch.latch import LatchOptions
from pawlatch.model import ModelOptions
from pawlatch.mqtt.options import MqttOptions
from pawlatch.show import ShowOptions
from pawlatch.tables import parse, read_toml
from pawlatch.updates import UpdateOptions
from pawlatch.web.options import WebOptions

T = TypeVar("T")


@dataclass(frozen=True)
class Config:
    """The tables of `door.toml`; whatever it leaves out has the default of its part."""

    model: ModelOptions = field(default_factory=ModelOptions)
    camera: CameraOptions = field(default_factory=CameraOptions)
    gate: GateOptions = field(default_factory=GateOptions)
    decision: DecisionOptions = field(default_factory=DecisionOptions)
    door: DoorOptions = field(default_factory=DoorOptions)
    latch: LatchOptions = field(default_factory=LatchOptions)
    journal: JournalOptions = field(default_factory=JournalOptions)
    show: ShowOptions = field(default_factory=ShowOptions)
    update: UpdateOptions = field(default_factory=UpdateOptions)
    mqtt: MqttOptions = field(default_factory=MqttOptions)
    web: WebOptions = field(default_factory=WebOptions)

    def with_(self, table: str, **values: Any) -> Config:
        """The same with these values in one table; None leaves what was."""
        given = {name: value for name, value in values.items() if value is not None}
        return dataclasses.replace(self, **{table: dataclasses.replace(getattr(self, table), **given)}) if given else self


def read_config(path: str | Path) -> Config:
    """Read `door.toml`. Relative paths in it begin where it lies.

    Raises:
        ConfigError: it cannot be read, is not TOML, or holds a setting that is unknown, of the wrong kind, or out of bounds.
    """
    path = Path(path)
    return parse(Config, read_toml(path), name="", folder=path.absolute().parent)
