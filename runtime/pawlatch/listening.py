"""Where a server of the door listens: this machine alone, until it is told otherwise."""

from __future__ import annotations

from pawlatch.errors import ConfigError

LOCAL_HOSTS = ("127.0.0.1", "::1", "localhost")


def check_listening(port: int | None, host: str, fps: float) -> None:
    """Hold the options of a server of pictures against their bounds.

    Raises:
        ConfigError: one is out of them.
    """
    if port is not None and not 0 <= port <= 65535:
        raise ConfigError(f"port must be 1 to 65535, or 0 for any free one, got {port}")
    if not _can_be_host(host):
        raise ConfigError(f"host must be an address of this machine, got {host!r}; write 127.0.0.1")
    if not 0.2 <= fps <= 30:
        raise ConfigError(f"fps must be 0.2 to 30 pictures a second, got {fps:g}")


def _can_be_host(host: str) -> bool:
    """Whether it can be looked up at all: of what cannot, getaddrinfo raises no OSError."""
    try:
        return host in LOCAL_HOSTS or (host.isprintable() and host.encode("idna") != b"")
    except UnicodeError:
        return False


def address(scheme: str, host: str, port: int) -> str:
    """As a browser wants it."""
    return f"{scheme}://[{host}]:{port}/" if ":" in host else f"{scheme}://{host}:{port}/"
