"""A real mosquitto on a free port, a client that listens to it, and servers that only pretend."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

DEADLINE_S = 30.0
PROGRAM = shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin")

needs_mosquitto = pytest.mark.skipif(PROGRAM is None, reason="needs mosquitto; type: apt-get install mosquitto")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Broker:
    """Mosquitto in a folder of its own. It can be killed, and return on its port; it forgets everything."""

    def __init__(self, folder: Path, *settings: str) -> None:
        self.port = free_port()
        self._config = folder / "mosquitto.conf"
        lines = [f"listener {self.port} 127.0.0.1", "user root", *(settings or ["allow_anonymous true"])]
        self._config.write_text("\n".join([*lines, ""]))
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen([PROGRAM, "-c", self._config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(self._answers)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def _answers(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        assert self._process.poll() is None, "mosquitto did not start"
        return False


class Ear:
    """A client of the broker: hears everything, and says what it is told to."""

    def __init__(self, port: int, *, prepare: Callable = lambda client: None) -> None:
        from paho.mqtt.client import CallbackAPIVersion, Client, MQTTv5

        self.heard: list[tuple[str, bytes, bool]] = []
        self._client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTv5)
        prepare(self._client)
        ready = threading.Event()
        self._client.on_message = lambda client, _, message: self.heard.append(
            (message.topic, message.payload, message.retain))
        self._client.on_connect = lambda client, *_: client.subscribe("#")
        self._client.on_subscribe = lambda *_: ready.set()
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert ready.wait(DEADLINE_S)

    def say(self, topic: str, payload: bytes | str | dict, *, retain: bool = False, qos: int = 1) -> None:
        """Publish, and wait until the broker has it."""
        text = json.dumps(payload) if isinstance(payload, dict) else payload
        self._client.publish(topic, text, retain=retain, qos=qos).wait_for_publish(DEADLINE_S)

    def of(self, topic: str) -> list[bytes]:
        """The payloads that came on a topic, oldest first."""
        return [payload for heard, payload, _ in list(self.heard) if heard == topic]

    def until(self, topic: str, fits: Callable[[bytes], bool] = bool) -> bytes:
        """Wait until the newest payload of a topic fits; that payload."""
        until(lambda: bool(self.of(topic)) and fits(self.of(topic)[-1]), lambda: f"{topic}: {self.of(topic)[-1:]}")
        return self.of(topic)[-1]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


class Stub:
    """A server that is no broker: it accepts, and does with each connection what `act` does."""

    def __init__(self, act: Callable[[socket.socket, threading.Event], None]) -> None:
        self._act = act
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self.stopped = threading.Event()
        self.accepted = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self.stopped.set()
        self._server.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while not self.stopped.is_set():
                connection, _ = self._server.accept()
                self.accepted += 1
                threading.Thread(target=self._one, args=(connection,), daemon=True).start()

    def _one(self, connection: socket.socket) -> None:
        with suppress(OSError), connection:
            self._act(connection, self.stopped)


def until(is_so: Callable[[], bool], told: Callable[[], str] = lambda: "it did not come to that") -> None:
    """Wait for something that happens elsewhere."""
    late_s = time.monotonic() + DEADLINE_S
    while not is_so():
        assert time.monotonic() < late_s, told()
        time.sleep(0.01)
