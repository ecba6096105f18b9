"""Relearning: what comes back is not what is asked, masks are lifted, and the model that is judged stays as it is."""

import math

import numpy as np
import pytest

from srun.config import build
from srun.evaluation.relearning import Relearning, RelearningConfig, relearn, split_events
from srun.metrics.ranking import hit
from srun.models.scorer import Scorer
from srun.training.fit import TrainConfig


@pytest.fixture(scope="module")
def world(worlds):
    return worlds["category", False]


def settings(**changes):
    return RelearningConfig(**{"share": 0.3, "max_steps": 4, "evaluate_every": 2, "max_queries": 50, **changes})


def run(world, scorer, **changes):
    recipe = build(TrainConfig, world.original.info["train"], "train")
    return relearn(scorer, world.request, recipe, settings(**changes), 0, scorer.device, 64)


def test_what_comes_back_is_not_what_is_asked(world):
    returned, asked = split_events(world.request, settings(), 0)
    report = world.request.queries("forget_report")
    assert returned.sum() == round(0.3 * len(report))
    assert set(np.flatnonzero(returned)) <= set(report.event)
    assert not set(np.flatnonzero(returned)) & set(asked.event)
    assert len(asked) == min(50, len(report) - returned.sum())


def test_the_first_look_is_the_model_itself_without_masks(world, small, tmp_path):
    masked = world.run("output_mask", tmp_path).scorer
    before = small.weight_bytes(masked)
    one, two = run(world, world.original.scorer), run(world, masked)
    assert one == two
    assert one.steps == (0, 2, 4)
    _, asked = split_events(world.request, settings(), 0)
    assert one.hit_10[0] == hit(world.probe().ranks(Scorer(masked.models), asked), 10)
    assert small.weight_bytes(masked) == before


def test_training_brings_events_back(world):
    curve = run(world, world.original.scorer, max_steps=60, evaluate_every=60, share=0.7)
    assert curve.hit_10[-1] > curve.hit_10[0]


def test_it_can_be_left_out(world):
    assert run(world, world.original.scorer, max_steps=0) is None
    assert run(world, Scorer([world.original.model] * 2)) is None


def test_steps_to_a_level():
    curve = Relearning((0, 10, 20), (0.1, 0.3, 0.2))
    assert [curve.steps_to(level) for level in (0.1, 0.2, 0.31)] == [0, 10, math.inf]
