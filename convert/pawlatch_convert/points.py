"""What the card says of each variant: from which score its door opens, counted with its own scores, and who is a stranger."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import Any

import numpy as np

from pawlatch.card import SAVED_MODEL, ModelCard
from pawlatch.photos import EMPTY
from pawlatch.stats import binomial_upper
from pawlatch_convert.compare import Bools, Scored, decides, moved_threshold, stranger_scores, unlock_scores


def operating_point(scored: Scored, variant: str, card: ModelCard, *, step: float | None) -> dict[str, Any] | None:
    """The SavedModel's operating point with the variant's own threshold and counts; None where the card has none.

    The keys are those that training writes, and `counted_in`: "photos", since near-duplicates are not known here. Only held-out
    photos count. The 95 % bounds are exact, and None where what is counted has also trained or chosen, or where there is
    nothing to count. The point for infra-red light keeps the SavedModel's counts.

    Args:
        step: of the variant's scores (1/256 of an int8 softmax), None for floats. The threshold is raised to a multiple of
            it, which decides alike and can be printed as it is; it never falls.
    """
    if not decides(card):
        return None
    known = card.operating_points[SAVED_MODEL]
    threshold = raised(card.threshold(SAVED_MODEL), step)
    opens = unlock_scores(scored.variants[variant].scores, card)[scored.judged] >= threshold
    labels = np.array(scored.true_labels)[scored.judged]
    own = np.isin(labels, card.unlock)
    strangers = ~own & (labels != EMPTY)
    bounded = _is_held_apart(card)
    let_in, refused = _counted(opens[strangers], bounded=bounded), _counted(~opens[own], bounded=bounded)
    by_label = {label: _counted(~opens[labels == label], bounded=bounded) for label in card.unlock}
    return {
        **known,
        "threshold": threshold,
        "false_unlocks": let_in[0], "strangers_n": let_in[1], "false_unlock_upper_95": let_in[2],
        "lock_outs": refused[0], "own_n": refused[1], "lock_out_upper_95": refused[2],
        "by_label": {label: dict(zip(("lock_outs", "n", "upper_95"), k_n, strict=True)) for label, k_n in by_label.items()},
        "counted_in": "photos",
        **({"infrared": _infrared(known["infrared"], step)} if known.get("infrared") else {}),
        "sentences": [
            f"the door opens for {' or '.join(card.unlock)} from a score of {threshold:.3f} on",
            f"strangers let in: {_sentence(*let_in)}; own animals refused: {_sentence(*refused)}",
            *([known["infrared"]["sentence"] + " (the SavedModel's)"] if known.get("infrared") else []),
            *([] if bounded else ["counted on photos that trained the model or chose its threshold: no bound"]),
        ],
    }


def stranger_point(scored: Scored, variant: str, card: ModelCard) -> dict[str, float] | None:
    """What differs of the stranger statistics for a variant: its threshold. None where the card has none.

    The directions stay the SavedModel's; the threshold moves by the median of what the variant's stranger scores differ
    from the SavedModel's on the same photos, so that quantization as such makes nobody a stranger.
    """
    found = stranger_scores(scored, scored.variants[variant], card)
    return {"threshold": moved_threshold(*found)} if found else None


def raised(threshold: float, step: float | None) -> float:
    """A threshold on the grid of a variant's scores: it decides alike, and never falls."""
    return threshold if step is None else min(1.0, ceil(threshold / step - 1e-6) * step)


def _infrared(known: Mapping[str, Any], step: float | None) -> dict[str, Any]:
    """The point for frames by infra-red light: the SavedModel's counts, its threshold on the variant's grid."""
    return {**known, "threshold": raised(float(known["threshold"]), step), "counted_by": SAVED_MODEL}


def _is_held_apart(card: ModelCard) -> bool:
    """Whether the held-out photos neither trained the model nor chose the threshold, as far as the card knows."""
    splits = card.provenance.get("splits", {})
    return bool(splits.get("held_out", True)) and card.operating_points[SAVED_MODEL].get("chosen_on") != "these photos"


def _counted(failed: Bools, *, bounded: bool) -> tuple[int, int, float | None]:
    """Failures, photos, and the bound of their share."""
    k, n = int(failed.sum()), failed.size
    return k, n, binomial_upper(k, n) if bounded and n else None


def _sentence(k: int, n: int, upper: float | None) -> str:
    return f"{k} of {n} photos" + ("" if upper is None else f": at most {upper:.1%}")
