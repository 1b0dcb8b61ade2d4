"""What opens the page: a token that is shown once, and of which only the hash is kept.

It is 256 random bits, so a plain SHA-256 of it is enough: there is nothing to guess by trying words, and a slow hash such as
scrypt would only let strangers keep a small board busy. The file is its owner's alone, in the journal's folder, which the
service may write and nobody else reads.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, get_args

from pawlatch.errors import OutputError
from pawlatch.files import write_atomic

Kind = Literal["page", "metrics"]  # metrics: reads GET /metrics, and can do nothing else
KINDS: tuple[Kind, ...] = get_args(Kind)


class Tokens:
    """The tokens of the door whose journal is in `folder`. Each look is at the disk: a new token holds at once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, kind: Kind) -> Path:
        """Where its hash is kept."""
        return self._folder / f"{kind}.token"

    def new(self, kind: Kind) -> str:
        """Make one, in place of the one there was, keep its hash, and tell it this once.

        Raises:
            OutputError: the folder cannot be written to.
        """
        token = secrets.token_urlsafe(32)
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _as_owner(self._folder):
                write_atomic(self.path(kind), f"sha256:{_hash(token)}\n", mode=0o600)
        except PermissionError as error:
            raise OutputError(f"cannot write {error.filename}: no permission; it belongs to the door's user, "
                              "so try: sudo pawlatch web token") from error
        except OSError as error:
            raise OutputError(f"cannot write {self.path(kind)}: {error.strerror}; "
                              "name the journal's folder by --config door.toml or --journal DIR") from error
        return token

    def hash(self, kind: Kind) -> str | None:
        """What is kept of it; None where there is none yet, or it cannot be read."""
        try:
            scheme, _, found = self.path(kind).read_text(encoding="ascii").strip().partition(":")
        except (OSError, ValueError):
            return None
        return found if scheme == "sha256" and len(found) == hashlib.sha256().digest_size * 2 else None

    def is_token(self, text: str, *kinds: Kind) -> bool:
        """Whether it is one of these; takes as long for one that is nearly right."""
        given = _hash(text)
        known = [found for kind in kinds if (found := self.hash(kind)) is not None]
        return bool(sum(hmac.compare_digest(given, each) for each in known))  # each is looked at


@contextmanager
def _as_owner(folder: Path) -> Iterator[None]:
    """Root, by sudo, becomes the folder's owner: the file is the service's then, and no link laid there reaches farther."""
    owner = folder.stat()
    if os.geteuid() != 0 or owner.st_uid == 0:
        yield
        return
    group = os.getegid()
    os.setegid(owner.st_gid)
    os.seteuid(owner.st_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
