"""The model card, `pawlatch.json`: the whole contract between training, conversion and the door.

`model/pawlatch.json` is written by train and never changed; `model/edge/pawlatch.json` is the same plus `files`, `deploy`
and `parity`. One type, one reader, one writer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from pawlatch.errors import ModelCardError
from pawlatch.files import sha256, write_atomic
from pawlatch.image import FIT_POLICIES, FitPolicy
from pawlatch.photos import RESERVED

CARD_NAME = "pawlatch.json"
SCHEMA = 1
SAVED_MODEL = "saved_model"  # the key of what was measured on the SavedModel itself

Format = Literal["tflite", "onnx"]


@dataclass(frozen=True)
class InputSpec:
    """What the graph takes: RGB, (1, H, W, 3), values 0..255, brought there by `pawlatch.image.fit`."""

    size_hw: tuple[int, int]
    fit: FitPolicy = "center_crop"

    def __post_init__(self) -> None:
        if len(self.size_hw) != 2 or min(self.size_hw) < 16:
            raise ModelCardError(f"input.size_hw must be two sides of at least 16 pixels, got {self.size_hw}")
        if self.fit not in FIT_POLICIES:
            raise ModelCardError(f"input.fit must be one of {', '.join(FIT_POLICIES)}, got {self.fit!r}")


@dataclass(frozen=True)
class OutputSpec:
    """The signature names of the two outputs: softmax (1, n) and pooled features (1, d), both float32."""

    class_scores: str = "class_scores"
    embedding: str = "embedding"


@dataclass(frozen=True)
class VariantFile:
    """One converted file, named by its content."""

    name: str
    format: Format
    precision: str
    bytes: int
    sha256: str

    def __post_init__(self) -> None:
        if Path(self.name).name != self.name:
            raise ModelCardError(f"a variant's file must lie beside its card, got the name {self.name!r}")
        if type(self.bytes) is not int or not isinstance(self.sha256, str):
            raise ModelCardError(f"a variant's file needs a number of bytes and a SHA-256, got {self.bytes!r}, {self.sha256!r}")


@dataclass(frozen=True)
class ModelCard:
    """Everything a program must know of a model beside its weights."""

    name: str
    labels: tuple[str, ...]
    input: InputSpec
    unlock: tuple[str, ...] = ()
    outputs: OutputSpec = field(default_factory=OutputSpec)
    operating_points: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # variant -> {"threshold": ...}
    strangers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # variant -> statistics, or what differs
    provenance: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, VariantFile] = field(default_factory=dict)
    deploy: str | None = None
    parity: Mapping[str, Any] = field(default_factory=dict)
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        if len(self.labels) < 2 or len(set(self.labels)) != len(self.labels):
            raise ModelCardError(f"a card needs at least two labels, all different, got {list(self.labels)}")
        if unknown := [label for label in self.unlock if label not in self.labels]:
            raise ModelCardError(f"unlock must name labels of {', '.join(self.labels)}, got {', '.join(unknown)}")
        if reserved := [label for label in self.unlock if label in RESERVED]:
            raise ModelCardError(f"{', '.join(reserved)} can never unlock: it stands for strangers or an empty place")
        if self.deploy is not None and self.deploy not in self.files:
            raise ModelCardError(f"deploy must name one of {', '.join(self.files) or 'no files'}, got {self.deploy!r}")

    def threshold(self, variant: str) -> float:
        """The unlock score from which a frame speaks for opening: the variant's own, else the SavedModel's.

        Raises:
            ModelCardError: the card holds neither.
        """
        for key in (variant, SAVED_MODEL):
            if key in self.operating_points:
                return float(self.operating_points[key]["threshold"])
        raise ModelCardError(f"the card of {self.name} has no operating point; train it again with --unlock LABEL")

    def stranger_statistics(self, variant: str) -> Mapping[str, Any] | None:
        """What `pawlatch.strangers` tells strangers by; None where the card has nothing.

        A variant's own keys go before those of the SavedModel: as a rule it keeps a threshold of its own, and shares the
        directions, which are large.
        """
        return {**self.strangers.get(SAVED_MODEL, {}), **self.strangers.get(variant, {})} or None

    def to_json(self) -> str:
        """The card's text: stable key order, so that equal cards are equal files."""
        fields = asdict(self)
        first = {key: fields.pop(key) for key in ("schema", "name", "labels", "unlock")}
        return json.dumps({**first, **fields}, indent=2, ensure_ascii=False) + "\n"

    def write(self, folder: Path) -> None:
        """Write `folder/pawlatch.json` in one rename: the only commit of a bundle."""
        write_atomic(folder / CARD_NAME, self.to_json())


def read_card(folder: Path) -> ModelCard:
    """Read `folder/pawlatch.json`.

    Raises:
        ModelCardError: no card, not JSON, a missing or wrong key, or a newer schema.
    """
    path = folder / CARD_NAME
    if not folder.is_dir():
        raise ModelCardError(f"expected a model folder, but {folder} is none; make one with `pawlatch train photos/`")
    if not path.is_file():
        raise ModelCardError(
            f"{folder} holds no {CARD_NAME}, so its labels and input are unknown; make the model with `pawlatch train`, "
            "or name the edge/ folder that `convert` wrote"
        )
    return parse_card(path.read_bytes(), name=str(path))


def parse_card(data: bytes, *, name: str) -> ModelCard:
    """A card from its bytes; `name` is what messages call it.

    Raises:
        ModelCardError: not JSON, a missing or wrong key, or a newer schema.
    """
    try:
        return _parse(json.loads(data.decode("utf-8")))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        detail = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise ModelCardError(f"{name} is not a usable card: {detail}") from error


def read_bundle(folder: Path) -> tuple[Path, ModelCard]:
    """Read what the device gets: `folder` itself, or its `edge/` where a whole model folder was named.

    Returns:
        The bundle's folder and its card.

    Raises:
        ModelCardError: as `read_card`, or nothing was converted yet.
    """
    bundle = folder / "edge" if (folder / "edge" / CARD_NAME).is_file() else folder
    card = read_card(bundle)
    if not card.files:
        raise ModelCardError(f"{bundle} holds no converted model; run `convert --int8 {folder}` first")
    return bundle, card


def verified_file(bundle: Path, card: ModelCard, variant: str | None) -> tuple[str, Path]:
    """The variant's name (the card's `deploy` where None) and its file, whose bytes are what the card says.

    Raises:
        ModelCardError: no such variant, a missing file, or another hash.
    """
    name = variant or card.deploy
    if name is None:
        raise ModelCardError(f"no variant of {bundle} was promoted; name one of {', '.join(card.files)} with --variant")
    if name not in card.files:
        raise ModelCardError(f"{bundle} has no variant {name!r}; choose one of {', '.join(card.files)}")
    entry = card.files[name]
    path = bundle / entry.name
    if not path.is_file():
        raise ModelCardError(f"{path} is missing; copy the whole folder {bundle.name}/ again")
    if (digest := sha256(path)) != entry.sha256:
        raise ModelCardError(
            f"{path} is not the file its card vouches for (SHA-256 {digest[:8]}… instead of {entry.sha256[:8]}…); "
            "copy the bundle again or convert again"
        )
    return name, path


def _parse(raw: dict[str, Any]) -> ModelCard:
    schema = raw["schema"]
    if not isinstance(schema, int):
        raise ModelCardError(f"schema must be an integer, got {schema!r}")
    if schema > SCHEMA:
        raise ModelCardError(
            f"its schema is {schema}, and this pawlatch reads up to {SCHEMA}; upgrade with `pip install -U pawlatch`"
        )
    return ModelCard(
        name=str(raw["name"]),
        labels=tuple(map(str, raw["labels"])),
        unlock=tuple(map(str, raw["unlock"])),
        input=InputSpec(size_hw=(int(raw["input"]["size_hw"][0]), int(raw["input"]["size_hw"][1])), fit=raw["input"]["fit"]),
        outputs=OutputSpec(str(raw["outputs"]["class_scores"]), str(raw["outputs"]["embedding"])),
        operating_points=dict(raw["operating_points"]),
        strangers=dict(raw["strangers"]),
        provenance=dict(raw["provenance"]),
        files={variant: VariantFile(**entry) for variant, entry in raw["files"].items()},
        deploy=raw["deploy"],
        parity=dict(raw["parity"]),
        schema=schema,
    )
