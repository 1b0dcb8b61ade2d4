"""Another bundle comes to this machine: fetched beside the old one, checked, tested, and only then put in its place."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from pawlatch.bundle import (
    Origin,
    adopt,
    files_of,
    locked,
    previous_card,
    require_selftest,
    roll_back,
    selftest_names,
    version_of,
)
from pawlatch.card import CARD_NAME, ModelCard, parse_card, read_card
from pawlatch.classify import Classifier
from pawlatch.config import Config
from pawlatch.decide import policy_from_card
from pawlatch.errors import OutputError, PawlatchError, UpdateError
from pawlatch.fetch import Source
from pawlatch.files import sha256, write_atomic
from pawlatch.model import ModelOptions, open_model
from pawlatch.rules import check_labels
from pawlatch.selftest import FOLDER as SELFTEST
from pawlatch.selftest import SelfTestReport, name_of, selftest
from pawlatch.signature import LONGEST, SIGNATURE_NAME, require_signature

CARD_LIMIT = 4 << 20  # bytes; statistics of strangers are the most of it; parsed, it may take thirty times as much
LIST_LIMIT, PHOTO_LIMIT, PHOTOS = 1 << 20, 32 << 20, 32  # of the self-test
NAMED = 8  # digits of its SHA-256 at least in a file's name: two contents never share one
BUNDLE_LIMIT = 2 << 30
SPARE = 32 << 20  # that stays free on the disk
STAGING = ".pull"  # in the bundle's folder, since a service may write nowhere else; never two at once, so a fixed name
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Offer:
    """What a source has: its card and, where a public key is asked for, the signature, which was found good."""

    source: Source
    data: bytes
    card: ModelCard
    signature: bytes | None
    key: Path | None

    @property
    def version(self) -> str:
        """Its version."""
        return version_of(self.data)


@dataclass(frozen=True)
class Arrival:
    """A bundle in its staging folder, whole and tested."""

    offer: Offer
    staged: Path
    classifier: Classifier
    report: SelfTestReport


def look(place: str, *, key: Path | None = None) -> Offer:
    """The card that a place has now.

    Raises:
        UpdateError: it cannot be had, or is not signed by `key`.
        ModelCardError: it is no card of a bundle.
    """
    source = Source(place, allows_plain=key is not None)
    data = source.read(CARD_NAME, limit=CARD_LIMIT)
    signature = None
    if key is not None:
        try:
            signature = source.read(SIGNATURE_NAME, limit=LONGEST)
        except UpdateError as error:
            raise UpdateError(f"a bundle must be signed by {key}, and this one is not: {error}; its publisher types: pawlatch "
                              "model sign BUNDLE --key KEY") from error
        require_signature(data, signature, key)
    card = parse_card(data, name=f"the card from {source.place}")
    if not card.files:
        raise UpdateError(f"{source.place} has a model's card that names no converted file; publish its edge/ folder")
    for entry in card.files.values():
        if entry.sha256[:NAMED] not in entry.name or len(entry.sha256) != 64 or entry.bytes < 0:
            raise UpdateError(f"{entry.name} is not named by its content ({entry.sha256[:8]}…), so it could replace another "
                              "file of that name; convert again")
    return Offer(source, data, card, signature, key)


@contextmanager
def arrive(offer: Offer, bundle: Path, config: Config) -> Iterator[Arrival]:
    """Fetch an offer into a folder of its own within `bundle`, and test it; whatever is not adopted is gone afterwards.

    Raises:
        UpdateError, ModelCardError, EngineError, ConfigError: it is not what its card says, fails its self-test, or does not
            go with the settings.
        OutputError: no room, or another update is at work.
    """
    is_new = not bundle.exists()
    try:
        bundle.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {bundle}: {error.strerror}") from error
    staged = bundle / STAGING
    with locked(bundle):
        try:
            with _writing(staged, bundle):
                _fetch(offer, staged, bundle)
            classifier, report = _tested(staged, offer.version, config)
            if not report.photos:  # a card may say anything of its model then, and the door would end at the first frame
                raise UpdateError(f"{offer.version} brings no self-test, so nobody knows what it does here; convert again")
            yield Arrival(offer, staged, classifier, report)
        finally:
            shutil.rmtree(staged, ignore_errors=True)
            if is_new and not (bundle / CARD_NAME).exists():
                shutil.rmtree(bundle, ignore_errors=True)


def take_over(arrival: Arrival, bundle: Path, *, place: str | None = None) -> None:
    """Make an arrival the bundle; the one that was there is the previous one. A running door takes it by itself.

    `place` is written down as its origin instead of the source's.

    Raises:
        OutputError: the disk refuses; then the bundle is as it was.
    """
    offer = arrival.offer
    key = "" if offer.key is None else str(offer.key)
    adopt(bundle, arrival.staged, offer.data, signature=offer.signature,
          origin=Origin(place or offer.source.place, datetime.now().astimezone().isoformat(timespec="seconds"), key))
    _log.info("%s now holds %s from %s", bundle, offer.version, offer.source.place)


def take_back(bundle: Path, config: Config) -> SelfTestReport:
    """Make the previous model the bundle's again, once it is found good here and now; twice is once more the new one.

    Raises:
        UpdateError, ModelCardError, EngineError, ConfigError: there is none, or it fails its self-test or does not go with
            the settings; then the bundle is as it was.
        OutputError: the disk refuses, or another update is at work.
    """
    staged = bundle / STAGING
    with locked(bundle):
        card, data = previous_card(bundle)
        try:
            with _writing(staged, bundle):
                for name in files_of(bundle, card):
                    (staged / name).symlink_to((bundle / name).absolute())
                write_atomic(staged / CARD_NAME, data)
            _, report = _tested(staged, version_of(data), config)
        finally:
            shutil.rmtree(staged, ignore_errors=True)
        roll_back(bundle)
    return report


def model_options(config: Config, bundle: Path) -> ModelOptions:
    """What the settings want of the model in `bundle`."""
    return replace(config.model, bundle=bundle)


@contextmanager
def _writing(staged: Path, bundle: Path) -> Iterator[None]:
    """A staging folder, empty, to be written into."""
    try:
        shutil.rmtree(staged, ignore_errors=True)  # of one that was killed
        (staged / SELFTEST).mkdir(parents=True)
        yield
    except OSError as error:
        if isinstance(error, PawlatchError):
            raise
        raise OutputError(f"cannot write {staged}: {error.strerror}; make room, or become the owner of {bundle}") from error


def _fetch(offer: Offer, staged: Path, bundle: Path) -> None:
    """Every file that the card names, each held against its hash; what the old bundle has is copied."""
    source, card = offer.source, offer.card
    needed = sum(entry.bytes for entry in card.files.values())
    free = shutil.disk_usage(staged).free - SPARE
    if needed > min(BUNDLE_LIMIT, free):
        raise OutputError(f"the bundle takes {needed >> 20} MB, and {bundle} has room for {max(0, free) >> 20} MB "
                          f"(at most {BUNDLE_LIMIT >> 20} MB are taken)")
    for entry in card.files.values():
        have = bundle / entry.name
        if have.is_file() and sha256(have) == entry.sha256:
            write_atomic(staged / entry.name, have.read_bytes())  # on the disk, since it takes that one's place
        else:
            source.save(entry.name, staged / entry.name, size=entry.bytes, sha256=entry.sha256)
    if digest := card.parity.get(SELFTEST):
        name = f"{SELFTEST}/{name_of(str(digest))}"
        write_atomic(staged / name, source.read(name, limit=LIST_LIMIT))
        photos = selftest_names(staged, str(digest))[:-1]
        if len(photos) > PHOTOS:
            raise UpdateError(f"the self-test from {source.place} has {len(photos)} photos, at most {PHOTOS} are taken")
        for name in photos:
            data = source.read(name, limit=PHOTO_LIMIT)
            if len(Path(name).stem) < NAMED:
                raise UpdateError(f"{name} from {source.place} is not named by its content; convert again")
            write_atomic(staged / name, data)
    write_atomic(staged / CARD_NAME, offer.data)


def _tested(staged: Path, version: str, config: Config) -> tuple[Classifier, SelfTestReport]:
    """A bundle as the door would open it, which has passed its self-test and goes with the settings."""
    try:
        require_selftest(staged, read_card(staged))
        classifier = open_model(model_options(config, staged))
        report = selftest(classifier)
        check_labels(config.door.labels, classifier.card.labels)
        policy_from_card(classifier.card, classifier.variant, config.decision)
    except PawlatchError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:  # of numbers that are none
        raise UpdateError(f"{version} has no usable card or self-test: {type(error).__name__}: {error}") from error
    if not report.ok:
        raise UpdateError(f"{version} is not taken: {report}")
    return classifier, report
