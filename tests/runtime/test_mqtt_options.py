"""`[mqtt]` of door.toml, and the secrets that it names."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest

from pawlatch.config import read_config
from pawlatch.errors import ConfigError
from pawlatch.mqtt.options import MqttOptions, read_code, read_password
from pawlatch.unit import needs_of


@pytest.fixture(autouse=True)
def no_secrets(monkeypatch):
    monkeypatch.delenv("PAWLATCH_MQTT_PASSWORD", raising=False)
    monkeypatch.delenv("PAWLATCH_MQTT_CODE", raising=False)


@pytest.fixture
def secret(tmp_path):
    def written(text: str, mode: int = 0o600) -> Path:
        path = tmp_path / "secret"
        path.write_bytes(text.encode(errors="surrogateescape"))
        path.chmod(mode)
        return path

    return written


@pytest.mark.parametrize(("options", "message"), [
    ({"host": "home..local"}, "host must be"), ({"host": "mqtt://broker"}, "without mqtt://"), ({"host": "me:secret@broker"}, "host must"), ({"host": ""}, "host must"),
    ({"port": 0}, "port must be 1 to 65535, got 0"), ({"ca": Path("ca.pem")}, "write tls = true"),
    ({"tls": True, "key": Path("k")}, "belong together"), ({"password": "x"}, "needs a username"),
    ({"username": "u", "password": "x", "password_file": Path("p")}, "leave one of them out"),
    ({"topic": "a/#"}, "topic must"), ({"topic": "a\x01b"}, "topic must"), ({"topic": "$SYS"}, "topic must"), ({"topic": "pets/"}, "topic must"), ({"topic": ""}, "topic must"),
    ({"discovery_prefix": "+"}, "discovery_prefix must"), ({"id": "Front Door"}, "id must"), ({"name": ""}, "name must"),
    ({"client_id": "a b"}, "client_id must"),
])
def test_what_is_wrong_is_named(options, message):
    with pytest.raises(ConfigError, match=message):
        MqttOptions(**options)


def test_no_password_is_told_that_stands_before_the_host():
    with pytest.raises(ConfigError) as caught:
        MqttOptions(host="mqtt://me:s3cret@broker")
    assert "s3cret" not in str(caught.value)


def test_the_port_goes_with_encryption():
    assert MqttOptions().port_or_default == 1883
    assert MqttOptions(tls=True).port_or_default == 8883
    assert MqttOptions(tls=True, port=1).port_or_default == 1


def test_passwords_are_read_from_a_file_the_environment_or_the_settings(secret, monkeypatch):
    assert read_password(MqttOptions()) is None
    assert read_password(MqttOptions(username="u", password="in the file")) == "in the file"
    assert read_password(MqttOptions(username="u", password_file=secret("pass word\n"))) == "pass word"
    monkeypatch.setenv("PAWLATCH_MQTT_PASSWORD", "from outside")
    assert read_password(MqttOptions(username="u")) == "from outside"


def test_codes_are_read_from_a_file_or_the_environment(secret, monkeypatch):
    assert read_code(MqttOptions()) is None
    assert read_code(MqttOptions(code_file=secret("271828\r\n"))) == "271828"
    monkeypatch.setenv("PAWLATCH_MQTT_CODE", "314159")
    assert read_code(MqttOptions()) == "314159"


@pytest.mark.parametrize(("text", "mode", "message"), [
    ("271828", 0o644, "chmod o="), ("12345", 0o600, "6 to 64"), ("", 0o600, "one secret"), ("a" * 65, 0o600, "6 to 64"),
    ("two words", 0o600, "no blanks"), ("\udcff\udcff" * 4, 0o600, "no text"), ("x" * 5000, 0o600, "one secret"),
])
def test_a_code_that_is_none_is_refused_and_not_told(secret, text, mode, message):
    with pytest.raises(ConfigError, match=message) as caught:
        read_code(MqttOptions(code_file=secret(text, mode)))
    assert not text or text not in str(caught.value)


def test_a_secret_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="cannot read the code_file"):
        read_code(MqttOptions(code_file=tmp_path / "absent"))


def test_no_secret_is_told_by_the_options():
    assert "hunter2" not in repr(MqttOptions(username="u", password="hunter2"))


@pytest.fixture
def needs(tmp_path):
    def of(table: str):
        path = tmp_path / "door.toml"
        path.write_text(f'[model]\nbundle = "/opt/model"\n{table}')
        return needs_of(read_config(path), program=Path("/usr/bin/pawlatch"), config_path=path)

    return of


def test_the_unit_lets_it_reach_its_broker_and_read_its_secrets(needs):
    assert needs("").families == ("AF_UNIX",)
    local = needs('[mqtt]\nhost = "localhost"\ncode_file = "/etc/pawlatch/code"')
    assert local.families == ("AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK")
    assert local.is_local
    assert Path("/etc/pawlatch/code") in local.reads
    assert not needs('[mqtt]\nhost = "broker"').is_local
    assert not needs('[show]\nport = 1\n[mqtt]\nhost = "broker"').is_local
    assert not needs('[show]\nport = 1\nhost = "0.0.0.0"\n[mqtt]\nhost = "localhost"').is_local
    assert needs('[show]\nport = 1\n[mqtt]\nhost = "localhost"').is_local


def test_the_settings_in_the_docs_are_some(tmp_path):
    page = (Path(__file__).resolve().parents[2] / "docs" / "home-assistant.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    (tmp_path / "door.toml").write_text(textwrap.dedent(f"   {shown}"))
    mqtt = read_config(tmp_path / "door.toml").mqtt
    assert (mqtt.host, mqtt.tls, mqtt.port_or_default) == ("homeassistant.local", True, 8883)
