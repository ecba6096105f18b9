"""Controls of a choice of neurons, by hand."""

import math

import numpy as np
import pytest
import torch

from srun.evaluation.ranking import RankingTask
from srun.metrics.ranking import hit, hits
from srun.models.scorer import Scorer, clone_model
from srun.papers.attribution.controls import Draw, Tasks, compare, dose_at_loss, measure
from srun.unlearning.attribution.neurons import Edit, Neuron, as_edits, edited
from srun.unlearning.attribution.plus import largest_dose


def test_compare_by_hand():
    before = np.array([1.0, 1.0, 1.0, 1.0, 0.0])
    chosen = Draw(2, np.array([0.0, 0.0, 1.0, 1.0, 0.0]), 0.9)  # removes a half
    controls = [Draw(2, before, 1.0), Draw(4, np.array([1.0, 1.0, 1.0, 0.0, 0.0]), 0.8)]  # none, a quarter
    figures = compare(chosen, controls, before, np.arange(5), 0)
    assert figures["removal_rate_10"] == pytest.approx(0.125)
    assert figures["num_neurons"] == 3
    assert figures["hit_10_kept"] == pytest.approx(0.9)
    assert figures["advantage"] == pytest.approx(0.375)
    assert figures["advantage_low"] <= 0.375 <= figures["advantage_high"]
    half = 1.96 * math.sqrt(2 * 0.125**2) / math.sqrt(2)
    assert figures["removal_rate_10_high"] - figures["removal_rate_10_low"] == pytest.approx(2 * half)
    same = compare(chosen, [chosen] * 3, before, np.arange(5), 0)
    assert same["advantage"] == same["advantage_low"] == same["advantage_high"] == 0


def test_measure_and_the_dose_of_a_loss(worlds):
    world = worlds["category", False]
    model, split = clone_model(world.original.model).eval(), world.request
    model.neuron_blocks[0].outer.weight.data *= 20  # so that every neuron matters

    def task(name):
        return RankingTask.make(split.queries(name), world.data.max_length, torch.device("cpu"), 64)

    outside = task("out_of_category_tune")
    tasks = Tasks(task("in_category"), outside, outside)
    before = hit(tasks.outside.ranks(Scorer([model])).rank, 10)
    draw = measure(model, [Edit(0, 3, 0.0)], tasks, before)
    with edited(model, [Edit(0, 3, 0.0)]):
        assert draw.inside.tolist() == hits(tasks.inside.ranks(Scorer([model])).rank, 10).tolist()
        assert draw.kept == hit(tasks.outside.ranks(Scorer([model])).rank, 10) / before
    order = [Neuron(0, unit) for unit in range(8)]

    def level(dose):
        with edited(model, as_edits(order[:dose], 0.0)):
            return hit(tasks.choose.ranks(Scorer([model])).rank, 10)

    levels = [level(dose) for dose in range(9)]
    assert dose_at_loss(model, order, 0.0, -1.0, tasks.choose) == 8, "every dose is within"
    assert dose_at_loss(model, order, 0.0, max(levels) + 0.01, tasks.choose) == 0, "no dose is"
    assert len(set(levels)) > 1
    for bound in set(levels):
        dose = dose_at_loss(model, order, 0.0, bound, tasks.choose)
        assert dose == 0 or levels[dose] >= bound
        assert dose == 8 or levels[dose + 1] < bound, "one more would be too many"


@pytest.mark.parametrize("limit", range(13))
def test_the_largest_dose_within_a_bound(limit):
    assert largest_dose(12, lambda dose: dose <= limit) == limit
    assert largest_dose(0, lambda dose: False) == 0


def test_a_larger_dose_is_found_behind_one_that_is_too_many():
    """Bisection alone would end at 2: 6 of 12 are too many."""
    assert largest_dose(12, lambda dose: dose <= 2 or dose in (8, 9, 10)) == 10
    tried = []
    largest_dose(512, lambda dose: bool(tried.append(dose)))
    assert len(tried) <= 20


def test_nothing_can_be_removed_where_nothing_was_hit():
    draw = Draw(inside=np.zeros(4), kept=1.0, num_neurons=2)
    figures = compare(draw, [draw, draw], np.zeros(4), np.arange(4), 0)
    assert math.isnan(figures["removal_rate_10"])
    assert math.isnan(figures["advantage"])
    assert figures["hit_10_kept"] == 1.0
