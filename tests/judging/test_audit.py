"""Figures of an audit stand beside the right rows, with the right bounds; membership is a part of the verdict."""

from dataclasses import replace

import pytest

from srun.judging import verdict as verdicts
from srun.judging.audit import Figure, figures, judged, membership_figures
from srun.judging.records import ERROR_RATE, group_records
from srun.judging.verdict import TOLD
from srun.metrics.forgetting import Interval, one_sided_limit
from srun.metrics.membership import Membership

OF_RETRAIN = (0.50, 0.51, 0.49)


def told(auc, retrains=OF_RETRAIN):
    attack = Membership(auc, auc - 0.5, auc - 0.55, auc - 0.45, retrains, {"tpr_at_0.1": 0.3})
    return {"lira": attack, "rmia": attack}


@pytest.fixture
def group(record, retrains):
    rows = [record("original", 0, 0.40), record("sruga", 0, 0.22), *retrains]
    return group_records(rows)[0]


def row(group, cell):
    return next(record for record in group.records if record.cell == cell)


def test_a_figure_stands_beside_retrains_and_its_own_original(group):
    shown = figures(group, row(group, "sruga-0"), {"sruga-0": {"contexts/a": 1.0}, "original-0": {"contexts/a": 3.0}})
    hit, interval = shown["forget_report/hit_10"], Interval.of([0.20, 0.22, 0.24])
    assert (hit.value, hit.original) == (0.22, 0.40)
    assert (hit.retrain, hit.retrain_low, hit.retrain_high) == pytest.approx(
        (interval.mean, interval.low, interval.high)
    )
    assert hit.low < 0.22 < hit.high
    assert shown["contexts/a"] == Figure(1.0, original=3.0)
    assert not [key for key in shown if "num_" in key or "sampled" in key]


def test_a_retrain_stands_beside_the_others(group):
    assert figures(group, row(group, "retrain-0"), {})["forget_report/hit_10"].retrain == pytest.approx(0.23)


def test_a_figure_that_is_no_number_is_left_out(group):
    shown = figures(group, row(group, "sruga-0"), {"sruga-0": {"contexts/a": float("nan")}})
    assert "contexts/a" not in shown


@pytest.mark.parametrize(("auc", "word"), [(0.51, "passes"), (0.9, "fails")])
def test_membership_is_a_part_of_the_verdict_where_it_was_measured(group, auc, word):
    assert [part.name for part in judged(group, row(group, "sruga-0")).parts] == ["hits", "ranks"]
    audited = replace(group, memberships={"sruga-0": told(auc), "original-0": told(0.95)})
    verdict = judged(audited, row(audited, "sruga-0"))
    part = verdict.parts[-1]
    assert (part.name, part.word) == ("membership", word)
    assert (verdict.word == "fails" and TOLD in verdict.how) == (word == "fails")
    assert "what membership attacks tell" in verdicts.tests_text(audited)
    assert "membership" not in verdicts.tests_text(group)


def test_membership_tells_nothing_where_original_is_not_told_either(group):
    audited = replace(group, memberships={"sruga-0": told(0.51), "original-0": told(0.51)})
    part = judged(audited, row(audited, "sruga-0")).parts[-1]
    assert (part.name, part.word, part.how) == ("membership", "cannot tell", "Original does not fail by it")


def test_limits_share_one_error_rate_with_all_other_tests(group):
    audited = replace(group, memberships={"sruga-0": told(0.7)})
    record = row(audited, "sruga-0")
    assert audited.num_tests(record) == 3 + 2
    assert group.num_tests(row(group, "sruga-0")) == 3
    limit = one_sided_limit(OF_RETRAIN, ERROR_RATE / 5)
    assert audited.told["sruga-0"].limits["lira"] == pytest.approx(limit)
    values = {f"membership/{name}": value for name, value in membership_figures(told(0.7)).items()}
    shown = figures(audited, record, {"sruga-0": values})
    auc, excess = shown["membership/lira_auc"], shown["membership/lira_excess"]
    assert (auc.retrain, auc.retrain_low, auc.retrain_high) == (pytest.approx(0.5), None, pytest.approx(limit))
    assert (excess.value, excess.low, excess.high) == pytest.approx((0.2, 0.15, 0.25))
    assert excess.retrain_high == pytest.approx(limit - 0.5)
    assert shown["membership/rmia_tpr_at_0.1"].value == 0.3
