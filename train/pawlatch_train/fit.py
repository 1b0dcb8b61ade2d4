"""The two stages of a training: a head on features that were computed once, then the upper layers on maps that were too."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pawlatch_train.callbacks import Recorder, progress_callback
from pawlatch_train.cases import MANY_PHOTOS, Case, choose_case
from pawlatch_train.dataset import Dataset, class_weights
from pawlatch_train.distribute import Cluster, Load, fit_dataset, judge_dataset, share_file, steps
from pawlatch_train.features import BackboneError
from pawlatch_train.history import History, Stage
from pawlatch_train.keeper import Keeper, Rate, make_optimizer
from pawlatch_train.keras import keras
from pawlatch_train.network import Network, runner
from pawlatch_train.recipe import RecipeError, TrainRecipe
from pawlatch_train.views import CHUNK, Function, Variations, Views, compute_views

MIN_GAIN = 0.1  # share of the validation loss that fine-tuning has to take away
VIEWS_IN_ALL = 1500  # of few photos, for the head alone
FEWEST_VIEWS, MOST_VIEWS, TUNING_VIEWS = 3, 9, 5
WARM_STEPS = 60
SMOOTHING = 0.1  # of the targets, where many photos are learned by heart

Say = Callable[[str], None]
Indices = NDArray[np.int64]


@dataclass
class Material:
    """What the stages learn from. `targets` (photos, labels), float32; with a teacher, mixed with its scores of each view."""

    features: Views  # (d,), float32, of the backbone as it came
    compute_maps: Callable[[], Views] | None
    variations: Variations
    targets: NDArray[np.float32]
    taught: Views | None = None

    @cached_property
    def maps(self) -> Views | None:
        """Outputs of the cut, float16, computed when they are first asked for; None: views are drawn anew each epoch."""
        return self.compute_maps() if self.compute_maps else None


@dataclass
class Fitted:
    """What a fit leaves beside the weights in the network."""

    history: History = field(default_factory=History)
    case: Case | None = None
    kept: Stage = "frozen"
    frozen_accuracy: float = float("nan")  # of the head on frozen features, on the photos that choose
    best_epochs: dict[str, int] = field(default_factory=dict)  # by stage
    validates: bool = False  # photos that did not fit chose the epochs
    head_saw_choosing: bool = False  # and then the head was fitted again, to them too


def prepare(network: Network, data: Dataset, recipe: TrainRecipe, varied: Indices, work: Path, *,
            teacher: Function | None = None, say: Say = lambda line: None) -> Material:
    """Run the frozen part over every photo and over augmented views of the `varied` ones, into files under `work`.

    Raises:
        BackboneError: what comes out is no numbers.
    """
    views = default_views(len(varied)) if recipe.views is None else recipe.views
    say(f"computing the features of {len(data.targets)} photos and {views} augmented views of each that trains")
    variations = Variations(data.pixels, recipe.augment_how, recipe.seed)
    targets = np.eye(len(data.labels), dtype=np.float32)[data.targets]

    def computed(name: str, function: Function, source: Variations, dtype: type[np.generic]) -> Views:
        return compute_views(function, source, varied, count=views, path=work / name, dtype=dtype)

    taught = None
    if teacher is not None:
        taught = computed("taught", teacher, dataclasses.replace(variations, pixels=data.large or data.pixels), np.float32)
    def maps() -> Views:
        return computed("maps", runner(network.stem), variations, np.float16)

    tunes = network.stem is not None and (recipe.fine_tune_epochs or len(varied) >= MANY_PHOTOS)
    if recipe.fine_tune_epochs != 0 and tunes:  # then features come from maps; else maps may never be needed
        features = maps().derive(runner(network.embed), work / "features")
    else:
        features = computed("features", runner(network.features), variations, np.float32)
    if not np.isfinite(features.take(range(min(CHUNK, len(targets))))).all():
        raise BackboneError("a backbone's features must be finite numbers, and these are not; begin with other weights")
    return Material(features, None if network.stem is None else maps, variations, targets, taught)


class Fitting:
    """Fits one network to some of the photos and lets others choose.

    Args:
        choose: photos that choose epochs and stage; without any, those that fit do it, and nothing is validated.
        work: where each stage writes after every epoch what it needs to go on; None: nowhere.
        callbacks: they listen to both stages.
        case: what others have found of these photos, so that fine-tuning has earned its place; None: it is found here.
    """

    def __init__(self, network: Network, material: Material, recipe: TrainRecipe, *, fit: Indices, choose: Indices,
                 cluster: Cluster, work: Path | None = None, callbacks: Sequence[Any] = (), history: History | None = None,
                 say: Say = lambda line: None, quiet: bool = False, case: Case | None = None) -> None:
        self._network, self._material, self._recipe, self._cluster = network, material, recipe, cluster
        self._fit, self._choose, self._validates = fit, choose if len(choose) else fit, len(choose) > 0
        self._work, self._callbacks, self._say, self._quiet = work, callbacks, say, quiet
        self._case = case
        default = SMOOTHING if len(fit) >= MANY_PHOTOS else 0.0
        self._smoothing = default if recipe.label_smoothing is None else recipe.label_smoothing
        labels = material.targets[fit].argmax(1)
        even = np.ones(len(fit), np.float32)
        self._weights = class_weights(labels, material.targets.shape[1]) if recipe.class_weights else even
        self.fitted = Fitted(history if history is not None else History(), validates=self._validates)

    def run(self) -> Fitted:
        """Both stages; the network is left with the weights that chose best.

        Raises:
            RecipeError: the head's loss was never finite.
        """
        if not self._quiet:
            self._say(f"initial accuracy {self._head_accuracy():.2f} on {len(self._choose)} photos, before any training")
        self._fit_head()
        self._fine_tune()
        return self.fitted

    def _fit_head(self) -> None:
        views = self._material.features.count + 1
        n = len(self._fit)

        def load(rows: Indices, epoch: int) -> tuple[NDArray[Any], ...]:
            return self._prepared(self._material.features, rows % n, rows // n, epoch)

        keeper = self._stage("frozen", self._network.head, load, rows=n * views, batch=self._recipe.head_batch,
                             epochs=self._recipe.head_epochs, peak=self._recipe.head_rate, warm=0, judged=self._judge_features)
        if not np.isfinite(keeper.best_loss):
            raise RecipeError(f"the head must learn, but its loss was never a finite number; lower --head-rate "
                              f"({self._recipe.head_rate:g}), or begin with another backbone")
        self.fitted.frozen_accuracy = self._head_accuracy()
        self._frozen_loss = keeper.best_loss

    def _head_accuracy(self) -> float:
        """Of the head on frozen features, on the photos that choose."""
        logits = runner(self._network.head)(self._material.features.take(self._choose))
        return float((logits.argmax(1) == self._material.targets[self._choose].argmax(1)).mean())

    def _fine_tune(self) -> None:
        """Upper layers at a lower rate, which have to earn their place by a validation loss lower by `MIN_GAIN`."""
        network, recipe, n = self._network, self._recipe, len(self._fit)
        case = self._case or case_of(network, photos=n, labels=self._material.targets.shape[1],
                                     frozen_accuracy=self.fitted.frozen_accuracy)
        self.fitted.case = case
        epochs = case.epochs if recipe.fine_tune_epochs is None else recipe.fine_tune_epochs
        if not self._quiet:
            self._say(case.sentence if epochs or not case.epochs else f"{case.sentence}; but here it is left out")
        if not epochs or not network.trainable:
            return
        before = network.whole.get_weights()
        in_all = epochs * steps(n, recipe.batch)
        keeper = self._stage(
            "fine-tuned", network.tuned, self._load_maps, rows=n, batch=recipe.batch, epochs=epochs,
            peak=recipe.fine_tune_rate or case.rate, warm=min(WARM_STEPS, in_all // 5), judged=self._judge_maps,
        )
        is_decided = self._case is not None and np.isfinite(keeper.best_loss)
        gained = is_decided or keeper.best_loss < (1 - MIN_GAIN) * self._frozen_loss
        self.fitted.kept = "fine-tuned" if gained else "frozen"
        if not gained:
            network.whole.set_weights(before)
        if not self._quiet:
            self._say(f"the {self.fitted.kept} stage is kept: {'validation' if self._validates else 'training'} loss "
                      f"{self._frozen_loss:.3f} before fine-tuning, {keeper.best_loss:.3f} after")

    def _stage(self, stage: Stage, model: Any, load: Load, *, rows: int, batch: int, epochs: int, peak: float, warm: int,
               judged: Load) -> Keeper:
        per_epoch = steps(rows, batch)
        rate = Rate(peak, steps=epochs * per_epoch, warm=warm, schedule=self._recipe.schedule)
        history = self.fitted.history
        state = self._work / f"{stage}.npz" if self._work else None
        if state is not None:
            share_file(self._cluster, state)  # a killed training goes on from the chief's state
        keeper = Keeper(self._recipe, rate, history, state)
        with self._cluster.strategy.scope():
            model.compile(make_optimizer(self._recipe, rate), keras.losses.CategoricalCrossentropy(from_logits=True),
                          weighted_metrics=[], metrics=["accuracy"])
        first = keeper.restore(model)
        judging = judge_dataset(judged, rows=len(self._choose), batch=max(batch, 64)) if self._validates else None
        listening = [Recorder(history, stage, photos=per_epoch * batch, batch=batch), keeper, *self._callbacks]
        if not self._quiet and self._cluster.is_chief:
            listening.append(progress_callback(stage, epochs, per_epoch))
        if first < epochs and not keeper.ended:
            model.fit(
                fit_dataset(self._cluster, load, rows=rows, batch=batch, seed=self._recipe.seed, first_epoch=first),
                steps_per_epoch=per_epoch, initial_epoch=first, epochs=epochs, verbose=0, callbacks=listening,
                validation_data=judging,
            )
        else:
            keeper.put_back(model)
        self.fitted.best_epochs[stage] = keeper.best_epoch + 1
        return keeper

    def _prepared(self, views: Views, rows: Indices, view: Indices, epoch: int) -> tuple[NDArray[Any], ...]:
        """Inputs, targets and weights of these views of the fitted photos, mixed in pairs where the recipe says so."""
        photos = self._fit[rows]
        return self._mixed(views.take(photos, view).astype(np.float32), self._targets(photos, view), self._weights[rows],
                           self._rng(rows, epoch))

    def _load_maps(self, rows: Indices, epoch: int) -> tuple[NDArray[Any], ...]:
        material, rng, photos = self._material, self._rng(rows, epoch), self._fit[rows]
        if material.maps is not None:
            return self._prepared(material.maps, rows, rng.integers(0, material.maps.count + 1, len(rows)), epoch)
        view = np.full(len(rows), epoch + 1)
        if material.taught is not None:  # the teacher has seen so many views and no more
            view %= material.taught.count + 1
        return self._mixed(material.variations.views(photos, view).astype(np.float32), self._targets(photos, view),
                           self._weights[rows], rng)

    def _targets(self, photos: Indices, view: Indices) -> NDArray[np.float32]:
        targets = self._material.targets[photos]
        if self._material.taught is not None:
            taught = self._material.taught.take(photos, view)
            share = np.float32(self._recipe.distill_weight)
            targets = np.asarray((1 - share) * targets + share * taught, np.float32)
        smooth = self._smoothing
        return np.asarray((1 - smooth) * targets + smooth / targets.shape[1], np.float32)

    def _mixed(self, inputs: NDArray[np.float32], targets: NDArray[np.float32], weights: NDArray[np.float32],
               rng: np.random.Generator) -> tuple[NDArray[Any], ...]:
        """mixup: pairs of inputs and their targets in shares of beta(α, α). Source: H. Zhang et al., ICLR 2018."""
        if not self._recipe.mixup:
            return inputs, targets, weights
        share = np.float32(rng.beta(self._recipe.mixup, self._recipe.mixup))
        pair = rng.permutation(len(inputs))
        return tuple(share * part + (1 - share) * part[pair] for part in (inputs, targets, weights))

    def _judge_features(self, rows: Indices, epoch: int) -> tuple[NDArray[Any], ...]:
        photos = self._choose[rows]
        return self._material.features.take(photos), self._material.targets[photos]

    def _judge_maps(self, rows: Indices, epoch: int) -> tuple[NDArray[Any], ...]:
        photos, material = self._choose[rows], self._material
        if material.maps is not None:
            return material.maps.take(photos).astype(np.float32), material.targets[photos]
        return material.variations.pixels.take(photos).astype(np.float32), material.targets[photos]

    def _rng(self, rows: Indices, epoch: int) -> np.random.Generator:
        return np.random.default_rng([self._recipe.seed, epoch, int(rows[0]), len(rows)])


def default_views(photos: int) -> int:
    """Augmented views of each of so many photos: enough for a head, and more where layers below it are to learn from them."""
    return TUNING_VIEWS if photos >= MANY_PHOTOS else int(np.clip(VIEWS_IN_ALL // photos, FEWEST_VIEWS, MOST_VIEWS))


def case_of(network: Network, *, photos: int, labels: int, frozen_accuracy: float) -> Case:
    """What the situation of `photos` that train this network means for fine-tuning."""
    has_seen_little = network.backbone.weights.source in ("starter", "none")
    return choose_case(photos=photos, labels=labels, frozen_accuracy=frozen_accuracy, has_seen_little=has_seen_little)


def predict(network: Network, material: Material, photos: Indices, *, kept: Stage,
            view: int = 0) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Logits (n, labels) and embeddings (n, d) of a view of photos, by the weights that the network has now.

    `kept` is the stage they come from; any view but 0 is of photos that were varied.
    """
    def embedded(part: Indices) -> NDArray[Any]:
        if kept == "frozen" and view <= material.features.count:
            return material.features.take(part, view)
        if material.maps is not None and view <= material.maps.count:
            return runner(network.embed)(material.maps.take(part, view))
        return runner(network.features)(material.variations.views(part, np.full(len(part), view)))

    embeddings = np.concatenate([embedded(photos[start : start + CHUNK]) for start in range(0, len(photos), CHUNK)])
    return runner(network.head)(embeddings), embeddings
