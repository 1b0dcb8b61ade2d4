"""The head's beginning in closed form."""

from __future__ import annotations

import numpy as np
import pytest

from pawlatch_train.calibrate import softmax
from pawlatch_train.discriminant import linear_discriminant


def blobs(n, *, labels=3, dimensions=40, apart=2.0, seed=0):
    """Photos of labels that differ in a few directions, amid stronger ones in which all labels vary alike."""
    means = np.random.default_rng(7).normal(size=(labels, dimensions)) * apart / np.sqrt(dimensions)
    rng = np.random.default_rng(seed)
    targets = np.arange(n) % labels
    return means[targets] * 3 + rng.normal(size=(n, dimensions)) * np.geomspace(0.2, 3, dimensions), targets


def accuracy(kernel, bias, features, targets):
    return ((features @ kernel + bias).argmax(1) == targets).mean()


def test_it_tells_apart_what_can_be_told_apart():
    features, targets = blobs(90)
    kernel, bias = linear_discriminant(features, targets, labels=3)
    assert kernel.shape == (40, 3)
    assert bias.shape == (3,)
    assert accuracy(kernel, bias, *blobs(600, seed=1)) > 0.9


def test_strong_directions_that_say_nothing_do_not_lead_it_astray():
    features, targets = blobs(90)
    nearest = np.stack([features[targets == label].mean(0) for label in range(3)])
    other, truth = blobs(600, seed=1)
    by_distance = (((other[:, np.newaxis] - nearest) ** 2).sum(2).argmin(1) == truth).mean()
    assert accuracy(*linear_discriminant(features, targets, labels=3), other, truth) > by_distance + 0.02


def test_wrong_labels_teach_it_nothing():
    features, targets = blobs(90)
    wrong = np.random.default_rng(0).permutation(targets)
    assert accuracy(*linear_discriminant(features, wrong, labels=3), *blobs(600, seed=1)) < 0.7


def test_its_scores_are_neither_all_sure_nor_all_unsure():
    features, targets = blobs(90)
    kernel, bias = linear_discriminant(features, targets, labels=3)
    scores = softmax(features @ kernel + bias)
    assert 0.6 < scores.max(axis=1).mean() < 0.9999


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_units_do_not_matter(scale):
    features, targets = blobs(90)
    kernel, bias = linear_discriminant(features, targets, labels=3)
    scaled_kernel, scaled_bias = linear_discriminant(features * scale, targets, labels=3)
    assert np.allclose(features @ kernel + bias, features * scale @ scaled_kernel + scaled_bias, atol=1e-2)


def test_a_label_without_photos_and_features_without_life_break_nothing():
    features, targets = blobs(60, labels=2)
    kernel, bias = linear_discriminant(features, targets, labels=3)
    assert np.isfinite(kernel).all()
    assert np.isfinite(bias).all()
    assert accuracy(kernel, bias, features, targets) > 0.9
    kernel, bias = linear_discriminant(np.zeros((6, 4)), np.arange(6) % 2, labels=2)
    assert np.isfinite(kernel).all()
