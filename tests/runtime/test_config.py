from __future__ import annotations

import dataclasses
import tomllib
from pathlib import Path
from typing import get_type_hints

import pytest

from pawlatch.config import Config, read_config
from pawlatch.errors import ConfigError
from pawlatch.latch import LatchOptions
from pawlatch.rules import LabelRule
from pawlatch.sensors import SensorOptions
from pawlatch.tables import parse

EXAMPLE = Path(__file__).parents[2] / "examples" / "door.toml"


@pytest.fixture
def write(tmp_path):
    def written(text: str) -> Path:
        path = tmp_path / "door.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return written


def test_an_empty_file_is_the_defaults(write):
    assert read_config(write("")) == Config()


def test_relative_paths_begin_where_the_file_lies(write, tmp_path):
    config = read_config(write('[model]\nbundle = "rex/edge"\n[journal]\nfolder = "/var/lib/pawlatch"'))
    assert config.model.bundle == tmp_path / "rex/edge"
    assert config.journal.folder == Path("/var/lib/pawlatch")


@pytest.mark.parametrize(("text", "message"), [
    ("[camera\n", "is not TOML.*line 1"),
    ("[camra]\nuri = '0'", "the file has no setting 'camra'; did you mean camera?"),
    ("[camera]\nrotat = 90", r"\[camera\] has no setting 'rotat'; did you mean rotate?"),
    ("[camera]\nrotate = 45", "camera.rotate must be one of 0, 90, 180, 270; got 45"),
    ("[camera]\nmirror = 1", "camera.mirror must be true or false, got 1"),
    ("[camera]\nuri = 0", "camera.uri must be a text in quotes, got 0"),
    ("[door]\nunlock_s = true", "door.unlock_s must be a number, got True"),
    ("[door]\nunlock_s = nan", "door.unlock_s must be a number, got nan"),
    ("[door]\nunlock_s = -1", r"\[door\].*unlock_s"),
    ("[camera]\nsize_wh = [640]", "camera.size_wh must hold 2 values, got 1"),
    ("camera = 3", r"\[camera\] must be a table"),
])
def test_what_is_wrong_is_named_with_the_remedy(write, text, message):
    with pytest.raises(ConfigError, match=message):
        read_config(write(text))


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot read the settings in .*absent\.toml"):
        read_config(tmp_path / "absent.toml")


def uncommented(text: str) -> str:
    """The example with every setting that it only shows (`#key = value`) set."""
    return "\n".join(line[1:] if line.startswith("#") and not line.startswith("# ") else line for line in text.splitlines())


def shown() -> dict[str, dict[str, object]]:
    return tomllib.loads(uncommented(EXAMPLE.read_text(encoding="utf-8")))


def test_the_example_loads():
    config = read_config(EXAMPLE)
    assert config.model.bundle == EXAMPLE.parent / "model" / "edge"
    assert config.door.mode == "observe"


def test_every_setting_that_it_shows_can_be_set():
    mqtt = {**shown()["mqtt"], "tls": True}
    del mqtt["password"]  # it has a password_file
    config = parse(Config, {**shown(), "latch": {}, "mqtt": mqtt}, name="", folder=Path())
    assert config.door.labels["rex"].passes == "both"
    assert config.decision.veto == ("prey",)


@pytest.mark.parametrize(("kind", "settings"), [
    ("gpio", ["pin", "active_high", "drive"]), ("servo", ["pin", "locked_ms", "unlocked_ms", "settle_s"]),
    ("command", ["lock", "unlock", "timeout_s"]),
])
def test_every_latch_that_it_shows_can_be_set(kind, settings):
    latch = shown()["latch"]
    assert parse(LatchOptions, {"kind": kind} | {name: latch[name] for name in settings}, name="latch", folder=Path()).kind == kind


def test_the_example_holds_every_setting_there_is():
    tables = {**shown(), "door.sensors": shown()["door"]["sensors"], "door.labels.rex": shown()["door"]["labels"]["rex"]}
    kinds = {**get_type_hints(Config), "door.sensors": SensorOptions, "door.labels.rex": LabelRule}
    for name, kind in kinds.items():
        assert set(tables[name]) == {field.name for field in dataclasses.fields(kind)}, name


def test_the_example_shows_the_defaults():
    for name, kind in get_type_hints(Config).items():
        for field in dataclasses.fields(kind):
            default = getattr(kind(), field.name)
            if isinstance(default, bool | int | float | str) and (name, field.name) != ("latch", "kind"):
                assert shown()[name][field.name] == default, f"{name}.{field.name}"
