"""Bundles as a publisher has them."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

from pawlatch.card import CARD_NAME
from pawlatch.files import sha256
from pawlatch.selftest import FOLDER, name_of


def publish(source: Path, bundle: Path, **changes: object) -> Path:
    """Copy a bundle to the new folder `bundle`, laid out as `convert` does it (the tests' own has names for people), its card changed so."""
    shutil.copytree(source, bundle)
    card = json.loads((bundle / CARD_NAME).read_text())
    (answers,) = (bundle / FOLDER).glob("*.json")
    expected = json.loads(answers.read_text())
    answers.unlink()
    for photo in expected["photos"]:
        path = bundle / FOLDER / photo["file"]
        photo["file"] = f"{sha256(path)[:16]}.jpg"
        path.rename(path.with_name(photo["file"]))
    text = json.dumps(expected)
    digest = hashlib.sha256(text.encode()).hexdigest()
    (bundle / FOLDER / name_of(digest)).write_text(text)
    card["parity"][FOLDER] = digest
    (bundle / CARD_NAME).write_text(json.dumps(card | changes))
    return bundle
