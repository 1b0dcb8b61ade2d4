"""From what the model said of the last frames to a verdict with its reasons: which policies there are, and their settings.

A policy is pure over observations and times, in float64, and keeps no state: the live door, a replayed clip and a visit
read back from the journal get the same verdict from the same numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import inf
from typing import Any, Literal, get_args

from pawlatch.baselines import Consensus, Single
from pawlatch.card import SAVED_MODEL, ModelCard
from pawlatch.errors import ConfigError
from pawlatch.evidence import INFRARED_TEMPERATURE, LEAST_FRAMES, Evidence, trained_prior
from pawlatch.verdict import Observation, Policy, Verdict, Veto

__all__ = ["POLICIES", "Consensus", "DecisionOptions", "Evidence", "Observation", "Policy", "PolicyName", "Single", "Verdict",
           "policy_from_card", "policy_from_json", "policy_to_json"]

PolicyName = Literal["evidence", "consensus", "single"]
POLICIES: tuple[PolicyName, ...] = get_args(PolicyName)
_KINDS: dict[str, type[Evidence | Consensus | Single]] = {kind.name: kind for kind in (Evidence, Consensus, Single)}


@dataclass(frozen=True)
class DecisionOptions:
    """How the door makes up its mind. The defaults are those of `pawlatch.evidence`, where the formulas are."""

    # evidence (a sequential test, the default), consensus (frames vote, as in Frigate) or single (best frame, as in Kittyhack)
    policy: PolicyName = "evidence"
    # evidence: the share of strangers' visits that may open the door; between 0 and 0.5
    false_unlock: float = 0.001
    # evidence: the share of own visits that may end as a stranger's; between 0 and 0.5
    miss: float = 0.02
    # score from which on a frame speaks for opening, 0 to 1; absent: what was measured for the model's variant
    threshold: float | None = None
    # the same for frames by infra-red light; absent: what was measured, else half as far from 1
    infrared_threshold: float | None = None
    # frames that must speak for opening, however sure they are; absent: 2 for evidence, which takes no fewer, 3 for consensus
    min_frames: int | None = None
    # consensus: share of the frames with an animal that must agree; above 0, at most 1
    share: float = 0.6
    # seconds that a frame is remembered at most; absent: 6 for evidence, 2 for the others
    window_s: float | None = None
    # seconds that the newest frame may be old; at most window_s
    fresh_s: float = 1.0
    # evidence: seconds after which a frame counts half; above 0
    half_life_s: float = 2.0
    # labels of the model that keep the door shut whatever else is seen, such as "prey"
    veto: tuple[str, ...] = ()
    # score from which on a veto label counts; above 0, at most 1
    veto_score: float = 0.5
    # seconds that the door stays shut after a veto label was seen; above 0
    veto_s: float = 10.0

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise ConfigError(f"policy must be one of {', '.join(POLICIES)}, got {self.policy!r}")
        for name in ("false_unlock", "miss"):
            if not 0 < getattr(self, name) < 0.5:
                raise ConfigError(f"{name} must lie between 0 and 0.5, got {getattr(self, name)}")
        for name in ("threshold", "infrared_threshold", "share", "veto_score"):
            if (value := getattr(self, name)) is not None and not 0 < value <= 1:
                raise ConfigError(f"{name} must be above 0 and at most 1, got {value}")
        for name in ("fresh_s", "half_life_s", "veto_s"):
            if not 0 < getattr(self, name) < inf:
                raise ConfigError(f"{name} must be a number of seconds above 0, got {getattr(self, name)}")
        least = LEAST_FRAMES if self.policy == "evidence" else 1
        if self.min_frames is not None and self.min_frames < least:
            raise ConfigError(f"min_frames must be at least {least} for {self.policy}, got {self.min_frames}")
        if self.window_s is not None and not self.fresh_s <= self.window_s < inf:
            raise ConfigError(f"window_s must be at least fresh_s, which is {self.fresh_s}; got {self.window_s}")
        if self.window_s is None and self.fresh_s > 2:
            raise ConfigError(f"fresh_s must be at most window_s, which is 2 where it is not set; got {self.fresh_s}")


def policy_from_card(card: ModelCard, variant: str, options: DecisionOptions | None = None) -> Policy:
    """The policy for a variant of a model; `options` are the defaults where None.

    Raises:
        ModelCardError: the card names unlock labels, but holds no usable operating point, and `options` name no threshold;
            or its stranger statistics are not usable.
        ConfigError: a veto label is not one of the model's, or may pass.
    """
    options = options or DecisionOptions()
    threshold = options.threshold or (card.threshold(variant) if card.unlock else 1.0)
    night = {} if options.threshold else _infrared(card, variant)  # measured for the card's own threshold
    infrared = options.infrared_threshold or night.get("threshold")
    veto = _veto(card, options)
    if options.policy == "single":
        return Single(card.unlock, threshold, infrared=infrared, window_s=options.window_s or 2.0, veto=veto)
    if options.policy == "consensus":
        return Consensus(card.unlock, threshold, infrared=infrared, min_frames=options.min_frames or 3, share=options.share,
                         window_s=options.window_s or 2.0, fresh_s=options.fresh_s, veto=veto)
    strangers = card.stranger_statistics(variant)
    return Evidence(
        card.unlock, threshold, infrared=infrared,
        infrared_temperature=night.get("temperature", INFRARED_TEMPERATURE),
        prior=trained_prior(card.labels, card.unlock, card.provenance),
        strange_from=None if strangers is None else float(strangers["threshold"]),
        false_unlock=options.false_unlock, miss=options.miss, min_frames=options.min_frames or LEAST_FRAMES,
        window_s=options.window_s or 6.0, fresh_s=options.fresh_s, half_life_s=options.half_life_s, veto=veto,
    )


def _infrared(card: ModelCard, variant: str) -> Mapping[str, Any]:
    """What was measured on photos turned infra-red: `threshold` and `temperature`; empty where nothing was."""
    points = (card.operating_points[key] for key in (variant, SAVED_MODEL) if key in card.operating_points)
    return next((point["infrared"] for point in points if point.get("infrared")), {})


def _veto(card: ModelCard, options: DecisionOptions) -> Veto:
    for label in options.veto:
        if label not in card.labels or label in card.unlock:
            others = ", ".join(name for name in card.labels if name not in card.unlock)
            raise ConfigError(f"veto must name labels of the model that do not unlock, {others}; got {label!r}")
    return Veto(options.veto, options.veto_score, options.veto_s)


def policy_to_json(policy: Policy) -> dict[str, Any]:
    """All that a policy decides by, for the journal: a visit can then be judged again without the model."""
    return {"name": policy.name, **asdict(policy)}  # type: ignore[call-overload]


def policy_from_json(kept: Mapping[str, Any]) -> Policy:
    """Read what `policy_to_json` wrote.

    Raises:
        ConfigError: it is of another version, or not whole.
    """
    try:
        settings = dict(kept)
        kind = _KINDS[settings.pop("name")]
        veto = dict(settings.pop("veto"))
        veto["labels"] = tuple(veto["labels"])
        return kind(**{**settings, "unlock": tuple(settings["unlock"]), "veto": Veto(**veto)})
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"the journal's policy is not one that this pawlatch knows ({error}); name a --policy") from error
