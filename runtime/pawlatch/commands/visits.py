"""How `run` and `replay` tell of a model and of visits."""

from __future__ import annotations

from typing import Any

from pawlatch.classify import Classifier
from pawlatch.decide import Policy
from pawlatch.overlay import clock_text
from pawlatch.visit import Visit


def headline(classifier: Classifier, policy: Policy) -> str:
    """Which model decides for whom."""
    who = f"opens for {' or '.join(policy.unlock)}, by {policy.name}" if policy.unlock else (
        "names no unlock label, so the door stays shut")
    return f"{classifier.card.name}, {classifier.variant}: {who}"


def visit_line(visit: Visit) -> str:
    """A visit on one line."""
    times = f"{clock_text(visit.start_s)} to {clock_text(visit.end_s)}"
    did = "stayed shut" if visit.time_to_unlock_s is None else f"opened after {visit.time_to_unlock_s:.1f} s"
    return f"{times:>19}  {visit.label} {visit.score:.2f}  {did}: {visit.reason}"


def visit_row(visit: Visit) -> dict[str, Any]:
    """A visit as JSON."""
    waited_s = visit.time_to_unlock_s
    return {
        "start_s": round(visit.start_s, 3),
        "end_s": round(visit.end_s, 3),
        "label": visit.label,
        "score": round(visit.score, 6),
        "unlocked": visit.unlocked,
        "time_to_unlock_s": None if waited_s is None else round(waited_s, 3),
        "reason": visit.reason,
    }
