"""How a door reaches its MQTT broker, and what it is called there."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from pawlatch.errors import ConfigError
from pawlatch.listening import is_host

PASSWORD_VARIABLE, CODE_VARIABLE = "PAWLATCH_MQTT_PASSWORD", "PAWLATCH_MQTT_CODE"
PORT, TLS_PORT = 1883, 8883
LEAST_CODE, LONGEST_CODE = 6, 64  # characters; see `pawlatch.mqtt.commands` for how many can be tried
MOST_SECRET_BYTES = 1024
_OTHERS = 0o007  # permissions that all users of the machine have


@dataclass(frozen=True)
class MqttOptions:
    """Whether and where the door speaks MQTT.

    Raises:
        ConfigError: a value is out of its bounds, or two do not go together.
    """

    # the broker's name or address; absent: the door speaks no MQTT
    host: str | None = None
    # 1 to 65535; absent: 1883, with tls 8883
    port: int | None = None
    # encrypt, and insist on the broker's certificate
    tls: bool = False
    # the certificates of who may vouch for the broker, PEM; absent: those that the system trusts
    ca: Path | None = None
    # this door's own certificate and its key, PEM, where the broker wants one
    certificate: Path | None = None
    key: Path | None = None
    # as the broker knows this door; absent: nobody
    username: str | None = None
    # a file that holds the password and nothing else; absent: PAWLATCH_MQTT_PASSWORD, or `password`
    password_file: Path | None = None
    # better not here: this file is read by more people than that one
    password: str | None = field(default=None, repr=False)
    # absent: "pawlatch-" and the id; no two clients of a broker may have the same
    client_id: str | None = None
    # a file that holds the code for unlocking, 6 to 64 characters; absent: PAWLATCH_MQTT_CODE, else nobody unlocks by MQTT
    code_file: Path | None = None
    # all topics begin with this and the id
    topic: str = "pawlatch"
    # where Home Assistant looks for devices
    discovery_prefix: str = "homeassistant"
    # what people call the door
    name: str = "Pawlatch"
    # what machines call it, 1 to 32 small letters, digits, - and _; another one makes another device in Home Assistant
    id: str = "pawlatch"
    # send pictures of visits, and of now when asked; they stay at the broker
    pictures: bool = True

    def __post_init__(self) -> None:
        if self.host is not None and not is_host(self.host):
            raise ConfigError('host must be a name or an address as in "homeassistant.local", without mqtt:// and port, '
                              f"got {re.sub('.*@', '…@', self.host)!r}")  # before it may be a password
        if self.port is not None and not 1 <= self.port <= 65535:
            raise ConfigError(f"port must be 1 to 65535, got {self.port}")
        if not self.tls and (self.ca or self.certificate):
            raise ConfigError("ca and certificate are for an encrypted line; write tls = true, or leave them out")
        if (self.certificate is None) is not (self.key is None):
            raise ConfigError("certificate and key belong together; name both files, or none")
        if self.password is not None and self.password_file is not None:
            raise ConfigError("there is both password and password_file; leave one of them out")
        if self.username is None and (self.password is not None or self.password_file is not None):
            raise ConfigError("a password needs a username; name it below [mqtt]")
        for name, topic in (("topic", self.topic), ("discovery_prefix", self.discovery_prefix)):
            if not re.fullmatch(r"[^\s/+#$\x00][^\s+#\x00]{0,63}", topic) or topic.endswith("/") or not topic.isprintable():
                raise ConfigError(f'{name} must begin a topic, as "pawlatch" does, without #, +, an outer /, got {topic!r}')
        if not re.fullmatch(r"[a-z0-9_-]{1,32}", self.id):
            raise ConfigError(f"id must be 1 to 32 small letters, digits, - and _, got {self.id!r}")
        if not 1 <= len(self.name) <= 64 or not self.name.isprintable():
            raise ConfigError(f"name must be 1 to 64 characters, got {self.name!r}")
        if self.client_id is not None and not re.fullmatch(r"[\w-]{1,64}", self.client_id, re.ASCII):
            raise ConfigError(f"client_id must be 1 to 64 letters, digits, - and _, got {self.client_id!r}")

    @property
    def port_or_default(self) -> int:
        """Where the broker listens."""
        return self.port or (TLS_PORT if self.tls else PORT)

    @property
    def base(self) -> str:
        """What all topics of this door begin with."""
        return f"{self.topic}/{self.id}"

    @property
    def files(self) -> tuple[Path, ...]:
        """What the door has to read to reach its broker."""
        return tuple(path for path in (self.ca, self.certificate, self.key, self.password_file, self.code_file) if path)


def read_password(options: MqttOptions) -> str | None:
    """The broker's password; None where there is none.

    Raises:
        ConfigError: its file cannot be read.
    """
    if options.password_file is not None:
        return _secret(options.password_file, "password_file")
    return options.password or os.environ.get(PASSWORD_VARIABLE) or None


def read_code(options: MqttOptions) -> str | None:
    """The code for unlocking; None where nobody may unlock by MQTT.

    Raises:
        ConfigError: its file cannot be read, all users may read it, or it holds no code.
    """
    named = f"code_file {options.code_file}" if options.code_file is not None else CODE_VARIABLE
    if options.code_file is not None:
        code = _secret(options.code_file, "code_file")
    else:
        code = os.environ.get(CODE_VARIABLE, "")
        if not code:
            return None
    if not re.fullmatch(rf"[!-~]{{{LEAST_CODE},{LONGEST_CODE}}}", code):
        raise ConfigError(f"the code in {named} must be {LEAST_CODE} to {LONGEST_CODE} letters, digits and signs, no blanks; "
                          f"it has {len(code)} characters")
    return code


def _secret(path: Path, name: str) -> str:
    """A file's text, without the line's end."""
    try:
        if path.stat().st_mode & _OTHERS:
            raise ConfigError(f"all users of this machine may read the {name} {path}; type: chmod o= {path}")
        with path.open("rb") as file:
            data = file.read(MOST_SECRET_BYTES + 1)
        text = data.decode().rstrip("\r\n")
    except OSError as error:
        raise ConfigError(f"cannot read the {name} {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"the {name} {path} is no text") from error
    if not text or len(data) > MOST_SECRET_BYTES:
        raise ConfigError(f"the {name} {path} must hold one secret and nothing else, and holds {len(data)} bytes")
    return text
