"""Rates that change, weights that are kept, and every optimizer by its name."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="needs the train extra")

from pawlatch_train.history import History
from pawlatch_train.keeper import Keeper, Rate, make_optimizer
from pawlatch_train.keras import keras, tf
from pawlatch_train.recipe import Optimizer, Schedule, TrainRecipe

ROWS = 64


def rates(schedule: str, *, steps=100, warm=0, peak=1.0):
    rate = Rate(peak, steps=steps, warm=warm, schedule=schedule)
    return np.array([float(rate(step)) for step in range(steps)])


def test_a_constant_rate_is_one():
    assert np.all(rates("constant", peak=0.25) == 0.25)


def test_cosine_falls_to_nothing_by_half_a_wave():
    told = rates("cosine")
    assert told == pytest.approx(0.5 * (1 + np.cos(np.pi * np.arange(100) / 100)), abs=1e-6)
    assert told[-1] < 0.001


def test_exponential_falls_by_the_same_share_each_step_to_a_hundredth():
    told = rates("exponential")
    assert told[1:] / told[:-1] == pytest.approx(np.full(99, 0.01 ** (1 / 100)), rel=1e-4)
    assert told[0] == 1
    assert told[-1] == pytest.approx(0.01, rel=0.05)


def test_steps_are_three_each_a_tenth_of_the_one_before():
    told = rates("step", steps=99)
    assert told == pytest.approx(np.repeat([1, 0.1, 0.01], 33), rel=1e-5)


@pytest.mark.parametrize("schedule", get_args(Schedule))
def test_every_schedule_warms_up_in_a_line_to_its_peak_and_never_rises_again(schedule):
    told = rates(schedule, warm=10, peak=2.0)
    assert told[:10] == pytest.approx(np.arange(1, 11) / 5, rel=1e-5)
    assert np.all(np.diff(told[10:]) <= 1e-6)
    assert told.max() == pytest.approx(2.0)


def test_a_rate_goes_on_behind_its_last_step():
    for schedule in get_args(Schedule):
        rate = Rate(1.0, steps=10, warm=2, schedule=schedule)
        assert 0 <= float(rate(10)) == float(rate(1000)) <= 1


# ------------------------------------------------------------------------------------------------ optimizers


def fitted(recipe: TrainRecipe, rate: float, *, epochs=12, callbacks=lambda rate: []):
    """A line through points, from zero weights: the model, its losses, and the rate it was fitted by."""
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(ROWS, 3)).astype(np.float32)
    targets = inputs @ np.array([[1.0], [-2.0], [0.5]], np.float32)
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, kernel_initializer="zeros")])
    schedule = Rate(rate, steps=epochs * 4, warm=0, schedule=recipe.schedule)
    model.compile(make_optimizer(recipe, schedule), "mse")
    told = model.fit(inputs, targets, batch_size=ROWS // 4, epochs=epochs, verbose=0, callbacks=callbacks(schedule)).history["loss"]
    return model, told


RATES = {"sgd": 0.05, "momentum": 0.02, "nag": 0.02, "adagrad": 0.3, "adadelta": 1.0, "rmsprop": 0.05, "adam": 0.1, "adamw": 0.1}


@pytest.mark.parametrize("name", get_args(Optimizer))
def test_every_optimizer_lowers_a_loss(name):
    model, told = fitted(TrainRecipe(optimizer=name, clip_norm=0), RATES[name])
    assert told[-1] < (0.999 if name == "adadelta" else 0.2) * told[0]  # adadelta sets out slowly, whatever the rate
    assert np.isfinite(model.get_weights()[0]).all()


def test_names_mean_what_the_books_call_them():
    made = {name: make_optimizer(TrainRecipe(optimizer=name), Rate(0.1, steps=1, warm=0, schedule="constant"))
            for name in get_args(Optimizer)}
    assert [(made[name].momentum, made[name].nesterov) for name in ("sgd", "momentum", "nag")] == [(0, False), (0.9, False), (0.9, True)]
    assert made["adamw"].weight_decay == 0.004
    assert made["adam"].weight_decay is None
    assert made["adam"].global_clipnorm == 5
    assert len({type(optimizer) for optimizer in made.values()}) == 6


def test_weight_decay_and_the_bound_of_the_gradient_reach_the_optimizer():
    plain, _ = fitted(TrainRecipe(optimizer="sgd", clip_norm=0), 0.05)
    decayed, _ = fitted(TrainRecipe(optimizer="sgd", clip_norm=0, weight_decay=0.5), 0.05)
    bound, _ = fitted(TrainRecipe(optimizer="sgd", clip_norm=0.01), 0.05)
    norms = [float(np.linalg.norm(model.get_weights()[0])) for model in (plain, decayed, bound)]
    assert norms[1] < 0.9 * norms[0]
    assert norms[2] < 48 * 0.05 * 0.01 + 1e-6  # so many steps of that length at most


# ------------------------------------------------------------------------------------------------ the keeper


class Judge(keras.callbacks.Callback):
    """Says of each epoch what the test wants it to have lost on validation, and remembers its weights."""

    def __init__(self, losses) -> None:
        super().__init__()
        self.losses, self.weights = losses, []

    def on_epoch_end(self, epoch, logs):
        logs["val_loss"] = self.losses[epoch]
        self.weights.append(self.model.get_weights())


def kept(losses, tmp_path=None, **recipe):
    """What a keeper does with these validation losses: itself, its model, the judge, and the rate."""
    made = {}

    def callbacks(rate):
        made.update(judge=Judge(losses), rate=rate, keeper=Keeper(TrainRecipe(**recipe), rate, History(), tmp_path))
        return [made["judge"], made["keeper"]]

    model, _ = fitted(TrainRecipe(schedule="constant"), 0.01, epochs=len(losses), callbacks=callbacks)
    return made["keeper"], model, made["judge"], made["rate"]


def is_of_epoch(model, judge, epoch) -> bool:
    return all(np.array_equal(mine, theirs) for mine, theirs in zip(model.get_weights(), judge.weights[epoch], strict=True))


def test_the_weights_of_the_best_epoch_come_back():
    keeper, model, judge, _ = kept([3.0, 1.0, 2.0, 4.0], early_stopping=0)
    assert (keeper.best_epoch, keeper.best_loss, keeper.ended) == (1, 1.0, False)
    assert len(judge.weights) == 4
    assert is_of_epoch(model, judge, 1)
    assert not is_of_epoch(model, judge, 3)


def test_a_stage_ends_when_it_has_not_gained_for_so_many_epochs():
    keeper, model, judge, _ = kept([3.0, 1.0, 2.0, 1.5, 0.5, 0.4], early_stopping=2)
    assert len(judge.weights) == 4
    assert keeper.ended
    assert is_of_epoch(model, judge, 1)


def test_a_loss_that_stays_the_same_is_no_gain():
    keeper, _, judge, rate = kept([1.0] * 6, early_stopping=5, plateau=2)
    assert (keeper.best_epoch, len(judge.weights)) == (0, 6)
    assert float(rate.factor) == 0.25


def test_a_plateau_halves_the_rate_and_begins_to_count_anew():
    *_, rate = kept([2.0, 1.0, 1.1, 1.2, 1.3, 0.9, 1.0], early_stopping=0, plateau=2)
    assert float(rate.factor) == 0.5
    *_, rate = kept([2.0, 1.0, 1.1, 1.2, 1.3, 1.4, 1.0], early_stopping=0, plateau=2)
    assert float(rate.factor) == 0.25
    assert float(rate(0)) == pytest.approx(0.01 / 4)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_is_never_the_best(bad):
    keeper, model, judge, _ = kept([bad, 2.0, bad, 3.0], early_stopping=0)
    assert (keeper.best_epoch, keeper.best_loss) == (1, 2.0)
    assert is_of_epoch(model, judge, 1)
    keeper, *_ = kept([bad, bad], early_stopping=0)
    assert keeper.best_loss == float("inf")


def test_without_validation_the_training_loss_decides():
    def callbacks(rate):
        made.append(Keeper(TrainRecipe(early_stopping=0), rate, History(), None))
        return made

    made: list[Keeper] = []
    _, told = fitted(TrainRecipe(), 0.01, epochs=3, callbacks=callbacks)
    assert made[0].best_loss == min(told)


def test_what_is_written_down_is_taken_up_whole(tmp_path):
    path = tmp_path / "frozen.npz"
    keeper, _, judge, rate = kept([2.0, 1.0, 1.5, 1.6, float("nan")], path, early_stopping=0, plateau=2)
    model, _ = fitted(TrainRecipe(), 0.5, epochs=1)
    fresh = Rate(0.01, steps=8, warm=0, schedule="constant")
    model.compile(make_optimizer(TrainRecipe(), fresh), "mse")
    again = Keeper(TrainRecipe(), fresh, History(), path)
    assert again.restore(model) == 5
    assert is_of_epoch(model, judge, 4)
    assert (again.best_loss, again.best_epoch, again.ended) == (keeper.best_loss, keeper.best_epoch, keeper.ended) == (1.0, 1, False)
    assert float(fresh.factor) == float(rate.factor) == 0.5
    assert int(model.optimizer.iterations) == 5 * 4
    assert any(float(tf.norm(variable)) > 0 for variable in model.optimizer.variables if variable.shape.rank == 2)
    again.put_back(model)
    assert is_of_epoch(model, judge, 1)


def test_there_may_be_nothing_to_take_up(tmp_path):
    rate = Rate(0.01, steps=8, warm=0, schedule="constant")
    for path in (None, tmp_path / "frozen.npz"):
        assert Keeper(TrainRecipe(), rate, History(), path).restore(None) == 0
