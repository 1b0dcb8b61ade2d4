"""`Evidence`: a sequential test of "an own animal" against "a stranger", frame by frame, until one of them is likely enough.

Each frame that shows an animal gives a likelihood ratio. The model's scores are calibrated posteriors (`train` divides the
logits by a temperature), so by Bayes' rule their odds, less the prior odds that the model has learned with, are one:

    p = own / (own + strangers)           own: the summed scores of the unlock labels; strangers: of all others but `_empty`
    r = (own + strangers) · (logit(clip(p, 1/512, 511/512)) / T − logit(π) − strange)

1/512 is half a step of an int8 softmax, which says 0 and 1. The empty place speaks for neither, hence the factor before the
bracket. π is the share of own photos among those of animals in training: by labels where these were weighted alike, else by
photos; at least ½, since strangers at a door are more various than those in the photos, and a frame that is given less than
½ shall not argue for opening. T is 1 by daylight and what was measured for infra-red light, else 1.5.

    strange = 6.2 · clip((s/τ − 0.8) / 0.4, 0, 2)      s: the embedding's stranger score, τ: the card's threshold for it

2 % of known photos lie beyond τ and, say, half of the strangers': a ratio of ln(0.5/0.02) = 3.2, which is what `strange` is
at τ. It rises to what no score can outweigh, and is no hard veto: that would refuse each fiftieth frame of an own animal.

Frames of one visit are not independent. Taken as a Gaussian Markov chain with correlation ρ from one frame to the next, the
new one adds the ratio of its innovation, and an even row of n frames counts as 1 + (n−1)(1−ρ)/(1+ρ) independent ones:

    ρ = max(0, 2c² − 1) · exp(−Δt / 0.3 s)          c: cosine of the two embeddings, Δt: seconds between them
    E ← E · 2^(−Δt / half life) + (r − ρ·max(r_before, 0)) / (1 + ρ), kept between the two bounds

(before: the frame before that shows an animal; its r only where positive, so that a doubt is no head start.) The bounds are

    ln((1−β) / α): an own animal, and ln(β / (1−α)): a stranger         α: strangers let in, β: own animals refused

A frame whose r alone reaches the lower one is a contradiction: what spoke for opening before it is forgotten. After a break
of `fresh_s` without an animal a new test begins, as another may come. The door opens where E is at the upper bound and at
least two frames since the last break or contradiction, a fresh newest one among them, speak for opening: own ≥ the operating
point's threshold, and r > 0.

α and β are the test's targets under its assumptions, not a promise; what may be promised is what `replay --truth` counts.

Sources: A. Wald, "Sequential Tests of Statistical Hypotheses", Ann. Math. Statist. 16 (1945) 117-186, for the two bounds;
R. M. Phatarfod, "Sequential analysis of dependent observations. I", Biometrika 52 (1965) 157-165, for the test on a Markov
chain; G. V. Bayley and J. M. Hammersley, "The 'effective' number of independent observations in an autocorrelated time
series", J. R. Statist. Soc. Suppl. 8 (1946) 184-197; E. S. Page, "Continuous inspection schemes", Biometrika 41 (1954)
100-115, for a sum that is kept from falling below a bound, since another animal may come.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import exp, inf, isfinite, log, sqrt
from typing import Any, ClassVar, NamedTuple

import numpy as np

from pawlatch.baselines import UNARMED, best_label, by_light, nobody, require_threshold, stale, why_silent
from pawlatch.errors import ConfigError
from pawlatch.photos import EMPTY
from pawlatch.verdict import NO_VETO, Observation, Verdict, Veto

LEAST, MOST = 1 / 512, 511 / 512
SUREST = log(511)  # logit(MOST): the largest ratio of one frame
STRANGE_FROM, STRANGE_OVER = 0.8, 0.4  # of the stranger threshold
MEMORY_S = 0.3  # after which a frame's error is forgotten by all but 1/e
INFRARED_TEMPERATURE = 1.5  # where none was measured
LEAST_FRAMES = 2  # however sure they are


class Weighed(NamedTuple):
    """A frame as the test took it: `ratio` r, correlation ρ with the frame before, `evidence` E after it.

    `speaks`: for opening; `speaking` frames do since the last break or contradiction, `contradictions` came before it.
    """

    seen: Observation
    ratio: float
    correlation: float
    evidence: float
    speaks: bool
    speaking: int
    contradictions: int


class _Step(NamedTuple):
    """What a frame does: E ← E · kept + gain, and `anew` where the frames before it speak no more."""

    ratio: float
    correlation: float
    kept: float
    gain: float
    speaks: bool
    contradicts: bool
    anew: bool


@dataclass(frozen=True)
class Evidence:
    """Unlock when the last seconds' evidence for an own animal is enough; the formulas stand above.

    `threshold` and `infrared` are scores that the newest frame must reach (infra-red: `stricter(threshold)` where None),
    `prior` is π, `strange_from` τ (None: no stranger statistics).
    """

    name: ClassVar[str] = "evidence"
    unlock: tuple[str, ...]
    threshold: float
    infrared: float | None = None
    infrared_temperature: float = INFRARED_TEMPERATURE
    prior: float = 0.5
    strange_from: float | None = None
    false_unlock: float = 0.001
    miss: float = 0.02
    min_frames: int = LEAST_FRAMES
    window_s: float = 6.0
    fresh_s: float = 1.0
    half_life_s: float = 2.0
    veto: Veto = NO_VETO

    def __post_init__(self) -> None:
        require_threshold(self.threshold, self.infrared)
        if not 0 < self.false_unlock < 0.5 or not 0 < self.miss < 0.5:
            raise ConfigError(f"false_unlock and miss must lie between 0 and 0.5, got {self.false_unlock} and {self.miss}")
        if self.min_frames < LEAST_FRAMES:
            raise ConfigError(f"min_frames must be at least {LEAST_FRAMES} for evidence, got {self.min_frames}")
        if not 0 < self.fresh_s <= self.window_s or not self.half_life_s > 0:
            raise ConfigError(f"expected 0 < fresh_s <= window_s and half_life_s > 0, got {self}")
        if not 0 < self.prior < 1 or not self.infrared_temperature > 0:
            raise ConfigError(f"a prior lies between 0 and 1 and a temperature above 0, got {self}")

    @cached_property
    def upper(self) -> float:
        """ln((1−β)/α): the evidence that opens."""
        return log((1 - self.miss) / self.false_unlock)

    @cached_property
    def lower(self) -> float:
        """ln(β/(1−α)): the evidence that says "stranger", and the lowest there is."""
        return log(self.miss / (1 - self.false_unlock))

    def decide(self, observations: Sequence[Observation], now_s: float) -> Verdict:
        """Judge the observations of the window before `now_s`."""
        window = _window(observations, now_s, self.window_s)
        if not window:
            return nobody(self.name, self.window_s, self.upper)
        newest = window[-1]
        weighed, used = self._weighed(window)
        refusal = self._refusal(newest, weighed, now_s) or self.veto.refusal(observations, now_s)
        is_over = weighed is None or now_s - weighed.seen.time_s > self.fresh_s
        evidence = 0.0 if is_over or weighed is None else weighed.evidence
        counted = (self.name, evidence, self.upper, used, len(window) - used)
        if refusal or weighed is None:
            return Verdict(False, newest.prediction.label, newest.prediction.score, refusal or "", *counted)
        reason = (f"evidence {evidence:.1f} of {self.upper:.1f} in {weighed.speaking} frames that say "
                  f"{' or '.join(self.unlock)}")
        return Verdict(True, best_label(newest, self.unlock), newest.prediction.score_of(self.unlock), reason, *counted)

    def weigh(self, observations: Sequence[Observation]) -> list[Weighed]:
        """Each frame that shows an animal, oldest first, with the evidence so far. For explanations: it takes its time."""
        found = [self._weighed(observations[: i + 1])[0] for i in range(len(observations))]
        return [frame for frame, seen in zip(found, observations, strict=True) if frame is not None and frame.seen is seen]

    def last_weighed(self, observations: Sequence[Observation]) -> Weighed | None:
        """The newest frame that shows an animal, with the evidence so far; None where none does."""
        return self._weighed(observations)[0]

    def _weighed(self, observations: Sequence[Observation]) -> tuple[Weighed | None, int]:
        """`last_weighed`, and how many frames show an animal. The door runs this for each frame: nothing in it is spare."""
        step, lower, upper = self._step, self.lower, self.upper
        before: Observation | None = None
        evidence, speaking, used, contradictions = 0.0, 0, 0, 0
        last: _Step | None = None
        for seen in observations:
            found = step(before, seen)
            if found is None:
                continue
            before, last, used = seen, found, used + 1
            evidence *= found.kept
            if found.anew:
                speaking = 0
                if found.contradicts:
                    evidence, contradictions = min(evidence, 0.0), contradictions + 1
            evidence += found.gain
            evidence = lower if evidence < lower else upper if evidence > upper else evidence
            speaking += found.speaks
        if before is None or last is None:
            return None, 0
        return Weighed(before, last.ratio, last.correlation, evidence, last.speaks, speaking, contradictions), used

    def threshold_of(self, seen: Observation) -> float:
        """The score from which a frame speaks for opening: by daylight or in infra-red."""
        return by_light(seen, self.threshold, self.infrared)

    @cached_property
    def _step(self) -> Callable[[Observation | None, Observation], _Step | None]:
        """`_stepped`, remembered: each pair of frames is asked for again with every frame that follows."""
        return lru_cache(maxsize=512)(self._stepped)

    def _stepped(self, before: Observation | None, seen: Observation) -> _Step | None:
        """What a frame does to the evidence after the frame `before` that showed an animal; None where it shows none itself."""
        looked = self._look(seen)
        if looked is None:
            return None
        ratio, speaks = looked
        contradicts = ratio <= self.lower
        gap_s = inf if before is None else max(0.0, seen.time_s - before.time_s)
        if before is None or gap_s > self.fresh_s:
            return _Step(ratio, 0.0, 0.0, ratio, speaks, contradicts, True)
        correlation = _similarity(before, seen) * exp(-gap_s / MEMORY_S)
        earlier = self._look(before)
        doubted = correlation * max(earlier[0], 0.0) if earlier else 0.0
        gain = (ratio - doubted) / (1 + correlation)
        return _Step(ratio, correlation, exp(-log(2) * gap_s / self.half_life_s), gain, speaks, contradicts, contradicts)

    def _look(self, seen: Observation) -> tuple[float, bool] | None:
        """r of a frame, and whether it speaks for opening; None where it shows no animal, or its scores are no numbers."""
        prediction = seen.prediction
        mine, theirs = _places(prediction.labels, self.unlock)
        scores = prediction.scores.tolist()
        own, others = sum(scores[i] for i in mine), sum(scores[i] for i in theirs)
        if prediction.label == EMPTY or not isfinite(own + others):
            return None
        share = min(max(own / (own + others), LEAST), MOST) if own + others > 0 else 0.5
        temperature = self.infrared_temperature if seen.infrared else 1.0
        strange = self._strange(prediction.stranger)
        ratio = min(1.0, own + others) * (_logit(share) / temperature - _logit(self.prior) - strange)
        return ratio, ratio > 0 and own >= self.threshold_of(seen)

    def _strange(self, score: float | None) -> float:
        """How much the embedding speaks against a known animal; what cannot be judged does so most."""
        if score is None or self.strange_from is None:
            return 0.0
        if not isfinite(score):
            return 2 * SUREST
        return SUREST * min(max((score / self.strange_from - STRANGE_FROM) / STRANGE_OVER, 0.0), 2.0)

    def _refusal(self, newest: Observation, weighed: Weighed | None, now_s: float) -> str | None:
        """Why not to unlock; None where nothing speaks against it."""
        if not self.unlock:
            return UNARMED
        if weighed is None or weighed.seen is not newest:
            return "no animal in the newest frame"
        if not weighed.speaks:
            return self._why_silent(weighed)
        if now_s - newest.time_s > self.fresh_s:
            return stale(newest, now_s, self.fresh_s)
        names = " or ".join(self.unlock)
        if weighed.speaking < self.min_frames:
            since = " since the last that contradicts" if weighed.contradictions else ""
            return f"{weighed.speaking} of {self.min_frames} frames that are needed say {names}{since}"
        if not weighed.evidence >= self.upper:
            return f"evidence {weighed.evidence:.1f} of {self.upper:.1f} for {names}"
        return None

    def _why_silent(self, newest: Weighed) -> str:
        prediction = newest.seen.prediction
        if prediction.label in self.unlock and newest.ratio <= 0 and prediction.stranger is not None:
            return (f"{prediction.label} {prediction.score:.2f}, but its features are strange: {prediction.stranger:.2f}, "
                    f"usual up to {self.strange_from or 0.0:.2f}")
        return why_silent(newest.seen, self.unlock, self.threshold_of(newest.seen))


def _window(observations: Sequence[Observation], now_s: float, window_s: float) -> list[Observation]:
    """What was seen in the last `window_s`, oldest first; frames of the future are left out."""
    window = []
    for seen in reversed(observations):
        if now_s - seen.time_s > window_s:
            break
        if seen.time_s <= now_s:
            window.append(seen)
    return window[::-1]


def trained_prior(labels: Sequence[str], unlock: Sequence[str], provenance: Mapping[str, Any]) -> float:
    """π: the share of own animals among animals that the model has learned with, at least ½; ½ where the card does not say.

    `provenance` is the card's: `recipe.class_weights` says whether every label counted alike, `splits.fit` names the photos.
    """
    animals = [label for label in labels if label != EMPTY]
    recipe, fit = provenance.get("recipe"), provenance.get("splits", {}).get("fit")
    if not isinstance(recipe, Mapping) or not unlock or len(unlock) == len(animals):
        return 0.5
    if recipe.get("class_weights", True) or not fit:
        return max(0.5, len(unlock) / len(animals))
    counts = {label: sum(f"/{label}/" in f"/{name}" for name in fit) for label in animals}
    return max(0.5, sum(counts[label] for label in unlock) / max(1, sum(counts.values())))


@lru_cache(maxsize=16)
def _places(labels: tuple[str, ...], unlock: tuple[str, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Where the unlock labels stand, and those of strangers."""
    return (tuple(i for i, label in enumerate(labels) if label in unlock),
            tuple(i for i, label in enumerate(labels) if label not in (*unlock, EMPTY)))


@lru_cache(maxsize=512)  # a frame is compared with the one before it in every later decision
def _similarity(before: Observation, seen: Observation) -> float:
    """max(0, 2c² − 1) of two frames' embeddings, the cosine of twice their angle; 1, nothing new, where there is none."""
    a, b = before.prediction.embedding, seen.prediction.embedding
    lengths = sqrt(float(np.dot(a, a))) * sqrt(float(np.dot(b, b))) if a.shape == b.shape else 0.0
    cosine = float(np.dot(a, b)) / lengths if lengths > 0 and isfinite(lengths) else 1.0
    return min(1.0, max(0.0, 2 * cosine * cosine - 1))


def _logit(p: float) -> float:
    return log(p / (1 - p))
