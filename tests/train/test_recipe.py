"""`TrainRecipe`: from flags and TOML, kept with the model, and what it refuses."""

from __future__ import annotations

import dataclasses

import pytest

from pawlatch_train.cases import choose_case
from pawlatch_train.recipe import RecipeError, TrainRecipe, help_of, parse_value, read_recipe

OTHER_THAN_DEFAULT = TrainRecipe(fit="letterbox", augmentation="plain", views=3, mixup=0.2, optimizer="nag", schedule="step", head="logit",
                                 fine_tune_at="block_13", freeze=("block_1*", "54"), batch_norm_frozen=False, weight_decay=0.01)


def test_a_recipe_survives_its_file(tmp_path):
    for recipe in (TrainRecipe(), OTHER_THAN_DEFAULT, TrainRecipe(fine_tune_at=54)):
        (tmp_path / "recipe.toml").write_text(recipe.to_toml())
        assert TrainRecipe().with_values(read_recipe(tmp_path / "recipe.toml")) == recipe


@pytest.mark.parametrize(("name", "text", "value"), [
    ("optimizer", "adamw", "adamw"), ("dropout", "0.5", 0.5), ("dropout", "0", 0.0), ("batch", "16", 16), ("views", "none", None),
    ("fine_tune_at", "54", 54), ("fine_tune_at", "block_13_*", "block_13_*"), ("freeze", "a,b", ("a", "b")),
    ("class_weights", "no", False), ("fine_tune_epochs", "0", 0),
])
def test_values_are_read_as_they_are_typed(name, text, value):
    assert parse_value(name, text) == value
    assert type(parse_value(name, text)) is type(value)


@pytest.mark.parametrize(("name", "text", "words"), [
    ("optimiser", "adam", "there is no 'optimiser'"), ("batch", "many", "a whole number"), ("class_weights", "maybe", "yes or no"),
])
def test_what_is_no_value_is_refused(name, text, words):
    with pytest.raises(RecipeError, match=words):
        parse_value(name, text)


@pytest.mark.parametrize(("values", "words"), [
    ({"optimizer": "lion"}, "optimizer must be one of sgd, momentum"), ({"dropout": 1.0}, "dropout must be from 0 to 0.9"),
    ({"batch": "32"}, "batch takes a whole number"), ({"colour": 1}, "there is no 'colour'"), ({"head_rate": float("nan")}, "head_rate"),
    ({"batch_norm_frozen": False, "batch": 8}, "at least 16"), ({"optimizer": "adagrad", "weight_decay": 0.1}, "adagrad"),
])
def test_impossible_recipes_are_refused(values, words):
    with pytest.raises(RecipeError, match=words):
        TrainRecipe().with_values(values)


def test_a_file_that_is_none_is_refused(tmp_path):
    with pytest.raises(RecipeError, match="cannot be read"):
        read_recipe(tmp_path / "nowhere.toml")
    (tmp_path / "recipe.toml").write_text("dropout = half")
    with pytest.raises(RecipeError, match="is none"):
        read_recipe(tmp_path / "recipe.toml")


def test_every_field_says_what_it_is():
    assert all(help_of(field.name) for field in dataclasses.fields(TrainRecipe))


def test_the_four_cases_differ_and_say_why():
    cases = {(photos, accuracy): choose_case(photos=photos, labels=5, frozen_accuracy=accuracy, has_seen_little=False)
             for photos in (100, 3000) for accuracy in (0.5, 0.95)}
    assert len({case.sentence for case in cases.values()}) == 4
    assert "few" in cases[100, 0.95].sentence
    assert "near to ImageNet" in cases[100, 0.95].sentence
    assert "many" in cases[3000, 0.5].sentence
    assert "far from ImageNet" in cases[3000, 0.5].sentence
    assert cases[3000, 0.5].rate > cases[100, 0.95].rate
    starter = choose_case(photos=100, labels=5, frozen_accuracy=0.95, has_seen_little=True)
    assert "all of its layers" in starter.sentence
