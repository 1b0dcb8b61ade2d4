"""Is the desktop's verdict the device's? Two probes' JSON in, rows and problems out; nothing else happens here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any

TOLERANCE = 1e-3  # of a score where floats are summed, in another order
PLACES = ("the desktop", "the device")
EXACT = ("int8",)  # every operator is integer: the same bits, or red


@dataclass(frozen=True)
class Row:
    """One line of the table: of `n` things `equal` are bit for bit the same; `otherwise` are decided otherwise."""

    what: str
    n: int
    equal: int
    max_delta: float | None = None  # of a score
    otherwise: int = 0


@dataclass(frozen=True)
class Outcome:
    rows: tuple[Row, ...]
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return not self.problems


def compare(desktop: Mapping[str, Any], device: Mapping[str, Any]) -> Outcome:
    """Hold what a device found against what the desktop found. Nothing compared is a problem, and so is what only one has."""
    rows: list[Row] = []
    problems = [] if device["xnnpack"] else ["the device did not say that it created the XNNPACK delegate"]
    # FFmpeg turns a clip's YUV into BGR by each processor's own vector code: counted only. Of the same pixels the gate must say the same.
    otherwise = {clip for clip, digest in desktop["frames"].items() if device["frames"].get(clip) != digest}
    for what, excused in (("decoded", frozenset()), ("fitted", frozenset()), ("frames", otherwise), ("gate", otherwise)):
        row, wrong = _compare_exactly(what, desktop[what], device[what], excused=excused)
        rows.append(row)
        problems += wrong
    problems += _missing("models", desktop["models"], device["models"])
    for model in desktop["models"].keys() & device["models"].keys():
        variants, there = desktop["models"][model], device["models"][model]
        problems += _missing(model, variants, there)
        for variant in variants.keys() & there.keys():
            what, here, other = f"{model} {variant}", variants[variant], there[variant]
            refused = ["refused" in of for of in (here, other)]
            if any(refused):
                rows.append(Row(f"{what}: refused", 1, int(all(refused))))
                if variant in EXACT or not all(refused):
                    problems.append(f"{what}: refused by {' and '.join(of for of, is_so in zip(PLACES, refused, strict=True) if is_so)}")
                continue
            of_scores = _compare_scores(what, here["photos"], other["photos"], exact=variant in EXACT)
            for row, wrong in (of_scores, _compare_told(what, here, other)):
                rows.append(row)
                problems += wrong
    return Outcome(tuple(sorted(rows, key=lambda row: row.what)), tuple(problems))


def _compare_exactly(what: str, desktop: Mapping[str, str], device: Mapping[str, str], *, excused: Set[str]) -> tuple[Row, list[str]]:
    problems = _missing(what, desktop, device)
    differ = [name for name, digest in desktop.items() if name in device and device[name] != digest]
    problems += [f"{what}: {name} differs" for name in differ if name not in excused]
    return Row(what, len(desktop), sum(device.get(name) == digest for name, digest in desktop.items())), problems


def _compare_scores(what: str, desktop: Mapping[str, Any], device: Mapping[str, Any], *, exact: bool) -> tuple[Row, list[str]]:
    problems = _missing(what, desktop, device)
    deltas, equal, otherwise = [0.0], 0, 0
    for name in desktop.keys() & device.keys():
        here, there = desktop[name], device[name]
        if len(here["scores"]) != len(there["scores"]):
            problems.append(f"{what}: {name} has {len(there['scores'])} scores on the device, {len(here['scores'])} on the desktop")
            continue
        each = [abs(a - b) for a, b in zip(here["scores"], there["scores"], strict=True)]
        delta = max(each) if all(map(math.isfinite, each)) else math.inf  # max() passes over a nan
        deltas.append(delta)
        equal += here["scores"] == there["scores"]
        decided = [(of["label"], of["opens"]) for of in (here, there)]
        if decided[0] != decided[1]:
            otherwise += 1
            problems.append(f"{what}: {name} is {decided[0]} on the desktop, {decided[1]} on the device")
        elif not delta <= (0 if exact else TOLERANCE):
            problems.append(f"{what}: {name} has scores that differ by up to {delta:.2g}; {0 if exact else TOLERANCE:g} may be")
    return Row(f"{what}: scores", len(desktop), equal, max(deltas), otherwise), problems


def _compare_told(what: str, desktop: Mapping[str, Any], device: Mapping[str, Any]) -> tuple[Row, list[str]]:
    """What `pawlatch evaluate` and `pawlatch replay` printed: counted where all of it is the same, red where it is decided otherwise."""
    here, there = _told(desktop), _told(device)
    problems = _missing(what, here, there)
    both = here.keys() & there.keys()
    otherwise = sorted(name for name in both if here[name][0] != there[name][0])
    problems += [f"{what}: {name} differs" for name in otherwise]
    equal = sum(here[name] == there[name] for name in both)
    return Row(f"{what}: evaluate, replay", len(here), equal, otherwise=len(otherwise)), problems


def _told(of: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """By command: what was decided, and all that was printed."""
    replays = {f"replay of {clip}": ([(visit["label"], visit["unlocked"]) for visit in visits], visits)
               for clip, visits in of["visits"].items()}
    return {"evaluate": (of["evaluate"], of["evaluate"]), **replays}


def _missing(what: str, desktop: Mapping[str, Any], device: Mapping[str, Any]) -> list[str]:
    if not desktop:
        return [f"{what}: nothing was compared"]
    return [f"{what}: {name} is only on the {'desktop' if name in desktop else 'device'}"
            for name in sorted(desktop.keys() ^ device.keys())]
