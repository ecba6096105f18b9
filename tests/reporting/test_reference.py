import math

import pytest

from srun.metrics.forgetting import prediction_bound
from srun.reporting.records import Group
from srun.reporting.reference import Gap, forget_gap, gap_to

T_TWO, T_ONE = 4.302653, 12.706205  # t(.975) with 2 and 1 degrees of freedom, from a printed table


def test_bound_is_t_times_spread_times_root_of_one_plus_one_over_n():
    assert prediction_bound([0.20, 0.22, 0.24]) == pytest.approx(T_TWO * 0.02 * math.sqrt(4 / 3), rel=1e-6)


def test_one_retrain_has_no_interval():
    assert math.isnan(prediction_bound([0.2]))
    assert gap_to([0.2], 0.1) is None


@pytest.mark.parametrize(("value", "place"), [(-0.11, "below"), (-0.1, "within"), (0.1, "within"), (0.11, "above")])
def test_the_edge_of_the_interval_is_within(value, place):
    assert Gap(value, 0.1).place == place


def test_a_method_is_compared_with_all_retrains_and_a_retrain_with_the_others(record, retrains):
    sruga = record("sruga", 0, 0.05)
    group = Group("sasrec", "r", (*retrains, sruga))
    gap = forget_gap(group, sruga)
    assert gap is not None
    assert gap.value == pytest.approx(-0.17)
    assert gap.bound == pytest.approx(T_TWO * 0.02 * math.sqrt(4 / 3), rel=1e-6)
    own = forget_gap(group, retrains[2])  # 0.24 beside 0.20 and 0.22
    assert own is not None
    assert own.value == pytest.approx(0.03)
    assert own.bound == pytest.approx(T_ONE * 0.02 / math.sqrt(2) * math.sqrt(1.5), rel=1e-6)


def test_two_retrains_judge_a_method_but_not_each_other(record, retrains):
    sruga = record("sruga", 0, 0.05)
    group = Group("sasrec", "r", (*retrains[:2], sruga))
    assert forget_gap(group, sruga) is not None
    assert forget_gap(group, retrains[0]) is None


def test_a_category_has_no_forget_gap(record):
    rows = [record("retrain", seed, 0.2, kind="category") for seed in range(3)]
    sruga = record("sruga", 0, 0.05, kind="category")
    assert forget_gap(Group("sasrec", "r", (*rows, sruga)), sruga) is None
