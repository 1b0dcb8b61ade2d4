from __future__ import annotations

import json

import numpy as np

from pawlatch.card import InputSpec, ModelCard
from pawlatch_convert.compare import Outputs, Scored
from pawlatch_convert.points import operating_point

NIGHT = {"threshold": 0.9, "temperature": 1.2, "false_unlocks": 1, "sentence": "by infra-red light the door opens from 0.9 on"}
CARD = ModelCard("pets", ("cat", "_other"), InputSpec((32, 32)), unlock=("cat",),
                 operating_points={"saved_model": {"threshold": 0.8, "infrared": NIGHT}})


def point(step):
    scores = np.array([[0.9, 0.1], [0.1, 0.9]], np.float32)
    outputs = Outputs(scores, np.ones((2, 4), np.float32))
    scored = Scored(("a", "b"), ("cat", "_other"), np.ones(2, bool), outputs, {"int8": outputs}, {})
    return operating_point(scored, "int8", CARD, step=step)


def test_a_variant_takes_over_the_night_on_the_grid_of_its_scores():
    night = point(1 / 256)["infrared"]
    assert night["threshold"] == 231 / 256 > 0.9
    assert (night["temperature"], night["false_unlocks"], night["counted_by"]) == (1.2, 1, "saved_model")
    assert point(None)["infrared"]["threshold"] == 0.9
    assert json.loads(json.dumps(point(None))) == point(None)
    assert "by infra-red light the door opens from 0.9 on (the SavedModel's)" in point(None)["sentences"]
