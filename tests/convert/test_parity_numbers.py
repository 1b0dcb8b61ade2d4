"""What a verdict is made of: every number against a hand-made case, every rule broken once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pawlatch.calibration import expected_calibration_error
from pawlatch.card import InputSpec, ModelCard
from pawlatch.classify import Classifier
from pawlatch.engine import LiteRTEngine
from pawlatch.errors import EngineError
from pawlatch.image import Image
from pawlatch.photos import Photo
from pawlatch.stats import binomial_upper, mcnemar_exact
from pawlatch.strangers import StrangerModel
from pawlatch_convert import render_table
from pawlatch_convert.census import Census
from pawlatch_convert.compare import Outputs, Scored, agreement_matrix, compare, divergence, margins
from pawlatch_convert.measure import run_variant, score_photos
from pawlatch_convert.parity import Gate, ParityResult, Reason, VariantResult, judge, within_aim
from pawlatch_convert.photoset import Sample
from pawlatch_convert.points import operating_point, stranger_point
from pawlatch_convert.recipes import RECIPES
from pawlatch_convert.speed import Speed

INTEGER = Census(100, 100, (), "uint8", 1.0, 0)
STEP = 1 / 256
CARD = ModelCard(
    "pets", ("cat", "dog", "owl"), InputSpec((32, 32)), unlock=("cat",),
    operating_points={"saved_model": {"threshold": 0.7}},
)

Floats = NDArray[np.float32]


def outputs(scores: Any, embeddings: Any = None, *, unsteady: float = 0.0) -> Outputs:
    """Scores with embeddings, all alike unless given."""
    scores = np.asarray(scores, np.float32)
    return Outputs(scores, np.ones((len(scores), 4), np.float32) if embeddings is None else np.float32(embeddings), unsteady)


def scored(scores: Any, truth: Sequence[str], embeddings: Any = None, **variants: Outputs) -> Scored:
    names = tuple(f"{label}/{i}.jpg" for i, label in enumerate(truth))
    return Scored(names, tuple(truth), np.ones(len(truth), bool), outputs(scores, embeddings), variants, {})


def sure(columns: Sequence[int]) -> Floats:
    """Scores of 0.8 for one label and 0.1 for the others."""
    return (0.1 + 0.7 * np.eye(3)[list(columns)]).astype(np.float32)


TRUTH = ("cat", "dog", "owl") * 10
RIGHT = sure([0, 1, 2] * 10)
REFERENCE = scored(RIGHT, TRUTH)


def verdict(said: Outputs | Floats, *, recipe: str = "int8", census: Census = INTEGER, gate: Gate | None = None,
            reference: Scored = REFERENCE, card: ModelCard = CARD) -> dict[str, str]:
    """The reasons' sentences by their codes."""
    said = said if isinstance(said, Outputs) else outputs(said)
    reasons = judge(RECIPES[recipe], census, said, compare(reference, said, card), gate=gate or Gate())
    assert len({reason.code for reason in reasons}) == len(reasons)
    return {reason.code: str(reason) for reason in reasons}


# ------------------------------------------------------------------------------------------------- the verdict


def test_equal_scores_are_green_and_within_the_aim() -> None:
    assert verdict(RIGHT) == {}
    assert within_aim(compare(REFERENCE, outputs(RIGHT), CARD))


def test_permuted_labels_are_red() -> None:
    said = verdict(np.roll(RIGHT, 1, axis=1), card=replace(CARD, operating_points={}))
    assert list(said) == ["top1", "agreement", "sure"]
    assert "top-1 fell by 100.0% (30 of 30 held-out photos)" in said["top1"]
    assert "agrees with the SavedModel on 0.0%" in said["agreement"]


def test_one_relabelled_photo_is_never_red_and_two_are() -> None:
    one, two = RIGHT.copy(), RIGHT.copy()
    one[1], two[1:3] = sure([2]), sure([2, 1])  # neither moves the door, which opens for cats
    strict = Gate(max_drop=0, min_agreement=1)
    assert verdict(one, gate=strict) == {}
    assert set(verdict(two, gate=strict)) == {"top1", "agreement", "sure"}
    assert verdict(two, gate=Gate(max_drop=0.1, min_agreement=0.9, min_sure_agreement=0.9)) == {}
    assert not within_aim(compare(REFERENCE, outputs(one), CARD))  # the aim is stricter than the gate


def test_photos_of_which_the_saved_model_is_sure_count_apart() -> None:
    unsure = np.tile(np.float32([0.4, 0.35, 0.25]), (50, 1))
    reference = scored(np.r_[RIGHT, unsure], (*TRUTH, *["cat"] * 50))
    gate = Gate(max_drop=1, min_agreement=0)
    guessed, known = (np.r_[RIGHT, unsure] for _ in range(2))
    guessed[30:] = [0.35, 0.4, 0.25]
    known[1:3] = sure([2, 1])
    assert verdict(guessed, reference=reference, gate=gate) == {}
    assert within_aim(replace(compare(reference, outputs(guessed), CARD), difference=0.0))
    assert "2 of 30 photos of which the SavedModel is sure" in verdict(known, reference=reference, gate=gate)["sure"]


@pytest.mark.parametrize(("cat_score", "code"), [(0.72, None), (0.81, "door"), (0.59, "door"), (0.61, None)])
def test_a_single_flip_of_the_door_far_from_the_threshold_is_red(cat_score: float, code: str | None) -> None:
    before, after = RIGHT.copy(), RIGHT.copy()
    before[0] = [cat_score, 1 - cat_score, 0]
    after[0] = [0.69, 0.31, 0] if cat_score > 0.7 else [0.71, 0.29, 0]
    said = verdict(after, reference=scored(before, TRUTH))
    assert list(said) == ([code] if code else [])
    if code:
        assert "the door decides otherwise on 1 photo whose SavedModel's score lies more than 0.1 from" in said["door"]
        assert not within_aim(compare(scored(before, TRUTH), outputs(after), CARD))
        assert verdict(after, reference=scored(before, TRUTH), gate=Gate(max_door_flips=1)) == {}


def test_a_door_that_never_opens_is_red_however_close_the_scores() -> None:
    before = np.where(RIGHT > 0.5, 0.72, 0.14)
    after = np.where(RIGHT > 0.5, 0.68, 0.16)
    assert verdict(after, reference=scored(before, TRUTH)) == {
        "door": "the SavedModel opens the door on 10 photos, and it never does"
    }


@pytest.mark.parametrize(
    ("scores", "step", "sentence"),
    [
        (np.where(RIGHT > 0.5, np.nan, RIGHT), None, "not finite"),
        (np.full_like(RIGHT, 1 / 3), None, "every photo the same scores"),
        (RIGHT * 23.4, None, "off by up to 22.4"),
        (RIGHT * 0.998, None, "off by up to 0.002"),
        (RIGHT * 0.98, STEP, "off by up to 0.020"),
    ],
)
def test_scores_that_are_none_are_red(scores: Floats, step: float | None, sentence: str) -> None:
    assert sentence in verdict(scores, census=replace(INTEGER, scores_step=step))["scores"]


def test_rounding_to_the_outputs_step_is_no_fault() -> None:
    rounded = np.floor(RIGHT * 256) * STEP  # 204, 25 and 25 of 256
    assert verdict(rounded, census=replace(INTEGER, scores_step=STEP)) == {}
    assert "scores" in verdict(rounded)


@pytest.mark.parametrize(
    ("recipe", "unsteady", "is_red"), [("int8", 1e-9, True), ("int8", 0.0, False), ("float16", 1e-6, False), ("float16", 1e-4, True)]
)
def test_other_scores_when_run_again_are_red(recipe: str, unsteady: float, is_red: bool) -> None:
    said = verdict(outputs(RIGHT, unsteady=unsteady), recipe=recipe)
    assert list(said) == (["repeat"] if is_red else [])


def test_embeddings_that_point_elsewhere_are_red() -> None:
    rng = np.random.default_rng(0)
    features = rng.uniform(0, 1, (30, 64))
    reference = scored(RIGHT, TRUTH, features)
    assert verdict(outputs(RIGHT, features + rng.normal(0, 0.1, features.shape)), reference=reference) == {}
    assert "a cosine of 0.7" in verdict(outputs(RIGHT, features[:, ::-1]), reference=reference)["embedding"]
    assert "a cosine of 0.000" in verdict(outputs(RIGHT, features[:, :32]), reference=reference)["embedding"]  # other length
    assert "not finite" in verdict(outputs(RIGHT, features * np.inf), reference=reference)["embedding"]


@pytest.mark.parametrize(
    ("census", "code", "sentence"),
    [
        (replace(INTEGER, integer_macs=99), "integer", "1.0% of its multiplications are of floats"),
        (replace(INTEGER, macs=0, integer_macs=0), "integer", "100.0% of its multiplications are of floats"),
        (replace(INTEGER, float_operators=("SOFTMAX",)), "integer", "SOFTMAX compute in float"),
        (replace(INTEGER, input_scale=0.9921875), "input", "did not see both 0 and 255"),
        (replace(INTEGER, input_zero_point=-128), "input", "did not see both 0 and 255"),
        (replace(INTEGER, input_type="float32", input_scale=None, input_zero_point=None), "input", "but is float32"),
    ],
)
def test_int8_that_is_not_is_red(census: Census, code: str, sentence: str) -> None:
    said = verdict(RIGHT, census=census)
    assert list(said) == [code]
    assert sentence in said[code]
    assert verdict(RIGHT, census=census, recipe="float16") == {}


# ------------------------------------------------------------------------------------------------- the numbers


def test_flips_that_move_the_door_come_first_and_those_that_open_it_before_all() -> None:
    before = [[0.75, 0.15, 0.10], [0.05, 0.90, 0.05], [0.40, 0.35, 0.25], [0.65, 0.25, 0.10]]
    after = [[0.65, 0.25, 0.10], [0.05, 0.40, 0.55], [0.30, 0.45, 0.25], [0.75, 0.15, 0.10]]
    comparison = compare(scored(before, ("cat", "dog", "dog", "owl")), outputs(after), CARD)
    assert [flip.photo for flip in comparison.flips] == ["owl/3.jpg", "cat/0.jpg", "dog/1.jpg", "dog/2.jpg"]
    opens, shuts, sure_one, _ = comparison.flips
    assert (opens.index, opens.unlocks, shuts.unlocks) == (3, (False, True), (True, False))
    assert opens.unlock_scores == pytest.approx((0.65, 0.75))
    assert shuts.reference_label == shuts.variant_label == "cat"
    assert not sure_one.moves_door
    assert sure_one.margin == pytest.approx(0.85)
    door = comparison.door
    assert door is not None
    assert (door.opens_here, door.shut_here, door.far, door.reference_opens, door.variant_opens) == (1, 1, 0, 1, 1)
    assert (comparison.n_relabelled, comparison.agreement, comparison.n_sure, comparison.sure_agreement) == (
        2, 0.5, 3, pytest.approx(2 / 3),
    )
    assert comparison.max_delta == pytest.approx(0.5, abs=1e-6)


def test_without_an_operating_point_no_flip_moves_the_door() -> None:
    card = replace(CARD, operating_points={})
    before, after = [[0.7, 0.2, 0.1]] * 2, [[0.2, 0.7, 0.1], [0.6, 0.3, 0.1]]
    comparison = compare(scored(before, ("cat", "cat")), outputs(after), card)
    (flip,) = comparison.flips
    assert (flip.unlocks, comparison.door, flip.moves_door) == (None, None, False)


def test_top1_differences_are_paired() -> None:
    after = RIGHT.copy()
    after[:4] = sure([1, 2, 0, 1])  # cat, dog, owl, cat: four lost
    comparison = compare(REFERENCE, outputs(after), CARD)
    assert (comparison.top1, comparison.lost, comparison.difference) == (pytest.approx(26 / 30), 4, pytest.approx(-4 / 30))
    assert comparison.mcnemar_p == pytest.approx(2 * 0.5**4)
    low, high = comparison.difference_interval
    assert low < comparison.difference < high
    low, high = comparison.top1_interval
    assert low < comparison.top1 < high


@pytest.mark.parametrize(
    ("cells", "p"),
    [  # Fagerland, Lydersen and Laake 2013, table 4 and text: Bentur et al. (1, 7) and Cavo et al. (6, 16)
        ((1, 7), 0.0703), ((6, 16), 0.0525), ((0, 0), 1.0), ((5, 5), 1.0), ((0, 1), 1.0), ((0, 6), 2 / 64),
    ],
)
def test_mcnemar_has_the_published_values(cells: tuple[int, int], p: float) -> None:
    assert mcnemar_exact(*cells) == mcnemar_exact(*cells[::-1]) == pytest.approx(p, abs=5e-5)


def test_mcnemar_takes_many_photos_and_no_negative_ones() -> None:
    assert 0 < mcnemar_exact(4500, 5500) < 1e-20
    with pytest.raises(ValueError, match="negative"):
        mcnemar_exact(-1, 3)


def test_divergence_is_zero_for_the_same_and_finite_for_rounded_scores() -> None:
    p = np.float32([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])
    assert divergence(p, p) == pytest.approx([0, 0])
    q = np.float32([[0.25, 0.75, 0.0], [0.0, 1.0, 0.0]])
    first, second = divergence(p, q)
    assert first == pytest.approx(0.5 * np.log(2) + 0.5 * np.log(2 / 3), abs=2e-3)  # nothing but the floor's renormalisation
    assert 5 < second < 7  # about ln 512, where it would be infinite
    assert np.argmax(margins(p)) == 1


def test_calibration_error_is_the_gap_between_score_and_share_of_right_answers() -> None:
    scores = np.tile([0.8, 0.2], (10, 1))
    assert expected_calibration_error(scores, np.zeros(10, int)) == pytest.approx(0.2)
    assert expected_calibration_error(scores, np.r_[np.zeros(8, int), 1, 1]) == pytest.approx(0)
    assert np.isnan(expected_calibration_error(np.zeros((0, 2)), np.zeros(0, int)))
    comparison = compare(REFERENCE, outputs(np.where(RIGHT > 0.5, 0.98, 0.01)), CARD)
    assert (comparison.ece_reference, comparison.ece) == (pytest.approx(0.2), pytest.approx(0.02))


def test_the_matrix_holds_every_pair() -> None:
    one = RIGHT.copy()
    one[0] = sure([1])
    matrix = agreement_matrix(replace(REFERENCE, variants={"float32": outputs(RIGHT), "int8": outputs(one)}))
    assert list(matrix) == list(matrix["int8"]) == ["saved_model", "float32", "int8"]
    assert matrix["int8"]["float32"] == matrix["float32"]["int8"] == matrix["saved_model"]["int8"] == pytest.approx(29 / 30)
    assert {matrix[name][name] for name in matrix} == {1.0}


def test_photos_that_are_not_judged_count_for_agreement_alone() -> None:
    after = RIGHT.copy()
    after[:15] = sure([2, 0, 1] * 5)
    half = replace(REFERENCE, judged=np.arange(30) >= 15)
    comparison = compare(half, outputs(after), CARD)
    assert (comparison.n_photos, comparison.n_heldout, comparison.top1, comparison.agreement) == (30, 15, 1.0, 0.5)


# ----------------------------------------------------------------------------------- what stands in the card


def points_card(**more: Any) -> ModelCard:
    point = {"threshold": 0.7, "max_false_unlock": 0.01, "chosen_on": "choose", "false_unlocks": 7}
    return replace(CARD, operating_points={"saved_model": point}, **more)


def test_each_variant_counts_its_own_decisions_on_the_grid_of_its_scores() -> None:
    own = RIGHT.copy()
    own[1], own[3] = [0.75, 0.2, 0.05], [0.65, 0.3, 0.05]  # a dog is let in, a cat is refused
    data = replace(REFERENCE, variants={"int8": outputs(own), "float32": outputs(RIGHT)})
    point = operating_point(data, "int8", points_card(), step=STEP)
    assert point is not None
    assert point["threshold"] == 180 / 256 > 0.7
    assert (point["false_unlocks"], point["strangers_n"], point["lock_outs"], point["own_n"]) == (1, 20, 1, 10)
    assert point["false_unlock_upper_95"] == binomial_upper(1, 20)
    assert point["by_label"] == {"cat": {"lock_outs": 1, "n": 10, "upper_95": binomial_upper(1, 10)}}
    assert (point["counted_in"], point["max_false_unlock"], point["chosen_on"]) == ("photos", 0.01, "choose")
    assert "strangers let in: 1 of 20 photos: at most 21.6%" in point["sentences"][1]
    exact = operating_point(data, "float32", points_card(), step=None)
    assert exact is not None
    assert (exact["threshold"], exact["false_unlocks"], exact["lock_outs"]) == (0.7, 0, 0)
    assert json.loads(json.dumps(point)) == point


@pytest.mark.parametrize(("threshold", "raised"), [(205 / 256, 205 / 256), (0.6, 154 / 256), (0.999, 1.0)])
def test_a_threshold_never_falls_onto_the_grid(threshold: float, raised: float) -> None:
    card = replace(CARD, operating_points={"saved_model": {"threshold": threshold}})
    point = operating_point(replace(REFERENCE, variants={"int8": outputs(RIGHT)}), "int8", card, step=STEP)
    assert point is not None
    assert point["threshold"] == raised >= threshold


@pytest.mark.parametrize("provenance", [{"splits": {"held_out": []}}, {}])
def test_no_bound_is_promised_of_photos_that_trained_or_chose(provenance: Mapping[str, Any]) -> None:
    card = points_card(provenance=provenance)
    if not provenance:
        card = replace(card, operating_points={"saved_model": {"threshold": 0.7, "chosen_on": "these photos"}})
    point = operating_point(replace(REFERENCE, variants={"int8": outputs(RIGHT)}), "int8", card, step=None)
    assert point is not None
    assert (point["false_unlock_upper_95"], point["lock_out_upper_95"], point["strangers_n"]) == (None, None, 20)
    assert "no bound" in point["sentences"][-1]


def test_without_unlock_labels_there_is_no_operating_point() -> None:
    data = replace(REFERENCE, variants={"int8": outputs(RIGHT)})
    assert operating_point(data, "int8", replace(CARD, operating_points={}), step=None) is None
    assert operating_point(data, "int8", replace(CARD, unlock=()), step=None) is None
    assert stranger_point(data, "int8", CARD) is None


def strange_card(threshold: float) -> ModelCard:
    """Strangers are what points away from the first two axes."""
    basis = (127 * np.eye(4)[:2]).astype(np.int8)
    model = StrangerModel(("cat", "dog"), (1, 1), basis, np.full(2, 1 / 127, np.float32), threshold)
    return replace(CARD, strangers={"saved_model": model.statistics()})


def test_a_variants_stranger_threshold_moves_with_its_embeddings() -> None:
    card = strange_card(0.3)
    near = np.tile([1, 0, 0.002, 0], (29, 1))  # score 0.04, as the fourth root is taken of each feature
    before = np.r_[near, [[1, 0, 0.1, 0]]]  # 0.24: known
    after = np.r_[near + np.array([0, 0, 0.02, 0]), [[1, 0, 0.3, 0]]]  # all of them a little stranger, the last 0.35
    data = scored(RIGHT, TRUTH, before, int8=outputs(RIGHT, after))
    point = stranger_point(data, "int8", card)
    assert point is not None
    assert 0.36 < point["threshold"] < 0.41
    merged = StrangerModel.from_card(replace(card, strangers={**card.strangers, "int8": point}), "int8")
    assert merged is not None
    assert merged.threshold == point["threshold"]
    assert merged.says_stranger(merged.score(np.float32([0, 0, 1, 0])))
    unmoved = StrangerModel.from_card(card, "float16")
    assert unmoved is not None
    assert unmoved.threshold == 0.3
    comparison = compare(data, data.variants["int8"], card)
    assert comparison.strangers is not None
    assert (comparison.strangers.newly_strange, comparison.strangers.no_longer_strange) == (0, 0)
    comparison = compare(data, outputs(RIGHT, np.r_[near, [[1, 0, 0.9, 0]]]), card)
    assert comparison.strangers is not None
    assert (comparison.strangers.newly_strange, comparison.strangers.no_longer_strange) == (1, 0)
    (flip,) = comparison.flips
    assert (flip.index, flip.strangers, flip.moves_label) == (29, (False, True), False)


# -------------------------------------------------------------------------------------------------- the measuring


class Reference:
    """A SavedModel that says cat to everything."""

    card = CARD

    def outputs(self, pixels: NDArray[np.uint8]) -> tuple[Floats, Floats]:
        return sure([0] * len(pixels)), np.ones((len(pixels), 4), np.float32)


def test_a_variant_that_fails_on_one_photo_is_a_failure_and_runs_no_further() -> None:
    class Flaky:
        calls = 0

        def predict(self, fitted_rgb: Image) -> None:
            self.calls += 1
            raise EngineError("the scores are not finite numbers")

    flaky = Flaky()
    samples = [Sample(Photo(Path(f"{i}.jpg"), "cat"), np.zeros((32, 32, 3), np.uint8), True) for i in range(70)]
    found = score_photos(Reference(), {"int8": flaky}, samples)  # type: ignore[arg-type, dict-item]
    assert found.failures == {"int8": "it does not run: the scores are not finite numbers"}
    assert not found.variants
    assert len(found.names) == 70
    assert flaky.calls == 1


def test_the_same_photo_is_run_again_and_with_other_threads(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = [np.random.default_rng(i).integers(0, 256, (32, 32, 3), np.uint8) for i in range(5)]
    classify = Classifier(tiny_bundle)
    pixels = [classify.fit(one) for one in pixels]
    steady = run_variant(classify, pixels)
    assert (steady.scores.shape[0], steady.embeddings.shape[0], steady.unsteady) == (5, 5, 0)
    threads_seen = []

    class DependsOnThreads(LiteRTEngine):
        def __init__(self, path: Path, *, threads: int = 1) -> None:
            super().__init__(path, threads=threads)
            threads_seen.append(threads)
            self.shift = 0.01 * (threads == 1)

        def __call__(self, batch: NDArray[Any]) -> dict[str, Floats]:
            found = super().__call__(batch)
            return {name: value + np.float32(self.shift) for name, value in found.items()}

    monkeypatch.setattr("pawlatch.classify.open_engine", DependsOnThreads)
    assert run_variant(Classifier(tiny_bundle, threads=2), pixels).unsteady == pytest.approx(0.01, abs=1e-4)
    assert set(threads_seen) == {1, 2}


def test_a_replaced_variant_is_no_failure_any_more() -> None:
    failed = replace(REFERENCE, failures={"int8": "it does not run", "float16": "nor this"})
    assert failed.with_variant("int8", outputs(RIGHT)).failures == {"float16": "nor this"}


# ------------------------------------------------------------------------------------------------------ the table


def result_of(*variants: VariantResult, **more: Any) -> ParityResult:
    return ParityResult("pets", 30, 30, 1.0, (0.89, 1.0), Gate(), 2, variants, "float32", **more)


def speed(p50: float) -> Speed:
    return Speed({1: (2 * p50, 3 * p50), 2: (p50, 2 * p50)}, 10.0, 80.0)


def red_result() -> ParityResult:
    scores = outputs(np.roll(RIGHT, 1, axis=1))
    comparison = compare(REFERENCE, scores, CARD)
    return result_of(
        VariantResult("float32", (), None, census=INTEGER, speed=speed(1.5), comparison=compare(REFERENCE, outputs(RIGHT), CARD)),
        VariantResult("int8", judge(RECIPES["int8"], INTEGER, scores, comparison, gate=Gate()), None, "learned rounding and more",
                      INTEGER, speed(2.2), comparison),
        VariantResult("onnx_int8", (Reason("run", "it does not run"),)),
        deploy_reason="the smallest that is green", matrix=agreement_matrix(REFERENCE),
    )


def test_the_table_says_what_is_red_and_what_flipped() -> None:
    table = render_table(red_result())
    assert "RED int8: top-1 fell by 100.0%" in table
    assert "RED onnx_int8: it does not run." in table
    assert "int8 is slower than float32 on this machine" in table
    assert "4.4/2.2" in table
    assert "deployed: float32: the smallest that is green" in table
    assert "int8: owl/11.jpg: owl 0.80 → cat 0.80 (float margin 0.70; opens the door now)" in table
    assert "… and 20 more in parity.json" in table
    rows = {line.split()[0]: line.split() for line in table.split("\n\n")[1].splitlines()}
    assert rows["float32"][-3:] == ["+0", "-0", "green"]
    assert rows["int8"][-3:] == ["+10", "-10", "RED"]


def test_the_table_fits_100_columns() -> None:
    long = replace(red_result(), model="a model of a rather long name", set_aside=(("a.jpg", "word " * 60),))
    assert max(map(len, render_table(long).splitlines())) <= 100


def test_the_json_is_json_and_names_its_reasons() -> None:
    result = red_result()
    broken = replace(result.variants[1], comparison=replace(result.variants[1].comparison, mean_kl=float("nan")))  # type: ignore[type-var]
    raw = json.loads(json.dumps(replace(result, variants=(result.variants[0], broken)).to_dict(), allow_nan=False))
    float32, int8 = raw["variants"]
    assert (float32["verdict"], float32["rung"], int8["verdict"], int8["rung"]) == ("green", "bare", "red", "learned rounding and more")
    assert {"code", "sentence"} == set(int8["reasons"][0])
    assert [reason["code"] for reason in int8["reasons"]] == ["top1", "agreement", "sure", "door"]
    assert int8["comparison"]["mean_kl"] is None
    assert float32["census"]["integer_share"] == 1
    assert float32["speed"]["latency_ms"]["2"] == [1.5, 3.0]
    assert raw["matrix"]["saved_model"]["saved_model"] == 1
