"""TOML tables to frozen dataclasses: each value of the kind its field says, and no key that no field has."""

from __future__ import annotations

import dataclasses
import difflib
import math
import tomllib
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from pawlatch.errors import ConfigError

T = TypeVar("T")

_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text in quotes", Path: "a path in quotes"}


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises:
        ConfigError: it cannot be read, or is not TOML; the message names line and column.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the settings in {path}: {error.strerror}; name another file with --config") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}; compare with examples/door.toml") from error


def parse(kind: type[T], table: Any, *, name: str, folder: Path) -> T:
    """A table as the dataclass `kind`. `name` is what messages call it; relative paths begin in `folder`.

    Raises:
        ConfigError: an unknown key, a value of another kind, or one that the dataclass refuses.
    """
    if not isinstance(table, Mapping):
        raise ConfigError(f"[{name}] must be a table of settings, got {table!r}")
    hints = get_type_hints(kind)
    fields = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    for key in table:
        if key not in fields:
            raise ConfigError(f"{_named(name)} has no setting {key!r}; {_nearest(key, fields)}")
    values = {key: _value(hints[key], value, name=f"{name}.{key}" if name else key, folder=folder)
              for key, value in table.items()}
    try:
        return kind(**values)
    except ConfigError as error:
        raise ConfigError(f"{_named(name)}: {error}") from error


def _value(kind: Any, value: Any, *, name: str, folder: Path) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):  # X | None: absent is None, and TOML has no null
        (kind,) = [argument for argument in arguments if argument is not type(None)]
        return _value(kind, value, name=name, folder=folder)
    if origin is Literal:
        if value not in arguments or isinstance(value, bool):
            raise ConfigError(f"{name} must be one of {', '.join(map(str, arguments))}; got {value!r}")
        return value
    if origin is tuple:
        return _sequence(arguments, value, name=name, folder=folder)
    if origin in (dict, Mapping):
        if not isinstance(value, Mapping):
            raise ConfigError(f"[{name}] must be a table, got {value!r}")
        return {key: _value(arguments[1], inner, name=f"{name}.{key}", folder=folder) for key, inner in value.items()}
    if dataclasses.is_dataclass(kind):
        return parse(kind, value, name=name, folder=folder)  # type: ignore[arg-type]
    return _plain(kind, value, name=name, folder=folder)


def _sequence(kinds: Sequence[Any], value: Any, *, name: str, folder: Path) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise ConfigError(f"{name} must be a list in brackets, got {value!r}")
    if kinds[-1] is Ellipsis:
        kinds = [kinds[0]] * len(value)
    if len(kinds) != len(value):
        raise ConfigError(f"{name} must hold {len(kinds)} values, got {len(value)}")
    return tuple(_value(kind, item, name=name, folder=folder) for kind, item in zip(kinds, value, strict=True))


def _plain(kind: Any, value: Any, *, name: str, folder: Path) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    wanted = str if kind is Path else kind
    if type(value) is not wanted or (isinstance(value, float) and not math.isfinite(value)):
        raise ConfigError(f"{name} must be {_KINDS[kind]}, got {value!r}")
    return folder / Path(value).expanduser() if kind is Path else value


def _named(name: str) -> str:
    return f"[{name}]" if name else "the file"


def _nearest(key: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(key, names, n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else f"it has {', '.join(names)}"
