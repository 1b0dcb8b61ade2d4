"""Where a server of the door listens: this machine alone, until it is told otherwise."""

from __future__ import annotations

import re

from pawlatch.errors import ConfigError

LOCAL_HOSTS = ("127.0.0.1", "::1", "localhost")


def check_listening(port: int | None, host: str, fps: float) -> None:
    """Hold the options of a server of pictures against their bounds.

    Raises:
        ConfigError: one is out of them.
    """
    if port is not None and not 0 <= port <= 65535:
        raise ConfigError(f"port must be 1 to 65535, or 0 for any free one, got {port}")
    if not is_host(host):
        raise ConfigError(f"host must be an address of this machine, got {host!r}; write 127.0.0.1")
    if not 0.2 <= fps <= 30:
        raise ConfigError(f"fps must be 0.2 to 30 pictures a second, got {fps:g}")


def is_host(text: str) -> bool:
    """Whether it is a name or an address that can be looked up: of what cannot, getaddrinfo raises no OSError."""
    try:
        text.encode("idna")  # no part may be empty or long
    except UnicodeError:
        return False
    return text.isprintable() and re.fullmatch(r"[^\s/@]{1,253}", text) is not None


def address(scheme: str, host: str, port: int) -> str:
    """As a browser wants it."""
    return f"{scheme}://[{host}]:{port}/" if ":" in host else f"{scheme}://{host}:{port}/"
