"""Whether and where the page is served."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from pawlatch.errors import ConfigError
from pawlatch.listening import check_listening

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")


@dataclass(frozen=True)
class WebOptions:
    """Where the page listens, and by which names it is asked for.

    Raises:
        ConfigError: a value is out of its bounds.
    """

    # 1 to 65535: the page is served there (0: on any free port); absent: it is not served
    port: int | None = None
    # the address it listens on; only this machine can see 127.0.0.1, the whole network 0.0.0.0
    host: str = "127.0.0.1"
    # names in the browser's address line, beside this machine's own and addresses in digits: all others are refused
    names: tuple[str, ...] = ()
    # a certificate (PEM, with its chain) and its key: the page is then https
    certificate: Path | None = None
    key: Path | None = None
    # pictures a second at most, 0.2 to 30
    fps: float = 5.0

    def __post_init__(self) -> None:
        check_listening(self.port, self.host, self.fps)
        for name in self.names:
            if not _NAME.fullmatch(name):
                raise ConfigError(f"names must be names of this machine in small letters, as door.home.arpa, got {name!r}")
        if (self.certificate is None) != (self.key is None):
            raise ConfigError(f"{'key' if self.key is None else 'certificate'} must be set too: https needs both")
