"""Up the ladder with a file of integers that is not good enough: each rung made, judged, and left for the next or not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from time import perf_counter

from pawlatch.errors import PawlatchError
from pawlatch_convert.compare import Outputs
from pawlatch_convert.ladder import Ladder, OnnxLadder, Rung
from pawlatch_convert.parity import Step, VariantResult, within_aim
from pawlatch_convert.recipes import RECIPES, Recipe, guarded

MIXED = replace(RECIPES["int8"], precision="int8+float")

Attempt = Callable[[Recipe, bytes], tuple[VariantResult, Outputs | None]]


def climb(ladder: Ladder | OnnxLadder, bare: VariantResult, attempt: Attempt, *, budget_s: float,
          progress: Callable[[str], None]) -> tuple[VariantResult, Outputs | None]:
    """The first rung that is green and as good as was aimed for; else the best of all, the bare file among them.

    Rungs that leave layers in float are begun only while every file so far is red: one photo more is not worth a slower file.
    No rung is begun that by its estimate would end after `budget_s`.

    Returns:
        The result with its rung and all the steps, and its outputs; None where the bare file stays.
    """
    best: tuple[VariantResult, Outputs | None] = (bare, None)
    steps = [_step(bare, "bare", "ranges of the calibration photos, nearest rounding", 0.0)]
    name, began = bare.variant, perf_counter()
    for rung in ladder.rungs(may_be_mixed=lambda: not best[0].is_green):  # noqa: B023 (asked while it lasts)
        spent = perf_counter() - began
        if spent + rung.cost_s > budget_s:
            cost, left = f"about {rung.cost_s:.0f} s", f"{max(0.0, budget_s - spent):.0f} s"
            progress(f"{name}: the rung {rung.name!r} would take {cost}, and of --budget-s {left} are left")
            break
        progress(f"{name} {_told(best[0])}; next, {rung.name}: {rung.what}, about {rung.cost_s:.0f} s")
        started = perf_counter()
        try:
            result, outputs = attempt(_recipe(name, rung), guarded(name, rung.make))
        except PawlatchError as error:
            progress(f"{name}: the rung {rung.name!r} does not apply: {error}")
            continue
        result = replace(result, rung=rung.name)
        steps.append(_step(result, rung.name, rung.what, perf_counter() - started))
        if outputs is not None and _merit(result) > _merit(best[0]):
            best = result, outputs
        if result.is_green and result.comparison is not None and within_aim(result.comparison):
            break
    return replace(best[0], steps=tuple(steps)), best[1]


def _recipe(name: str, rung: Rung) -> Recipe:
    return RECIPES[name] if rung.is_integer else MIXED


def _merit(result: VariantResult) -> tuple[bool, bool, float]:
    """To choose by: green, within the aim, and scores nearest to the SavedModel's."""
    if result.comparison is None:
        return False, False, float("-inf")
    return result.is_green, within_aim(result.comparison), -result.comparison.mean_kl


def _told(result: VariantResult) -> str:
    if result.reasons:
        return f"is red ({result.reasons[0]})"
    return "is green, but not within the aim (0.5 points of top-1, 99 % agreement where the SavedModel is sure)"


def _step(result: VariantResult, rung: str, what: str, seconds: float) -> Step:
    comparison = result.comparison
    return Step(
        rung, what, round(seconds, 2), "green" if result.is_green else "red",
        comparison is not None and within_aim(comparison),
        comparison.difference if comparison else None, comparison.agreement if comparison else None,
        comparison.sure_agreement if comparison else None, comparison.mean_kl if comparison else None,
        result.census.integer_share if result.census else None, result.file.bytes if result.file else 0,
    )
