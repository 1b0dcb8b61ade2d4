"""Files of a bundle from where it is published: an `https://` folder, or a folder on this machine.

Nothing that a server says is believed: sizes are bounded while they come, names may not leave the folder, a redirect may not
leave TLS. What makes a file the right one is its hash, which the caller knows.
"""

from __future__ import annotations

import hashlib
import os
import re
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any
from urllib import request
from urllib.error import URLError
from urllib.parse import quote, unquote, urlsplit

from pawlatch import __version__
from pawlatch.card import CARD_NAME
from pawlatch.errors import UpdateError
from pawlatch.listening import LOCAL_HOSTS

SILENCE_S = 20.0  # without a byte
LONGEST_S = 3600.0  # for all of a bundle: a server that drips is left
_NAME = re.compile(r"(?:selftest/)?[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")  # of a file in a bundle
_CHUNK = 1 << 16


class Source:
    """A published bundle. `allows_plain`: `http://` may reach beyond this machine, since a signature vouches for the card.

    Raises:
        UpdateError: an address that is not to be trusted, or holds what belongs into no address.
    """

    def __init__(self, place: str, *, allows_plain: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._until_s = clock, clock() + LONGEST_S
        self._folder: Path | None = None
        try:
            parts = urlsplit(place)
        except ValueError as error:
            raise UpdateError(f"a bundle comes from https://… or a folder; what was named is no address: {error}") from error
        if parts.scheme == "file" and parts.netloc in ("", "localhost"):
            self._folder = Path(unquote(parts.path))
        elif "://" not in place:
            self._folder = Path(place)
        elif parts.scheme not in ("http", "https") or not parts.hostname:
            raise UpdateError(f"a bundle comes from https://… or from a folder, got {_without_secrets(place)}")
        if self._folder is not None:
            edge = self._folder / "edge"
            self._folder = (edge if (edge / CARD_NAME).is_file() else self._folder).absolute()
            self.place = str(self._folder)
            return
        if parts.username or parts.password or parts.query or parts.fragment:
            raise UpdateError(f"an address must hold no password, query or fragment, since addresses are written down, got "
                              f"{_without_secrets(place)}")
        if parts.scheme == "http" and parts.hostname not in LOCAL_HOSTS and not allows_plain:
            raise UpdateError(f"{place} is not encrypted, so anybody on the way could change it; take https://, or name the "
                              "publisher's public key with --key")
        self.place = place.removesuffix(CARD_NAME).rstrip("/")

    def read(self, name: str, *, limit: int) -> bytes:
        """A file of at most `limit` bytes.

        Raises:
            UpdateError: it cannot be had, or is longer.
        """
        return b"".join(self._chunks(name, limit))

    def save(self, name: str, path: Path, *, size: int, sha256: str) -> None:
        """Write a file of so many bytes whose SHA-256 begins with `sha256` to `path`, and to the disk.

        Raises:
            UpdateError: it cannot be had, or is another; `path` then holds nothing that may be used.
        """
        digest, told = hashlib.sha256(), 0
        with path.open("wb") as file:
            for chunk in self._chunks(name, size):
                digest.update(chunk)
                told += len(chunk)
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        self._require(name, size=size, told=told, sha256=sha256, digest=digest.hexdigest())

    def _require(self, name: str, *, size: int, told: int, sha256: str, digest: str) -> None:
        if told != size:
            raise UpdateError(f"{name} from {self.place} has {told} bytes, its card says {size}; publish the bundle again")
        if not digest.startswith(sha256):
            raise UpdateError(f"{name} from {self.place} is not the file its card vouches for (SHA-256 {digest[:8]}… instead "
                              f"of {sha256[:8]}…); publish the bundle again")

    def _chunks(self, name: str, limit: int) -> Iterator[bytes]:
        if not _NAME.fullmatch(name) or ".." in name:
            raise UpdateError(f"the bundle in {self.place} names a file {name!r}, which would lie outside; it is not used")
        told = 0
        try:
            with closing(self._opened(name)) as file:
                read = getattr(file, "read1", file.read)  # what has come, and does not wait for more
                announced = getattr(file, "length", None)
                if announced is not None and announced > limit:
                    raise UpdateError(f"{name} from {self.place} has {announced} bytes, at most {limit} are expected")
                while chunk := read(_CHUNK):
                    told += len(chunk)
                    if told > limit:
                        raise UpdateError(f"{name} from {self.place} does not end after {limit} bytes, as it should")
                    if self._clock() > self._until_s:
                        raise UpdateError(f"{self.place} is too slow: the bundle did not come in {LONGEST_S / 60:.0f} minutes")
                    yield chunk
                if announced is not None and told < announced:
                    raise UpdateError(f"{name} from {self.place} stopped after {told} of {announced} bytes; try again")
        except UpdateError:
            raise
        except (OSError, ValueError, OverflowError, HTTPException) as error:  # overflow: of a port
            raise UpdateError(f"cannot fetch {name} from {self.place}: {_reason(error)}") from error

    def _opened(self, name: str) -> IO[bytes]:
        if self._folder is not None:
            return (self._folder / name).open("rb")
        return _opened(f"{self.place}/{quote(name)}")


class _Redirects(request.HTTPRedirectHandler):
    """Only to TLS, or within a server that was asked without."""

    def redirect_request(self, req: request.Request, fp: Any, code: int, msg: str, headers: Any,
                         newurl: str) -> request.Request | None:
        before, after = urlsplit(req.full_url), urlsplit(newurl)
        if after.scheme != "https" and (before.scheme, before.hostname) != (after.scheme, after.hostname):
            raise URLError(f"it is redirected to {after.scheme}://{after.hostname}, which is not encrypted")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opened(url: str) -> IO[bytes]:
    """An answer with status 200. Of urllib's handlers those alone that a bundle needs: no file://, no ftp://."""
    opener = request.OpenerDirector()
    proxies: dict[str, str] | None = {} if urlsplit(url).hostname in LOCAL_HOSTS else None  # None: those of the environment
    for handler in (request.ProxyHandler(proxies), request.HTTPHandler(),
                    request.HTTPSHandler(context=ssl.create_default_context()), request.HTTPDefaultErrorHandler(),
                    request.HTTPErrorProcessor(), _Redirects()):
        opener.add_handler(handler)
    asked = request.Request(url, headers={"User-Agent": f"pawlatch/{__version__}"})
    answer: IO[bytes] = opener.open(asked, timeout=SILENCE_S)
    return answer


def _reason(error: Exception) -> str:
    status, reason = getattr(error, "code", None), getattr(error, "reason", None)
    if status is not None:
        return f"the server answers {status} {reason}"
    return str(reason or getattr(error, "strerror", None) or error)


def _without_secrets(place: str) -> str:
    parts = urlsplit(place)
    return f"{parts.scheme}://{parts.hostname or ''}{parts.path}"
