"""`TrainRecipe`: everything that decides how a training goes, from flags or a TOML file, kept with the model."""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_type_hints

from pawlatch.errors import PawlatchError
from pawlatch.image import FIT_POLICIES, FitPolicy
from pawlatch_train.augment import AUGMENTATIONS, Augmentation

Optimizer = Literal["sgd", "momentum", "nag", "adagrad", "adadelta", "rmsprop", "adam", "adamw"]
Schedule = Literal["constant", "cosine", "exponential", "step"]
Head = Literal["softmax", "logit"]


class RecipeError(PawlatchError, ValueError):
    """A recipe that cannot be followed."""


@dataclass(frozen=True)
class TrainRecipe:
    """How a training goes. None follows from the number of photos and how near they are to ImageNet (`cases.choose_case`).

    Raises:
        RecipeError: a field out of its range, or two that exclude each other.
    """

    fit: Annotated[FitPolicy, "how a picture becomes square"] = "stretch"
    augmentation: Annotated[str, "door, heavy, plain (framing alone) or none"] = "door"
    views: Annotated[int | None, "augmented views of each photo that the frozen part sees"] = None
    mixup: Annotated[float, "alpha of mixup's beta distribution; 0: none"] = 0.0
    batch: Annotated[int, "batch size of fine-tuning"] = 32
    head_batch: Annotated[int, "batch size of the frozen stage"] = 128
    seed: Annotated[int, "of splits, weights and augmentation"] = 0

    head: Annotated[Head, "the last layer; logit: one output for two labels"] = "softmax"
    dropout: Annotated[float, "before the last layer"] = 0.2
    l1: Annotated[float, "L1 penalty on the last layer's weights"] = 0.0
    l2: Annotated[float, "L2 penalty on the last layer's weights"] = 0.0
    label_smoothing: Annotated[float | None, "share of targets spread over all labels; default 0, of many photos 0.1"] = None
    class_weights: Annotated[bool, "every label counts alike, however many photos it has"] = True

    optimizer: Annotated[Optimizer, "of both stages"] = "adam"
    weight_decay: Annotated[float | None, "decoupled weight decay; adamw's default is 0.004"] = None
    clip_norm: Annotated[float, "largest norm of a gradient; 0: no bound"] = 5.0
    schedule: Annotated[Schedule, "of the learning rate within a stage; fine-tuning warms up first"] = "cosine"
    plateau: Annotated[int, "epochs without a lower validation loss after which the rate is halved; 0: never"] = 0
    early_stopping: Annotated[int, "epochs without a lower validation loss after which a stage ends; 0: never"] = 6

    head_epochs: Annotated[int, "most epochs of the frozen stage"] = 40
    head_rate: Annotated[float, "its learning rate"] = 2e-3
    fine_tune_epochs: Annotated[int | None, "most epochs of fine-tuning; 0: none"] = None
    fine_tune_rate: Annotated[float | None, "its learning rate"] = None
    fine_tune_at: Annotated[int | str | None, "first layer fine-tuned: index, name, block, or pattern (block_1[3-6]_*)"] = None
    freeze: Annotated[tuple[str, ...], "patterns of layers that stay frozen all the same, by commas"] = ()
    batch_norm_frozen: Annotated[bool | None, "batch norm keeps what it came with; default: unless --weights none"] = None

    distill_weight: Annotated[float, "with --distill: the teacher's share of the targets"] = 0.7
    distill_temperature: Annotated[float, "with --distill: how much the teacher's scores are softened"] = 2.0

    def __post_init__(self) -> None:
        for name, allowed in _choices().items():
            if getattr(self, name) not in allowed:
                raise RecipeError(f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise RecipeError(f"{name} must be from {low:g} to {high:g}, got {value!r}")
        if self.batch_norm_frozen is False and self.batch < 16:
            raise RecipeError(f"batch norm learns from batches of at least 16, got batch = {self.batch}; raise it or freeze it")
        if self.weight_decay and self.optimizer == "adagrad":
            raise RecipeError("weight_decay goes with sgd, momentum, nag, adadelta, rmsprop, adam and adamw, not with adagrad")

    def freezes_batch_norm(self, source: str) -> bool:
        """Whether batch norm keeps what it came with, for weights from `source`: random ones came with nothing to keep."""
        return source != "none" if self.batch_norm_frozen is None else self.batch_norm_frozen

    @property
    def augment_how(self) -> Augmentation:
        """What the name of the augmentation stands for."""
        return AUGMENTATIONS[self.augmentation]

    def to_toml(self) -> str:
        """The recipe as a TOML file that `read_recipe` takes; what is None is left out."""
        values = {name: value for name, value in dataclasses.asdict(self).items() if value is not None}
        return "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items())

    def with_values(self, values: Mapping[str, Any]) -> TrainRecipe:
        """A copy with other values, checked by type.

        Raises:
            RecipeError: an unknown field, or a value of another type.
        """
        return dataclasses.replace(self, **{name: _checked(name, value) for name, value in values.items()})


def read_recipe(path: Path) -> dict[str, Any]:
    """The fields that a TOML file names.

    Raises:
        RecipeError: no such file, not TOML, an unknown field, or a value of another type.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"--recipe must name a TOML file, but {path} cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise RecipeError(f"--recipe must name a TOML file, but {path} is none: {error}") from error
    return {name: _checked(name, value) for name, value in values.items()}


def parse_value(name: str, text: str) -> Any:
    """A field's value as it is typed: `0.1`, `adam`, `yes`, `a,b` for a list.

    Raises:
        RecipeError: an unknown field, or a text that is no such value.
    """
    kinds = _kinds(name)
    if text.lower() == "none" and type(None) in kinds:
        return None
    for kind in (int, float):
        if kind in kinds and bool not in kinds:
            try:
                return kind(text)
            except ValueError:
                continue
    if bool in kinds and text.lower() in _BOOLEANS:
        return _BOOLEANS[text.lower()]
    if tuple in kinds:
        return tuple(part for part in text.split(",") if part)
    if str in kinds:
        return text
    raise RecipeError(f"{name} takes {_described(kinds)}, got {text!r}")


_BOOLEANS = {"yes": True, "true": True, "on": True, "1": True, "no": False, "false": False, "off": False, "0": False}
_RANGES: dict[str, tuple[float, float]] = {
    "views": (0, 64), "mixup": (0, 10), "batch": (1, 4096), "head_batch": (1, 65536), "dropout": (0, 0.9),
    "l1": (0, 1), "l2": (0, 1), "label_smoothing": (0, 0.9), "weight_decay": (0, 1), "clip_norm": (0, 1e6),
    "plateau": (0, 1000), "early_stopping": (0, 1000), "head_epochs": (1, 10_000), "head_rate": (1e-9, 1e3),
    "fine_tune_epochs": (0, 10_000), "fine_tune_rate": (1e-9, 1e3), "distill_weight": (0, 1), "distill_temperature": (0.1, 100),
}


def help_of(name: str) -> str:
    """What a field means."""
    return str(get_type_hints(TrainRecipe, include_extras=True)[name].__metadata__[0])


def choices_of(name: str) -> tuple[str, ...] | None:
    """The words a field takes; None where it takes more than a few."""
    return _choices().get(name)


def _choices() -> dict[str, tuple[str, ...]]:
    return {"fit": FIT_POLICIES, "augmentation": tuple(AUGMENTATIONS), "optimizer": get_args(Optimizer),
            "schedule": get_args(Schedule), "head": get_args(Head)}


def _kinds(name: str) -> set[type]:
    """The plain types a field takes; a Literal counts as str."""
    if name not in _HINTS:
        raise RecipeError(f"a recipe has the fields {', '.join(_HINTS)}; there is no {name!r}")
    hint = _HINTS[name]
    kinds = set()
    for part in get_args(hint) if type(None) in get_args(hint) or get_args(hint) == (int, str) else (hint,):
        origin = getattr(part, "__origin__", part)
        kinds.add(str if origin is Literal else origin)
    return kinds


def _checked(name: str, value: Any) -> Any:
    kinds = _kinds(name)
    if tuple in kinds and isinstance(value, list | tuple):
        return tuple(map(str, value))
    if float in kinds and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) not in kinds:
        raise RecipeError(f"{name} takes {_described(kinds)}, got {value!r}")
    return value


def _described(kinds: set[type]) -> str:
    names = {int: "a whole number", float: "a number", bool: "yes or no", str: "a word", tuple: "a list", type(None): "none"}
    return " or ".join(names[kind] for kind in kinds)


_HINTS: dict[str, Any] = get_type_hints(TrainRecipe)
