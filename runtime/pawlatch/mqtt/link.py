"""A connection to an MQTT broker that comes back by itself, and needs nothing of it.

One thread of its own does everything on the network. What is so now is kept by topic, the newest only, so that a broker that is
down or slow makes nothing grow; it is sent again after each reconnect. Nothing queues at the broker either: each connection
is a clean start, without a session, so that no command waits there for a door to come back. A broker that floods is read
slowly, then hung up on; one that sends more than a command can hold, at once.

MQTT 5 only: the broker must tell a retained message even as it passes it on, and keep long ones to itself (OASIS
mqtt-v5.0, 3.8.3.1 and 3.1.2.11.4). Mosquitto speaks it since 1.6.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Self

from pawlatch.mqtt.commands import Heard
from pawlatch.mqtt.options import MqttOptions, read_password
from pawlatch.mqtt.wire import (
    CONNECT_S,
    MOST_PACKET_BYTES,
    CallbackAPIVersion,
    Client,
    MQTTMessage,
    MQTTProtocolVersion,
    Pace,
    PacketTypes,
    Properties,
    ReasonCode,
    SubscribeOptions,
    Wary,
    has_come,
    tls_context,
    why,
)

logger = logging.getLogger(__name__)

KEEPALIVE_S = 30
FIRST_RETRY_S, LONGEST_RETRY_S = 1.0, 60.0
STEADY_S = 30.0  # a connection that lived so long was none of those that break at once
AGAIN_S = 5.0  # between two times that everything is sent again because the broker says so
MOST_NEWS, NEWS_S = 16, 30.0  # what waits to be told once, and for how long
MOST_BYTES, HEADER_BYTES = 268_435_455, 16  # of a message, by MQTT itself; what it has beside topic and payload, at most
_JOIN_S = 2.0


class Link:
    """Keeps a broker told. `on_message` is called in the link's thread and must not wait.

    Args:
        will: topic and payload that are published, retained, when this link is gone, by itself or by the broker.
        topics: what to listen to.

    Raises:
        ConfigError: a certificate or the password cannot be read.
    """

    def __init__(self, options: MqttOptions, *, will: tuple[str, str] | None, topics: Sequence[str],
                 on_message: Callable[[Heard], object], clock: Callable[[], float] = time.monotonic) -> None:
        self._options, self._will, self._topics, self._on_message, self._clock = options, will, topics, on_message, clock
        self._password = read_password(options)
        self._tls = tls_context(options) if options.tls else None
        self._lock = threading.Lock()
        self._kept: dict[str, bytes] = {}
        self._unsent: dict[str, None] = {}  # topics, in the order in which they changed
        self._news: deque[tuple[float, str, bytes]] = deque(maxlen=MOST_NEWS)
        self._wants_again, self._again_s = False, float("-inf")
        self._stopped, self._up, self._known = threading.Event(), threading.Event(), threading.Event()
        self._said = self._why = ""
        self._most_bytes, self._too_long = MOST_BYTES, set[str]()
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)
        self._client: Wary | None = None
        self._thread = threading.Thread(target=self._run, name="mqtt link", daemon=True)

    @property
    def is_up(self) -> bool:
        """Whether the broker is there."""
        return self._up.is_set()

    def trouble(self, timeout_s: float) -> str | None:
        """Wait until the broker is there, or cannot be reached; why not, None where it is there."""
        self._known.wait(timeout_s)
        return None if self.is_up else self._why or "it does not answer"

    def keep(self, topic: str, payload: bytes) -> None:
        """What is so now: retained, and sent again after each reconnect. Free of cost where it is known."""
        with self._lock:
            if self._kept.get(topic) == payload:
                return
            self._kept[topic] = payload
            self._unsent[topic] = None
        self._wake()

    def tell(self, topic: str, payload: bytes) -> None:
        """What happened: once, not retained; forgotten where the broker is not there within NEWS_S."""
        with self._lock:
            self._news.append((self._clock(), topic, payload))
        self._wake()

    def again(self) -> None:
        """Send everything once more, soon."""
        self._wants_again = True

    def close(self) -> None:
        """Say what is left to say, and hang up. May be called twice."""
        if self._stopped.is_set():
            return
        self._stopped.set()
        self._wake()
        if self._thread.is_alive():
            self._thread.join(_JOIN_S)
            if self._thread.is_alive():
                logger.error("the %s does not end: the broker holds it up; it ends with the process", self._thread.name)
                return
        self._wake_read.close()
        self._wake_write.close()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def _wake(self) -> None:
        with suppress(OSError):  # full: then it is awake; closed: then it is gone
            self._wake_write.send(b"1")

    # ------------------------------------------------------------------------------------------------- the link's thread

    def _run(self) -> None:
        retry_s, is_broken = 0.0, False
        while not self._stopped.is_set():
            began_s = self._clock()
            try:
                self._live()
                is_broken = False
            except OSError as error:
                self._why = why(error)
            except Exception:  # paho on bytes that no broker sends: the door has nothing to do with it
                logger.log(logging.DEBUG if is_broken else logging.ERROR, "the broker's answer is no MQTT", exc_info=True)
                self._why, is_broken = "its answer is no MQTT", True
            self._hang_up()
            if self._stopped.is_set():
                return
            is_steady = self._clock() - began_s > STEADY_S
            retry_s = FIRST_RETRY_S if is_steady else min(LONGEST_RETRY_S, max(FIRST_RETRY_S, 2 * retry_s))
            self._why = self._why or "it hung up"
            self._known.set()
            self._say(logging.WARNING, f"no MQTT broker at {self._address}: {self._why}")
            self._stopped.wait(retry_s)

    def _live(self) -> None:
        """One connection, until it breaks, or the link is closed."""
        self._why = ""
        client = self._client = self._new_client()
        client.connect(self._options.host or "", self._options.port_or_default, keepalive=KEEPALIVE_S,
                       clean_start=True, properties=self._properties())
        late_s, pace = self._clock() + CONNECT_S, Pace(self._clock())
        while (connection := client.socket()) is not None:
            now_s = self._clock()
            if self._stopped.is_set():
                return
            if not self.is_up and now_s > late_s:
                raise TimeoutError(f"it does not answer within {CONNECT_S:g} s")
            if self.is_up:
                self._send(client, now_s)
            if client.socket() is connection and has_come(connection, self._wake_read, writes=client.want_write()):
                client.loop_read()
                slowly_s = pace.take(self._clock())
                if slowly_s:
                    self._stopped.wait(slowly_s)
            if client.want_write():
                client.loop_write()
            client.loop_misc()
        self._why = client.refusal or self._why

    def _send(self, client: Client, now_s: float) -> None:
        """Hand over what is unsent, while nothing waits in the client: a slow broker gets the newest when it has the time."""
        if self._wants_again and now_s - self._again_s > AGAIN_S:
            self._wants_again, self._again_s = False, now_s
            with self._lock:
                self._unsent = dict.fromkeys(self._kept)
        while (self._unsent or self._news) and not client.want_write():
            with self._lock:
                if self._unsent:
                    topic = next(iter(self._unsent))
                    del self._unsent[topic]
                    payload, retain = self._kept[topic], True
                else:
                    said_s, topic, payload = self._news.popleft()
                    retain = False
                    if now_s - said_s > NEWS_S:
                        continue
            if HEADER_BYTES + len(topic.encode()) + len(payload) <= self._most_bytes:
                client.publish(topic, payload, retain=retain)
            elif topic not in self._too_long:
                self._too_long.add(topic)
                logger.warning("the broker takes no message over %d bytes, so %s stays here", self._most_bytes, topic)

    def _hang_up(self) -> None:
        client, self._client = self._client, None
        was_up = self.is_up
        self._up.clear()
        if client is None or client.socket() is None:
            return
        if self._stopped.is_set() and was_up:
            if self._will is not None:
                client.publish(*self._will, retain=True)
            client.disconnect()
            until_s = time.monotonic() + _JOIN_S / 2
            while (connection := client.socket()) is not None and client.want_write() and time.monotonic() < until_s:
                has_come(connection, self._wake_read, writes=True)
                client.loop_write()
        if (connection := client.socket()) is not None:
            connection.close()

    def _new_client(self) -> Wary:
        """A client a connection: whatever a broker left in the last one is gone with it."""
        options = self._options
        client = Wary(CallbackAPIVersion.VERSION2, client_id=options.client_id or f"pawlatch-{options.id}",
                       protocol=MQTTProtocolVersion.MQTTv5, reconnect_on_failure=False)
        client.connect_timeout = CONNECT_S
        client.max_queued_messages_set(MOST_NEWS)
        if options.username is not None:
            client.username_pw_set(options.username, self._password)
        if self._tls is not None:
            client.tls_set_context(self._tls)
        if self._will is not None:
            client.will_set(*self._will, retain=True)
        client.on_connect, client.on_subscribe = self._connected, self._subscribed
        client.on_disconnect, client.on_message = self._disconnected, self._heard
        return client

    def _properties(self) -> Properties:
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = 0
        properties.MaximumPacketSize = MOST_PACKET_BYTES
        return properties

    def _connected(self, client: Client, _: object, flags: object, reason: ReasonCode,
                   properties: Properties | None) -> None:
        if reason.is_failure:
            self._why = f"it refuses: {reason}"
            return
        self._most_bytes = getattr(properties, "MaximumPacketSize", MOST_BYTES)
        options = SubscribeOptions(qos=0, noLocal=True, retainAsPublished=True)
        if self._topics:
            client.subscribe([(topic, options) for topic in self._topics])
        with self._lock:
            self._unsent = dict.fromkeys(self._kept)
        self._up.set()
        self._known.set()
        self._say(logging.INFO, f"MQTT broker at {self._address}")

    def _subscribed(self, client: object, _: object, number: int, reasons: list[ReasonCode], properties: object) -> None:
        if refused := [topic for topic, reason in zip(self._topics, reasons, strict=False) if reason.is_failure]:
            logger.warning("the broker does not let this door listen to %s", ", ".join(refused))

    def _disconnected(self, client: object, _: object, flags: object, reason: ReasonCode, properties: object) -> None:
        if reason.is_failure and reason.getName() != "Unspecified error":
            self._why = self._why or f"it hung up: {reason}"

    def _heard(self, client: object, _: object, message: MQTTMessage) -> None:
        self._on_message(Heard(message.topic, bytes(message.payload), bool(message.retain)))

    @property
    def _address(self) -> str:
        return f"{self._options.host}:{self._options.port_or_default}"

    def _say(self, level: int, text: str) -> None:
        """Once, until there is something else to say."""
        logger.log(logging.DEBUG if text == self._said else level, text)
        self._said = text


def check(options: MqttOptions) -> str | None:
    """Whether the broker is there and takes this door's name and password; why not, None where it does.

    Raises:
        ConfigError: a certificate or the password cannot be read.
    """
    options = replace(options, client_id=f"{options.client_id or options.id}-check")  # not to throw out a door that runs
    with Link(options, will=None, topics=(), on_message=lambda heard: None) as link:
        return link.trouble(2 * CONNECT_S)
