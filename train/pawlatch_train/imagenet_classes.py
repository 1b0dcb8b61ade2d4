"""The 1,000 classes of ImageNet, and the groups of them that a person has a word for. No TensorFlow here.

The order is that of the ILSVRC2012 synsets as Keras' weights have them, 0 to 999: sorted by WordNet number, which keeps
relatives together (151 Chihuahua to 268 Mexican hairless are the dogs). TF-Hub's classifiers put a background before them.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from pawlatch.errors import ModelCardError

CLASSES = 1000
CLASSES_FILE = "imagenet_classes.txt"  # one class a line, its synonyms after commas

# First and last class of each stretch, by name: a name cannot be off by one. Every class between was read.
GROUPS: dict[str, tuple[tuple[str, str], ...]] = {
    "dog": (("Chihuahua", "Mexican hairless"),),
    "cat": (("tabby", "Egyptian cat"),),
    "bird": (("cock", "great grey owl"), ("black grouse", "black swan"), ("white stork", "albatross")),
    "chicken": (("cock", "hen"),),
    "duck": (("drake", "red-breasted merganser"),),
    "parrot": (("African grey", "lorikeet"),),
    "rabbit": (("wood rabbit", "Angora"),),
    "horse": (("sorrel", "sorrel"),),
    "pig": (("hog", "wild boar"),),
    "sheep": (("ram", "bighorn"),),
    "wolf": (("timber wolf", "red wolf"),),
    "fox": (("red fox", "grey fox"),),
    "wild cat": (("cougar", "cheetah"),),
    "bear": (("brown bear", "sloth bear"),),
    "monkey": (("guenon", "squirrel monkey"),),
    "turtle": (("loggerhead", "box turtle"),),
    "lizard": (("banded gecko", "Komodo dragon"),),
    "snake": (("thunder snake", "sidewinder"),),
    "frog": (("bullfrog", "tailed frog"),),
}


@dataclass(frozen=True)
class Classes:
    """What a person asked for: the word, which becomes a label, and the indices 0..999 that it covers."""

    label: str
    indices: tuple[int, ...]


@cache
def class_lines() -> tuple[str, ...]:
    """Each class with all its synonyms, by index.

    Raises:
        ModelCardError: the list has not 1,000 lines; with a background in front every name would be off by one.
    """
    return check_lines((resources.files("pawlatch_train") / CLASSES_FILE).read_text(encoding="utf-8").splitlines())


def check_lines(lines: Sequence[str]) -> tuple[str, ...]:
    """The lines as they came, if they are the 1,000 classes in Keras' order. Raises as `class_lines`."""
    if len(lines) != CLASSES or not lines[0].startswith("tench"):
        raise ModelCardError(
            f"expected ImageNet's {CLASSES} classes from 'tench' on, got {len(lines)} from {''.join(lines[:1])!r} on; leave "
            "the background away, or install pawlatch again"
        )
    return tuple(lines)


@cache
def class_names() -> tuple[str, ...]:
    """One short name for each class, by index; where two would be alike ("crane"), the index tells them apart."""
    names = [line.split(",")[0] for line in class_lines()]
    count = Counter(names)
    return tuple(name if count[name] == 1 else f"{name} ({index})" for index, name in enumerate(names))


def find_classes(wanted: str) -> Classes:
    """The classes of a group ("dog"), else the one class of that name or synonym ("beagle", "puma", "crane (134)").

    Raises:
        ModelCardError: there is none, or more than one; the message names what is near.
    """
    word = wanted.strip().casefold()
    if word in GROUPS:
        return Classes(word, group_indices(word))
    spellings = _spellings()
    matches = spellings.get(word, ())
    if len(matches) == 1:
        return Classes(wanted.strip(), matches)
    if matches:
        raise ModelCardError(
            f"ImageNet has {len(matches)} classes called {wanted!r}; say which: {', '.join(class_names()[i] for i in matches)}"
        )
    near = dict.fromkeys((*difflib.get_close_matches(word, GROUPS, n=1), *difflib.get_close_matches(word, spellings, n=2)))
    raise ModelCardError(
        f"ImageNet has no class {wanted!r}; " + (f"did you mean {' or '.join(near)}? " if near else "")
        + f"The groups are {', '.join(GROUPS)}, and each of the {CLASSES} class names will do"
    )


def group_indices(group: str) -> tuple[int, ...]:
    """The class indices of a key of `GROUPS`."""
    names = class_names()
    return tuple(i for first, last in GROUPS[group] for i in range(names.index(first), names.index(last) + 1))


@cache
def _spellings() -> dict[str, tuple[int, ...]]:
    """Every name a class goes by, case-folded, to the classes that go by it."""
    found: dict[str, list[int]] = {}
    for index, (line, name) in enumerate(zip(class_lines(), class_names(), strict=True)):
        for spelling in {part.strip().casefold() for part in line.split(",")} | {line.casefold(), name.casefold()}:
            found.setdefault(spelling, []).append(index)
    return {spelling: tuple(indices) for spelling, indices in found.items()}
