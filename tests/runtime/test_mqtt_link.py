"""The bridge against a real mosquitto, and against servers that are none; each in the test's own folder and on a free port."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import threading
import time

import pytest

pytest.importorskip("paho.mqtt.client", reason="needs the mqtt extra")

from pawlatch.errors import ConfigError
from pawlatch.mqtt import link as link_module
from pawlatch.mqtt import wire
from pawlatch.mqtt.link import Link
from pawlatch.mqtt.options import MqttOptions
from pawlatch.mqtt.wire import FLOOD_S, MOST_PACKET_BYTES, PER_S, Pace

from .broker import Broker, Ear, Stub, free_port, needs_mosquitto, until

WILL = ("door/availability", "offline")


@pytest.fixture
def open_link():
    opened: list[Link] = []

    def begin(port: int, *, topics: tuple[str, ...] = (), **options: object) -> Link:
        settings = MqttOptions(**{"host": "127.0.0.1", "port": port, **options})
        opened.append(Link(settings, will=WILL, topics=topics, on_message=lambda heard: None))
        return opened[-1].__enter__()

    yield begin
    for each in opened:
        each.close()


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """It is tried again at once: how the waits grow has a test of its own."""
    monkeypatch.setattr(link_module, "FIRST_RETRY_S", 0.1)


@pytest.fixture
def ears():
    opened: list[Ear] = []

    def listen(broker: Broker, **how: object) -> Ear:
        opened.append(Ear(broker.port, **how))
        return opened[-1]

    yield listen
    for each in opened:
        each.close()


# ------------------------------------------------------------------------------------------------ a real broker


@needs_mosquitto
def test_what_is_kept_is_retained_and_what_is_told_is_not(broker, open_link, ears):
    early, link = ears(broker), open_link(broker.port)
    link.keep("door/state", b"LOCKED")
    link.tell("door/event", b"opened")
    early.until("door/event")
    late = ears(broker)
    late.until("door/state")
    assert late.heard == [("door/state", b"LOCKED", True)]


@needs_mosquitto
def test_a_broker_that_is_killed_is_told_everything_when_it_returns(broker, open_link, ears, monkeypatch, caplog):
    link = open_link(broker.port)
    link.keep("door/state", b"LOCKED")
    ears(broker).until("door/state")
    broker.kill()
    until(lambda: not link.is_up)
    link.keep("door/state", b"UNLOCKED")
    link.keep("door/state", b"JAMMED")  # only the newest
    link.tell("door/event", b"opened")
    broker.start()
    ear = ears(broker)
    ear.until("door/event")
    assert ear.of("door/state") == [b"JAMMED"]
    assert "no MQTT broker" in caplog.text


@needs_mosquitto
def test_a_broker_that_takes_no_long_messages_is_told_the_short_ones(tmp_path, open_link, ears, caplog):
    """It hangs up on who sends a longer one than it said (mqtt-v5.0, 3.2.2.3.6): a picture must not cost all the rest."""
    broker = Broker(tmp_path, "allow_anonymous true", "max_packet_size 20000")
    try:
        link, ear = open_link(broker.port), ears(broker)
        for number in range(3):
            link.keep("door/picture", b"%d" % number * 20_000)
            link.keep("door/state", b"%d" % number)
            ear.until("door/state", (b"%d" % number).__eq__)
        link.keep("door/picture", b"x" * 19_900)
        ear.until("door/picture")
        assert [record.getMessage() for record in caplog.records] == [
            "the broker takes no message over 20000 bytes, so door/picture stays here"]
    finally:
        broker.kill()


@needs_mosquitto
def test_news_that_are_old_are_not_told(broker, open_link, ears, monkeypatch):
    monkeypatch.setattr(link_module, "NEWS_S", -1.0)
    link, ear = open_link(broker.port), ears(broker)
    link.tell("door/event", b"an hour ago")
    link.keep("door/state", b"LOCKED")
    ear.until("door/state")
    link.keep("door/state", b"UNLOCKED")
    ear.until("door/state", b"UNLOCKED".__eq__)
    assert not ear.of("door/event")


@needs_mosquitto
def test_a_broker_that_is_down_at_the_start_is_waited_for(broker, open_link, ears):
    broker.kill()
    link = open_link(broker.port)
    link.keep("door/state", b"LOCKED")
    assert "refused" in link.trouble(10.0)
    broker.start()
    ears(broker).until("door/state")


@needs_mosquitto
def test_the_last_will_is_said_by_the_link_or_by_the_broker(broker, open_link, ears, tmp_path):
    ear, link = ears(broker), open_link(broker.port)
    link.keep("door/availability", b"online")
    ear.until("door/availability", b"online".__eq__)
    link.close()
    link.close()
    ear.until("door/availability", b"offline".__eq__)
    script = ("import sys, time; from pawlatch.mqtt.link import Link; from pawlatch.mqtt.options import MqttOptions\n"
              f"link = Link(MqttOptions(host='127.0.0.1', port={broker.port}), will={WILL}, topics=(), on_message=print).__enter__()\n"
              "link.keep('door/availability', b'online')\ntime.sleep(1000)")
    process = subprocess.Popen([sys.executable, "-c", script])
    ear.until("door/availability", b"online".__eq__)
    process.kill()
    process.wait()
    ear.until("door/availability", b"offline".__eq__)


@needs_mosquitto
def test_nothing_waits_at_the_broker_for_a_link_that_is_away(broker, ears):
    """No session: what was said while it was away is not heard later, whatever its quality of service."""
    heard, ear = [], ears(broker)
    for said in ("while it was away", "now"):
        with Link(MqttOptions(host="127.0.0.1", port=broker.port), will=None, topics=("door/set",), on_message=heard.append) as link:
            assert link.trouble(10.0) is None
            if said == "now":
                until(lambda: ear.say("door/set", "now") or bool(heard))
        ear.say("door/set", "while it was away", qos=1)
    assert {each.payload for each in heard} == {b"now"}


@needs_mosquitto
def test_a_retained_message_is_known_as_one_at_once_and_later(broker, ears):
    """Also when it comes fresh: without retain-as-published a broker would pass it on as if it were not kept."""
    heard, ear = [], ears(broker)
    ear.say("door/set", "kept before", retain=True)
    with Link(MqttOptions(host="127.0.0.1", port=broker.port), will=None, topics=("door/set",), on_message=heard.append):
        until(lambda: len(heard) == 1)
        ear.say("door/set", "kept now", retain=True)
        ear.say("door/set", "said")
        until(lambda: len(heard) == 3)
    assert [(each.payload, each.is_retained) for each in heard] == [(b"kept before", True), (b"kept now", True), (b"said", False)]


@needs_mosquitto
def test_a_long_message_stays_at_the_broker(broker, ears):
    heard, ear = [], ears(broker)
    with Link(MqttOptions(host="127.0.0.1", port=broker.port), will=None, topics=("door/set",), on_message=heard.append) as link:
        assert link.trouble(10.0) is None
        until(lambda: ear.say("door/set", "ready") or bool(heard))
        for _ in range(3):
            ear.say("door/set", b"x" * 1_000_000)
        ear.say("door/set", "after")
        until(lambda: heard[-1].payload == b"after")
        assert link.is_up
    assert max(len(each.payload) for each in heard) < 10


# --------------------------------------------------------------------------------------- passwords and certificates


@needs_mosquitto
def test_a_password_is_taken_from_its_file_and_a_wrong_one_is_named_but_not_told(tmp_path, open_link, ears, caplog):
    (tmp_path / "users").touch(mode=0o600)
    subprocess.run(["mosquitto_passwd", "-b", tmp_path / "users", "door", "correct horse"], check=True)
    broker = Broker(tmp_path, "allow_anonymous false", f"password_file {tmp_path / 'users'}")
    try:
        secret = tmp_path / "secret"
        secret.touch(mode=0o600)
        secret.write_text("correct horse\n")
        link = open_link(broker.port, username="door", password_file=secret)
        assert link.trouble(10.0) is None
        secret.write_text("battery staple\n")
        wrong = open_link(broker.port, username="door", password_file=secret, client_id="second")
        assert "refuses: Not authorized" in wrong.trouble(10.0)
        assert "Not authorized" in open_link(broker.port, client_id="third").trouble(10.0)
    finally:
        broker.kill()
    assert "correct" not in caplog.text
    assert "staple" not in caplog.text


def openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


@pytest.fixture
def certified(tmp_path):
    """A CA, a broker's certificate for 127.0.0.1, and a door's; and a CA that vouches for nobody."""
    for ca in ("ca", "foreign"):
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", 2, "-subj", f"/CN={ca}", "-keyout", tmp_path / f"{ca}.key",
                "-out", tmp_path / f"{ca}.pem")
    for name, host in (("broker", "IP:127.0.0.1"), ("door", "DNS:door")):
        (tmp_path / f"{name}.ext").write_text(f"subjectAltName={host}")
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", tmp_path / f"{name}.key", "-out",
                tmp_path / f"{name}.csr")
        openssl("x509", "-req", "-in", tmp_path / f"{name}.csr", "-CA", tmp_path / "ca.pem", "-CAkey", tmp_path / "ca.key",
                "-CAcreateserial", "-days", 2, "-extfile", tmp_path / f"{name}.ext", "-out", tmp_path / f"{name}.pem")
    return tmp_path


@needs_mosquitto
def test_a_broker_must_be_vouched_for_and_be_who_it_is_called(certified, open_link, ears):
    broker = Broker(certified, "allow_anonymous true", f"certfile {certified}/broker.pem", f"keyfile {certified}/broker.key")
    try:
        link = open_link(broker.port, tls=True, ca=certified / "ca.pem")
        link.keep("door/state", b"LOCKED")
        ears(broker, prepare=lambda client: client.tls_set(str(certified / "ca.pem"))).until("door/state")
        assert "ca below [mqtt]" in open_link(broker.port, tls=True, ca=certified / "foreign.pem").trouble(10.0)
        assert "ca below [mqtt]" in open_link(broker.port, tls=True).trouble(10.0)
        assert "not valid for 'localhost'" in open_link(broker.port, host="localhost", tls=True, ca=certified / "ca.pem").trouble(10.0)
        broker.kill()
        until(lambda: not link.is_up)
        broker.start()
        until(lambda: link.is_up)
    finally:
        broker.kill()


@needs_mosquitto
def test_a_broker_may_want_the_doors_own_certificate(certified, open_link):
    broker = Broker(certified, "allow_anonymous true", "require_certificate true", f"cafile {certified}/ca.pem",
                    f"certfile {certified}/broker.pem", f"keyfile {certified}/broker.key")
    try:
        tls = {"tls": True, "ca": certified / "ca.pem"}
        assert open_link(broker.port, **tls, certificate=certified / "door.pem", key=certified / "door.key").trouble(10.0) is None
        assert open_link(broker.port, **tls, client_id="second").trouble(10.0)
    finally:
        broker.kill()


def test_a_certificate_that_is_none_is_named(tmp_path):
    (tmp_path / "ca.pem").write_text("no certificate")
    for path in (tmp_path / "ca.pem", tmp_path / "absent.pem"):
        with pytest.raises(ConfigError, match=path.name):
            Link(MqttOptions(host="b", tls=True, ca=path), will=None, topics=(), on_message=print)


# ------------------------------------------------------------------------------------------ servers that are no brokers

CONNACK = b"\x20\x03\x00\x00\x00"


def welcome(connection: socket.socket) -> None:
    connection.recv(4096)
    connection.sendall(CONNACK)


def silent(connection: socket.socket, stopped: threading.Event) -> None:
    stopped.wait()


def trickle(connection: socket.socket, stopped: threading.Event) -> None:
    """Reads one byte a second, after a welcome."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    welcome(connection)
    while not stopped.wait(1.0):
        connection.recv(1)


def giant(connection: socket.socket, stopped: threading.Event) -> None:
    """Announces a message of 256 MB, and begins to send it."""
    welcome(connection)
    connection.sendall(b"\x30\xff\xff\xff\x7f" + b"\x00" * 65536)
    stopped.wait(0.5)


def flood(connection: socket.socket, stopped: threading.Event) -> None:
    welcome(connection)
    packet = b"\x30" + bytes([3 + 8 + 6]) + struct.pack(">H", 8) + b"door/set" + b"\x00" + b"UNLOCK"
    while not stopped.is_set():
        connection.sendall(packet * 100)


def noise(connection: socket.socket, stopped: threading.Event) -> None:
    """What no broker sends, of each kind of packet."""
    welcome(connection)
    for kind in range(16):
        connection.sendall(bytes([kind << 4, 5]) + bytes([255, 254, 253, 252, 251]))


def unasked(qos: int) -> bytes:
    """A message of another quality of service than 0, which the client would have to remember: to each, up to 65,535 of them."""
    body = struct.pack(">H", 8) + b"door/set" + b"\x00\x07" + b"\x00" + b"UNLOCK"
    return bytes([0x30 | qos << 1, len(body)]) + body


def once(connection: socket.socket, stopped: threading.Event) -> None:
    welcome(connection)
    connection.sendall(unasked(2))
    stopped.wait()


def repeated(connection: socket.socket, stopped: threading.Event) -> None:
    welcome(connection)
    connection.sendall(unasked(1))
    stopped.wait()


@pytest.mark.parametrize(("act", "why"), [
    (silent, "does not answer"), (giant, "268435455 bytes at once"), (noise, ""),
    (once, "it wants its messages remembered"), (repeated, "it wants its messages remembered"),
])
def test_a_server_that_is_no_broker_is_hung_up_on_and_tried_again(act, why, open_link, monkeypatch, caplog):
    monkeypatch.setattr(link_module, "CONNECT_S", 0.3)
    stub = Stub(act)
    link = open_link(stub.port, topics=("door/set",))
    until(lambda: stub.accepted >= 3)
    assert f"no MQTT broker at 127.0.0.1:{stub.port}: " in caplog.text
    assert why in caplog.text
    assert link._thread.is_alive()
    stub.close()


class Waits(threading.Event):
    """An event that waits for nothing, and knows for how long it should have."""

    def __init__(self) -> None:
        super().__init__()
        self.waited_s: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waited_s.append(timeout)
        if len(self.waited_s) >= 10:
            self.set()
        return self.is_set()


def test_each_wait_is_twice_as_long_until_a_connection_was_steady(clock, monkeypatch):
    monkeypatch.setattr(link_module, "FIRST_RETRY_S", 1.0)
    link = Link(MqttOptions(host="127.0.0.1", port=free_port()), will=None, topics=(), on_message=print, clock=clock)
    link._stopped = waits = Waits()
    lived_s = iter([0.0] * 8 + [link_module.STEADY_S + 1, 0.0])

    def live() -> None:
        clock.now_s += next(lived_s)
        raise ConnectionResetError

    monkeypatch.setattr(link, "_live", live)
    link._run()
    assert waits.waited_s == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 1.0, 2.0]


def test_a_server_that_is_slow_makes_nothing_grow(open_link):
    """A megabyte a picture, a thousand times: what waits is the newest of each topic, and what the system's buffers took."""
    stub = Stub(trickle)
    link = open_link(stub.port)
    assert link.trouble(10.0) is None
    for number in range(1000):
        link.keep("door/picture", number.to_bytes(4, "big") * 250_000)
        link.tell("door/event", b"news")
    client = link._client
    assert len(link._kept) == 1
    assert len(link._news) <= link_module.MOST_NEWS
    assert client is None or len(client._out_packet) <= 2
    stub.close()


def test_a_server_that_falls_silent_is_left(open_link, monkeypatch):
    monkeypatch.setattr(link_module, "KEEPALIVE_S", 1)
    stub = Stub(trickle)
    link = open_link(stub.port)
    assert link.trouble(10.0) is None
    until(lambda: stub.accepted >= 2)
    stub.close()


def test_a_server_that_floods_is_read_slowly_then_hung_up_on(monkeypatch, caplog):
    monkeypatch.setattr(wire, "FLOOD_S", 0.5)
    heard, stub = [], Stub(flood)
    began_s = time.monotonic()
    with Link(MqttOptions(host="127.0.0.1", port=stub.port), will=None, topics=("door/set",), on_message=heard.append):
        until(lambda: stub.accepted >= 2)
    assert "more than 50 messages a second" in caplog.text
    assert len(heard) <= 2 * (wire.BURST + PER_S * (time.monotonic() - began_s))
    stub.close()


def test_the_pace_lets_bursts_pass_and_not_floods():
    pace = Pace(0.0)
    assert [pace.take(0.0) for _ in range(20)] == [0.0] * 20
    assert pace.take(0.0) == pytest.approx(1 / PER_S)
    assert pace.take(10.0) == 0.0  # after a rest
    for millisecond in range(10_000, 10_000 + round(1000 * FLOOD_S)):
        pace.take(millisecond / 1000)
    with pytest.raises(ConnectionError, match="more than 50"):
        pace.take(10 + FLOOD_S + 0.5)


def test_its_thread_ends_with_it(open_link):
    stub = Stub(trickle)
    link = open_link(stub.port)
    assert link.trouble(10.0) is None
    link.keep("door/picture", b"x" * 10_000_000)
    link.close()
    assert not link._thread.is_alive()
    stub.close()


def test_without_its_guard_a_giant_would_be_read(open_link, monkeypatch):
    """So it is the guard that hangs up."""
    monkeypatch.setattr(wire, "MOST_PACKET_BYTES", 1 << 30)
    monkeypatch.setattr(wire.Properties, "__setattr__", _small(wire.Properties.__setattr__))
    stub = Stub(giant)
    link = open_link(stub.port)
    until(lambda: link._client is not None and len(link._client._in_packet["packet"]) > MOST_PACKET_BYTES)
    stub.close()


def _small(set_attribute):
    """MaximumPacketSize as it is on the wire, whatever this link takes."""
    return lambda self, name, value: set_attribute(self, name, MOST_PACKET_BYTES if name == "MaximumPacketSize" else value)


def test_the_extra_is_named_where_it_is_not_there(tmp_path):
    (tmp_path / "paho").mkdir()
    (tmp_path / "paho" / "__init__.py").write_text("raise ImportError('paho')")
    done = subprocess.run([sys.executable, "-c", "import pawlatch.mqtt.link"], capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])})
    assert 'MissingExtraError: MQTT needs paho-mqtt 2; type: pip install "pawlatch[mqtt]"' in done.stderr


def test_settings_need_no_client():
    """A door without MQTT does not pay for it."""
    done = subprocess.run([sys.executable, "-c", "import pawlatch.config, pawlatch.mqtt.discovery, sys; "
                           "sys.exit('paho' in sys.modules or 'ssl' in sys.modules)"])
    assert done.returncode == 0


