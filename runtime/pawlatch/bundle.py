"""A bundle on the disk: what its card names, what came before, and how one takes the other's place. No TensorFlow here.

The rename of the card is the only commit. Files are named by content, so that the previous card's lie beside the new ones.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from pawlatch.card import CARD_NAME, ModelCard, parse_card, read_bundle, read_card, verified_file
from pawlatch.errors import ModelCardError, OutputError
from pawlatch.files import sha256, sync_folder, write_atomic
from pawlatch.selftest import FOLDER as SELFTEST
from pawlatch.selftest import name_of, read_expected
from pawlatch.signature import SIGNATURE_NAME

PREVIOUS_NAME = "pawlatch.previous.json"
ORIGIN_NAME = "origin.json"
_TOLD_OF_IT = ("parity.json", "parity.html", SIGNATURE_NAME)  # beside a card, of that card alone
_OURS = re.compile(r"[a-z0-9_]+-[0-9a-f]{8}\.(tflite|onnx)")
# what a run that was killed may leave
_LEFTOVER = re.compile(r"\..+\.\d+\.part|(parity\.json|parity\.html|pawlatch\.previous\.json|pawlatch\.json\.sig)\.new")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Origin:
    """Where a bundle came from, when (ISO 8601), and whose signature it had; "" where nobody asked for one."""

    place: str
    at: str
    key: str = ""


def version_of(card: bytes) -> str:
    """What people call a bundle: its model's name and the first 8 digits of its card's SHA-256."""
    name = str(json.loads(card)["name"])
    return f"{''.join(c if c.isprintable() else '?' for c in name)[:60]} {hashlib.sha256(card).hexdigest()[:8]}"


def installed(folder: Path) -> tuple[Path, str]:
    """A bundle's folder and its version.

    Raises:
        ModelCardError: there is none.
    """
    bundle, _ = read_bundle(folder)
    return bundle, version_of((bundle / CARD_NAME).read_bytes())


def files_of(bundle: Path, card: ModelCard) -> list[str]:
    """All that a card vouches for, each once, as names from the bundle on; the list of the self-test must be there.

    Raises:
        ModelCardError: it is not.
    """
    named = (*(entry.name for entry in card.files.values()), *selftest_names(bundle, card.parity.get(SELFTEST)))
    return list(dict.fromkeys(named))  # the same photo may be there twice, under two labels


@contextmanager
def locked(bundle: Path) -> Iterator[None]:
    """Keep other updates of this bundle out; a lock that ends with its process.

    Raises:
        OutputError: another one is at work, or the folder cannot be read.
    """
    try:
        held = os.open(bundle, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise OutputError(f"cannot open the folder {bundle}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OutputError(f"another update of {bundle} is at work; try again when it has ended") from error
        yield
    finally:
        os.close(held)


def adopt(bundle: Path, staged: Path, card: bytes, *, signature: bytes | None = None, origin: Origin | None = None) -> None:
    """Make what lies in `staged` (on the same disk, whole, and on it) the bundle; the one that was there is the previous.

    Raises:
        OutputError: the disk refuses; then the bundle is as it was.
    """
    _end_what_was_begun(bundle)
    before = _bytes(bundle / CARD_NAME)
    (bundle / SELFTEST).mkdir(exist_ok=True)
    for name in files_of(staged, parse_card(card, name=str(staged))):
        (staged / name).replace(bundle / name)
    if origin is not None:
        _note_origin(bundle, card, origin)
    waiting = bundle / f"{PREVIOUS_NAME}.new"
    if before not in (None, card):
        write_atomic(waiting, before or b"")
    signed = bundle / f"{SIGNATURE_NAME}.new"
    if signature is not None:
        write_atomic(signed, signature)
    for folder in (bundle / SELFTEST, bundle):
        sync_folder(folder)  # the names, before the card that speaks of them
    write_atomic(bundle / CARD_NAME, card)
    sync_folder(bundle)
    if waiting.is_file():  # after the commit only what needs no room on the disk
        waiting.replace(bundle / PREVIOUS_NAME)
    _forget_reports(bundle)
    if signature is not None:
        signed.replace(bundle / SIGNATURE_NAME)
    sweep(bundle)


def previous_card(bundle: Path) -> tuple[ModelCard, bytes]:
    """The previous card, and its bytes; all that it names is whole.

    Raises:
        ModelCardError: no bundle, no previous card, or a file of it, or its self-test, that is no longer whole.
    """
    read_card(bundle)
    _end_what_was_begun(bundle)
    if not (bundle / PREVIOUS_NAME).is_file():
        raise ModelCardError(f"{bundle} keeps no {PREVIOUS_NAME}: no bundle was promoted over another; convert again")
    data = (bundle / PREVIOUS_NAME).read_bytes()
    previous = parse_card(data, name=str(bundle / PREVIOUS_NAME))
    require_whole(bundle, previous)
    return previous, data


def roll_back(bundle: Path) -> ModelCard:
    """Make the previous card the bundle's again; the one that was there becomes the previous one, so that this undoes itself.

    Raises:
        ModelCardError: as `previous_card`.
        OutputError: the disk refuses; then the bundle is as it was.
    """
    previous, then = previous_card(bundle)
    waiting = bundle / f"{PREVIOUS_NAME}.new"
    write_atomic(waiting, (bundle / CARD_NAME).read_bytes())
    write_atomic(bundle / CARD_NAME, then)
    waiting.replace(bundle / PREVIOUS_NAME)
    _forget_reports(bundle)
    return previous


def sweep(bundle: Path) -> None:
    """Delete files of ours that neither the card nor the previous one names; none where one of them cannot be read."""
    wanted: set[str] = set()
    for name in (CARD_NAME, PREVIOUS_NAME):
        if (data := _bytes(bundle / name)) is None:
            continue
        try:
            card = parse_card(data, name=str(bundle / name))
        except ModelCardError as error:
            _log.warning("nothing is swept out: %s", error)
            return
        wanted |= {entry.name for entry in card.files.values()}
        wanted |= _kept_of_selftest(bundle, card.parity.get(SELFTEST))
    for path in bundle.iterdir():
        if (_OURS.fullmatch(path.name) and path.name not in wanted) or _LEFTOVER.fullmatch(path.name):
            path.unlink(missing_ok=True)
    for path in (bundle / SELFTEST).iterdir():
        if f"{SELFTEST}/{path.name}" not in wanted:
            path.unlink()


def require_whole(bundle: Path, card: ModelCard) -> None:
    """Refuse a bundle of which anything is not what its card vouches for.

    Raises:
        ModelCardError: a file, or the self-test, is missing or damaged.
    """
    for variant in card.files:
        verified_file(bundle, card, variant)
    require_selftest(bundle, card)


def require_selftest(bundle: Path, card: ModelCard) -> None:
    """Refuse a bundle whose self-test is not what its card vouches for; one without a self-test is whole.

    Raises:
        ModelCardError: its list or a photo is missing or damaged, or the list holds nothing of a variant.
    """
    digest = card.parity.get(SELFTEST)
    names = selftest_names(bundle, digest)
    for name in names[:-1]:  # photos, each named by its content
        path = bundle / name
        if not path.is_file() or not sha256(path).startswith(path.stem):
            raise ModelCardError(f"{path}, a photo of the self-test, is missing or damaged; convert again")
    if digest and (unknown := card.files.keys() - read_expected(bundle, digest)["variants"].keys()):
        raise ModelCardError(f"the self-test in {bundle} holds nothing of {', '.join(sorted(unknown))}; convert again")


def selftest_names(folder: Path, digest: str | None) -> list[str]:
    """Files of the self-test that a card names by its digest, from the bundle on; none of a bundle without one.

    Raises:
        ModelCardError: its list is missing or not what the card vouches for.
    """
    if digest is None:
        return []
    try:
        photos = [photo["file"] for photo in read_expected(folder, digest)["photos"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelCardError(f"the self-test in {folder} is not whole: {error}; convert again") from error
    return [f"{SELFTEST}/{name}" for name in (*photos, name_of(digest))]


def origin_of(bundle: Path, card: bytes) -> Origin | None:
    """Where this card came from; None where it was copied by hand, or converted here."""
    noted = _origins(bundle).get(hashlib.sha256(card).hexdigest())
    return None if noted is None else Origin(**noted)


def _note_origin(bundle: Path, card: bytes, origin: Origin) -> None:
    """Beside those of the card and the previous one; by hash, so that it is true before the commit and after."""
    kept = {hashlib.sha256(data).hexdigest() for name in (CARD_NAME, PREVIOUS_NAME) if (data := _bytes(bundle / name))}
    origins = {key: value for key, value in _origins(bundle).items() if key in kept}
    origins[hashlib.sha256(card).hexdigest()] = asdict(origin)
    write_atomic(bundle / ORIGIN_NAME, json.dumps(origins, indent=2) + "\n")


def _origins(bundle: Path) -> dict[str, dict[str, str]]:
    try:
        noted = json.loads((bundle / ORIGIN_NAME).read_bytes())
        return {key: {name: str(value[name]) for name in ("place", "at", "key")} for key, value in noted.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # none yet, or none of ours: then nobody knows
        return {}


def _end_what_was_begun(bundle: Path) -> None:
    """Between the commit and the last rename a process may have been killed: then the previous card still waits."""
    waiting = bundle / f"{PREVIOUS_NAME}.new"
    if not waiting.is_file():
        return
    if waiting.read_bytes() == _bytes(bundle / CARD_NAME):  # killed before the commit
        waiting.unlink()
    else:
        waiting.replace(bundle / PREVIOUS_NAME)


def _forget_reports(bundle: Path) -> None:
    for name in _TOLD_OF_IT:
        (bundle / name).unlink(missing_ok=True)


def _kept_of_selftest(bundle: Path, digest: str | None) -> set[str]:
    """The same for the sweep, to which a damaged list is nothing to keep."""
    try:
        return set(selftest_names(bundle, digest))
    except ModelCardError as error:
        _log.warning("not kept: %s", error)
        return set()


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None
