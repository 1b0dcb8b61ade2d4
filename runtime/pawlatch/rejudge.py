"""A recorded visit judged again: by another policy, on every frame that the journal kept, or by another model, on the fitted
pixels of at most twelve of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from pawlatch.classify import Classifier
from pawlatch.decide import Consensus, DecisionOptions, Evidence, Policy, Single, policy_from_card, policy_from_json
from pawlatch.explain import first_unlock
from pawlatch.photos import EMPTY
from pawlatch.records import Event, RecordedVisit
from pawlatch.verdict import Observation

PAUSE_S = 0.5  # between kept frames at most: with more, a new test would begin for want of the frames between


@dataclass(frozen=True)
class Judged:
    """What a policy says of frames: `unlock_s` after the first, None where it stays shut, and its best verdict's `reason`."""

    unlock_s: float | None
    reason: str

    @property
    def sentence(self) -> str:
        """As "opened after 0.8 s: ..."."""
        did = "stayed shut" if self.unlock_s is None else f"opened after {self.unlock_s:.1f} s"
        return f"{did}: {self.reason}"


@dataclass(frozen=True)
class OtherModel:
    """The kept frames by the model that decided then (`old`) and by another (`new`); mean scores of the unlock labels."""

    frames: int
    old: Judged
    new: Judged
    old_own: float
    new_own: float
    other_label: int  # frames that got another label


@dataclass(frozen=True)
class Again:
    """A recorded visit, what a policy says of its `frames`, and what another model does; None where no model was named."""

    event: Event
    policy: str
    frames: int
    judged: Judged
    model: OtherModel | None

    def lines(self) -> list[str]:
        """For a terminal."""
        event = self.event
        after = "" if event.time_to_unlock_s is None else f" after {event.time_to_unlock_s:.1f} s"
        told = [f"{event.id}  {event.started:%Y-%m-%d %H:%M:%S}  {event.label} {event.score:.2f}  {event.door}{after}",
                f"{self.policy} on its {self.frames} frames: {self.judged.sentence}"]
        if (model := self.model) is None:
            return told
        return [
            *told, f"the {model.frames} kept frames with the model of then: {model.old.sentence} (mean {model.old_own:.2f})",
            f"with the new model this visit would have {model.new.sentence} (mean {model.new_own:.2f}; another label for "
            f"{model.other_label} frames)",
        ]

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        event = self.event
        return {"event": event.id, "started": event.started.isoformat(timespec="seconds"), "label": event.label,
                "did": event.door, "after_s": event.time_to_unlock_s, "policy": self.policy, "frames": self.frames,
                "would": asdict(self.judged), "model": None if self.model is None else asdict(self.model)}


def judge(policy: Policy, observations: Sequence[Observation]) -> Judged:
    """Judge frames (oldest first), each when it came."""
    if not observations:
        return Judged(None, "no frame of it was kept")
    first = first_unlock(policy, observations)
    if first is not None:
        return Judged(observations[first].time_s - observations[0].time_s,
                      policy.decide(observations[: first + 1], observations[first].time_s).reason)
    verdicts = [policy.decide(observations[: i + 1], seen.time_s) for i, seen in enumerate(observations)]
    shown = [verdict for verdict, seen in zip(verdicts, observations, strict=True) if seen.prediction.label != EMPTY]
    return Judged(None, max(shown or verdicts, key=lambda verdict: verdict.evidence).reason)


def recorded_policy(visit: RecordedVisit, name: str | None = None) -> Policy:
    """The policy that decided then, or the one of that `name` for the same labels, thresholds and veto.

    Raises:
        ConfigError, JournalError: the journal does not say how it was decided.
    """
    then = policy_from_json(visit.decision[1])
    if name in (None, then.name):
        return then
    kind: type[Evidence | Consensus | Single] = {"evidence": Evidence, "consensus": Consensus, "single": Single}[str(name)]
    shared = {key: getattr(then, key) for key in ("unlock", "threshold", "infrared", "veto")}
    return kind(**shared)


def compare_models(visit: RecordedVisit, then: Policy, classifier: Classifier, options: DecisionOptions) -> OtherModel | None:
    """The kept frames by another model, and by the one that decided then; None where no frame was kept."""
    old, new = _kept(visit), taken_again(visit, classifier)
    if not old:
        return None
    now = policy_from_card(classifier.card, classifier.variant, options)
    return OtherModel(
        len(old), judge(then, old), judge(now, new), _mean_own(old, then.unlock), _mean_own(new, now.unlock),
        sum(a.prediction.label != b.prediction.label for a, b in zip(old, new, strict=True)),
    )


def taken_again(visit: RecordedVisit, classifier: Classifier) -> list[Observation]:
    """The kept frames as a model sees them, oldest first.

    Raises:
        JournalError: their file is damaged.
    """
    images = [image for _, image in visit.inputs]
    return [replace(seen, prediction=classifier(image)) for seen, image in zip(_kept(visit), images, strict=True)]


def judge_again(visit: RecordedVisit, policy: str | None, classifier: Classifier | None, options: DecisionOptions) -> Again:
    """A recorded visit by the policy of that name (the one that decided then where None), and by another model.

    Raises:
        ConfigError, JournalError: the journal does not say how it was decided, or is damaged.
    """
    then, now = recorded_policy(visit), recorded_policy(visit, policy)
    model = None if classifier is None else compare_models(visit, then, classifier, options)
    return Again(visit.event, now.name, len(visit.observations), judge(now, visit.observations), model)


def _kept(visit: RecordedVisit) -> list[Observation]:
    """What the model of then said of the kept frames, pauses closed up."""
    seen = [visit.observations[index] for index, _ in visit.inputs]
    return [replace(one, time_s=time_s) for one, time_s in zip(seen, _closed_up([one.time_s for one in seen]), strict=True)]


def _closed_up(times_s: Sequence[float]) -> list[float]:
    """The times with no pause longer than PAUSE_S."""
    if not times_s:
        return []
    steps = np.minimum(np.diff(times_s, prepend=times_s[:1]), PAUSE_S)
    return [float(time_s) for time_s in times_s[0] + np.cumsum(steps)]


def _mean_own(observations: Sequence[Observation], unlock: tuple[str, ...]) -> float:
    return float(np.mean([seen.prediction.score_of(unlock) for seen in observations]))
