from __future__ import annotations

import json

import numpy as np
import pytest

from pawlatch.classify import Prediction
from pawlatch.decide import Consensus, Evidence, Observation, Single
from pawlatch.explain import explain
from pawlatch.verdict import Veto

EVIDENCE = Evidence(("own",), 0.8)


def frames(*owns, start_s=5.0, stranger=None, infrared=False, alike=False):
    """A tenth of a second apart, with embeddings at right angles, or all `alike`."""
    told = []
    for i, own in enumerate(owns):
        embedding = np.zeros(8, np.float32)
        embedding[0 if alike else i % 8] = 1
        scores = np.array([own, 1 - own, 0], np.float32)
        strange = stranger is not None and stranger > 0.5
        told.append(Observation(start_s + i / 10, Prediction(("own", "other", "_empty"), scores, embedding, stranger, strange), infrared))
    return told


def test_each_frame_has_a_row_and_so_have_those_that_the_gate_kept():
    told = explain(EVIDENCE, frames(0.9, 0.95, 0.99, 0.99), refused=[(5.05, "blurred"), (5.25, "too small")])
    assert [row.time_s for row in told.rows] == pytest.approx([0.0, 0.05, 0.1, 0.2, 0.25, 0.3])
    assert (told.rows[1].reason, told.rows[1].label) == ("blurred", None)
    assert (told.used, told.refused) == (4, 2)
    assert told.unlock_s == pytest.approx(0.2)
    assert told.verdict.unlock
    assert told.rows[3].unlock
    assert told.rows[2].ratio == pytest.approx(np.log(0.95 / 0.05), abs=1e-4)
    json.dumps(told.to_json())
    text = "\n".join(told.lines())
    assert "evidence: opened after 0.2 s" in text
    assert "refused by the gate: too small" in text


def test_a_row_says_what_the_door_would_have_said():
    seen = frames(0.9, 0.2, 0.99, 0.4, 0.99)
    for row, i in zip(explain(EVIDENCE, seen).rows, range(5), strict=True):
        assert row.reason == EVIDENCE.decide(seen[: i + 1], seen[i].time_s).reason


@pytest.mark.parametrize(("policy", "seen", "would"), [
    (EVIDENCE, frames(0.95, 0.95), "with a threshold of 5.8 instead of 6.9 (false_unlock = 0.003 instead of 0.001) it would have "
                                   "opened after 0.1 s"),
    (EVIDENCE, frames(0.95, 0.95), "1 more frame like the one at 0.0 s would have opened it"),
    (EVIDENCE, frames(0.95, 0.95, 0.01, 0.9), "without the other frame at 0.2 s it would have opened after 0.3 s"),
    (EVIDENCE, frames(0.7, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7), "with a score of 0.70 instead of 0.80 enough it "
                                                                                    "would have opened after 0.9 s"),
    (EVIDENCE, frames(0.92, 0.92, 0.92, infrared=True), "by the daylight's operating point it would have opened after 0.2 s"),
    (Evidence(("own",), 0.8, strange_from=0.5), frames(0.95, 0.95, 0.95, stranger=0.55),
     "without the stranger score it would have opened after 0.2 s"),
    (Evidence(("own",), 0.8, veto=Veto(("other",), 0.05)), frames(0.9, 0.9, 0.9, 0.94, 0.94),
     "without the veto of other it would have opened after 0.3 s"),
    (Consensus(("own",), 0.8), frames(0.9, 0.1, 0.9), "1 more frame like the one at 0.0 s would have opened it"),
    (Consensus(("own",), 0.8), frames(0.9, 0.7, 0.75), "with a score of 0.70 instead of 0.80 enough it would have opened after 0.2 s"),
    (Single(("own",), 0.8), frames(0.3, 0.6), "with a score of 0.60 instead of 0.80 enough it would have opened after 0.1 s"),
])
def test_what_would_have_opened_it(policy, seen, would):
    told = explain(policy, seen)
    assert told.unlock_s is None
    assert would in told.would


def test_all_that_contradicts_is_left_out_together():
    told = explain(EVIDENCE, frames(0.97, 0.01, 0.01, 0.97, 0.01, 0.01, 0.97))
    assert "without the 4 frames that say something else it would have opened after 0.6 s" in told.would


@pytest.mark.parametrize(("policy", "seen", "would"), [
    (EVIDENCE, frames(0.95, 0.95, 0.95), "with a threshold above 8.5 instead of 6.9 it would have stayed shut"),
    (EVIDENCE, frames(0.95, 0.95, 0.95), "without the frame at 0.1 s it would have stayed shut"),
    (EVIDENCE, frames(*[0.95] * 9), "no single one of the 3 frames that spoke for it decided it"),
    (Consensus(("own",), 0.8), frames(0.9, 0.9, 0.9), "with a score above 0.90 instead of 0.80 needed it would have stayed shut"),
])
def test_by_how_much_it_opened(policy, seen, would):
    assert would in explain(policy, seen).would


def test_what_nothing_would_have_opened_is_said():
    told = explain(EVIDENCE, frames(0.0, 0.0, 0.0))
    assert told.would == ("neither a lower threshold, nor more such frames, nor leaving out a frame would have opened it",)


def test_the_verdict_told_of_a_shut_door_is_the_one_that_came_nearest():
    assert explain(EVIDENCE, frames(0.9, 0.9, 0.05)).verdict.reason.startswith("evidence 4.3 of 6.9")


def test_every_sentence_is_true():
    """Each threshold that is named opens, and a little more does not."""
    from dataclasses import replace
    from math import exp

    rng = np.random.default_rng(0)
    told = 0
    for _ in range(40):
        seen = frames(*np.clip(rng.normal(0.85, 0.12, 12), 0, 1).tolist(), alike=bool(rng.random() < 0.5))
        if any(EVIDENCE.decide(seen[: i + 1], it.time_s).unlock for i, it in enumerate(seen)):
            continue
        for sentence in explain(EVIDENCE, seen).would:
            if not sentence.startswith("with a threshold of"):
                continue
            needed, told = float(sentence.split()[4]), told + 1
            for upper, opens in ((needed - 0.1, True), (needed + 0.15, False)):
                policy = replace(EVIDENCE, false_unlock=0.98 * exp(-upper))
                assert any(policy.decide(seen[: i + 1], it.time_s).unlock for i, it in enumerate(seen)) is opens
    assert told > 5


def test_long_visits_are_shown_around_the_unlock():
    lines = explain(EVIDENCE, frames(*[0.5] * 100, *[0.95] * 100)).lines()
    assert len(lines) < 55
    assert sum(line.strip() == "..." for line in lines) == 2


def test_nothing_cannot_be_explained():
    with pytest.raises(ValueError, match="nothing to explain"):
        explain(EVIDENCE, [])
