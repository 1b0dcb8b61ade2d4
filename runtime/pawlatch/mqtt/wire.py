"""paho-mqtt, imported in this one place, and on a short leash: what a connection may bring, how fast, and whom it trusts."""

from __future__ import annotations

import select
import socket
import ssl
from typing import TYPE_CHECKING, NoReturn

from pawlatch.errors import ConfigError, MissingExtraError
from pawlatch.mqtt.options import MqttOptions

try:
    from paho.mqtt.client import Client, MQTTMessage
    from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties
    from paho.mqtt.reasoncodes import ReasonCode
    from paho.mqtt.subscribeoptions import SubscribeOptions
except ImportError as error:
    raise MissingExtraError('MQTT needs paho-mqtt 2; type: pip install "pawlatch[mqtt]"') from error

if TYPE_CHECKING:
    from paho.mqtt.client import SocketLike

__all__ = [
    "CONNECT_S",
    "MOST_PACKET_BYTES",
    "CallbackAPIVersion",
    "Client",
    "MQTTMessage",
    "MQTTProtocolVersion",
    "Pace",
    "PacketTypes",
    "Properties",
    "ReasonCode",
    "SubscribeOptions",
    "Wary",
    "has_come",
    "tls_context",
    "why",
]

CONNECT_S = 5.0  # for a connection, and as much for the broker's welcome
MOST_PACKET_BYTES = 4096
BURST, PER_S, FLOOD_S = 20, 50.0, 10.0  # packets at once and a second; how long it may always be more
WAKE_S = 0.5


class Pace:
    """How fast a broker may talk."""

    def __init__(self, now_s: float) -> None:
        self._left, self._last_s, self._calm_s = float(BURST), now_s, now_s

    def take(self, now_s: float) -> float:
        """Count a packet; how long to leave the next one unread, in seconds.

        Raises:
            ConnectionError: it has been too many for too long.
        """
        self._left = min(float(BURST), self._left + (now_s - self._last_s) * PER_S) - 1
        self._last_s = now_s
        if self._left >= 0:
            self._calm_s = now_s
            return 0.0
        if now_s - self._calm_s > FLOOD_S:
            raise ConnectionError(f"it sends more than {PER_S:g} messages a second")
        return -self._left / PER_S


def has_come(connection: SocketLike, wake: socket.socket, *, writes: bool) -> bool:
    """Wait a little to be woken, for something to read, or until it `writes`; whether there is something to read."""
    if isinstance(connection, ssl.SSLSocket) and connection.pending():
        return True
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN | (select.POLLOUT if writes else 0))
    poll.register(wake.fileno(), select.POLLIN)
    ready = dict(poll.poll(WAKE_S * 1000))
    if wake.fileno() in ready:
        wake.recv(1024)
    return bool(ready.get(connection.fileno(), 0) & ~select.POLLOUT)


class Wary(Client):
    """paho's client, but one that takes no longer packet than was allowed: paho itself would read 256 MB into memory.

    Nor does it take a message that has to be acknowledged, since none was subscribed to: of these paho would remember 65,535.
    """

    refusal = ""

    def _sock_recv(self, bufsize: int) -> bytes:
        if bufsize > MOST_PACKET_BYTES:
            self.refusal = f"it sends {bufsize} bytes at once; {MOST_PACKET_BYTES} were allowed"
            raise ConnectionError(self.refusal)  # as if the line were broken
        return super()._sock_recv(bufsize)

    def _send_puback(self, mid: int) -> NoReturn:
        raise ConnectionError("it wants its messages remembered, and none such was asked for")

    _send_pubrec = _send_puback


def tls_context(options: MqttOptions) -> ssl.SSLContext:
    """Raises ConfigError where a certificate cannot be read."""
    context = ssl.create_default_context()
    try:
        if options.ca is not None:
            context = ssl.create_default_context(cafile=str(options.ca))
        if options.certificate is not None:
            context.load_cert_chain(str(options.certificate), str(options.key))
    except OSError as error:
        named = ", ".join(str(path) for path in (options.ca, options.certificate, options.key) if path)
        raise ConfigError(f"cannot read {named} as PEM: {error.strerror or error}") from error
    return context


def why(error: OSError) -> str:
    """What a person can do something with."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"{error.verify_message}; name who vouches for it as ca below [mqtt]"
    if isinstance(error, TimeoutError):
        return str(error) if error.errno is None and str(error) != "timed out" else f"silent for {CONNECT_S:g} s"
    return error.strerror or str(error) or type(error).__name__
