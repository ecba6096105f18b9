"""Figures of an audit stand beside the right rows, with the right bounds; membership is a part of the verdict."""

import math
from dataclasses import replace
from typing import get_args

import pytest

from srun.judging import verdict as verdicts
from srun.judging.audit import (
    ASKS,
    REMEMBERED_BY,
    Figure,
    answers,
    figures,
    judged,
    membership_figures,
    most_beyond,
    plain,
    relearned,
    relearning_of,
)
from srun.judging.records import ERROR_RATE, group_records
from srun.judging.verdict import OVER, TOLD, Part, Verdict
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


def test_every_part_of_a_verdict_has_its_question_and_its_meaning():
    assert set(ASKS) == set(REMEMBERED_BY) == set(get_args(verdicts.Name))


def test_answers_name_the_figure_that_stands_out_most():
    shown = {
        "recovered/own_hit_10": Figure(0.2, retrain_high=0.3),
        "recovered/ridge_hit_10": Figure(0.1, retrain_high=0.05),
        "membership/lira_auc": Figure(0.5, retrain_high=0.6),
        "membership/lira_excess": Figure(0.9, retrain_high=0.0),
    }
    parts = (Part("file", "fails", "how"), Part("membership", "passes"), Part("events", "passes"))
    file, told, events = answers(Verdict("fails", parts=parts), shown)
    assert (file.figure, file.word, file.how) == ("recovered/ridge_hit_10", "fails", "how")
    assert (told.figure, events.figure) == ("membership/lira_auc", "")
    assert most_beyond({}, "recovered") == ""


def test_the_plain_sentence_says_what_failed():
    parts = (Part("hits", "fails", OVER), Part("file", "fails", "x"), Part("events", "passes"))
    said = plain(Verdict("fails", parts=parts))
    assert "avoided" in said
    assert "bring forgotten events back" in said
    assert "single events" not in said
    assert plain(Verdict("not judged", "no Retrain")) == "Not judged: no Retrain."
    assert plain(Verdict("passes")).startswith("Forgotten, as far as")
    assert "cannot tell" in plain(Verdict("cannot tell"))


def test_ranks_and_single_events_have_their_limits_and_intervals(group):
    shown = figures(group, row(group, "sruga-0"), {})
    ks = shown["forget_report/ks_d"]
    quality = group.qualities["sruga-0"]
    assert (ks.value, ks.retrain_high, ks.low) == (quality.ks_d, quality.ks_d_retrain_max, None)
    measured = {"sruga-0": {"contexts/a": 1.0, "contexts/b": 2.0}}
    bounded = figures(group, row(group, "sruga-0"), measured, {"contexts/a": (0.5, 1.5), "contexts/b": (math.nan,) * 2})
    assert (bounded["contexts/a"].low, bounded["contexts/a"].high) == (0.5, 1.5)
    assert bounded["contexts/b"].low is None


def curve(record, cell, *hits):
    return replace(
        record(cell, 0, 0.1), cell=cell, relearning={"retain": {"steps": [0, 1, 2, 3], "hit_10": list(hits)}}
    )


@pytest.mark.parametrize(
    ("hits", "steps", "sooner"), [((0.1, 0.3, 0.3, 0.3), 1, 1), ((0.1, 0.1, 0.3, 0.3), 2, 0), ((0.1,) * 4, math.inf, 0)]
)
def test_relearning_is_held_against_what_each_retrain_needs(record, hits, steps, sooner):
    original = curve(record, "original", 0.4, 0.4, 0.4, 0.4)
    retrains = [curve(record, "retrain", 0.1, 0.1, 0.25, 0.3), curve(record, "retrain", 0.1, 0.1, 0.1, 0.1)]
    retrains = [replace(one, cell=f"retrain-{number}") for number, one in enumerate(retrains)]
    model = curve(record, "sruga", *hits)
    values = relearned("retain", model, original, retrains)
    assert (values["retain_steps"], values["retain_sooner"]) == (steps, sooner)
    shown = relearning_of("retain", model, original, retrains)
    assert shown.valid
    assert shown.threshold == pytest.approx(0.25)
    assert shown.steps == {"sruga": steps, "retrain-0": 2, "retrain-1": math.inf}
    assert set(shown.curves) == {"sruga", "original", "retrain-0", "retrain-1"}


def test_training_that_does_not_keep_original_tells_nothing(record):
    original = curve(record, "original", 0.4, 0.1, 0.1, 0.1)
    retrains = [curve(record, "retrain", 0.1, 0.1, 0.3, 0.3)]
    values = relearned("retain", curve(record, "sruga", 0.1, 0.3, 0.3, 0.3), original, retrains)
    assert values["retain_valid"] == 0
    assert "retain_sooner" not in values


def test_steps_beyond_the_cap_have_no_mean(group):
    measured = {
        f"retrain-{seed}": {"relearning/retain_steps": steps} for seed, steps in enumerate((1.0, 2.0, math.inf))
    }
    shown = figures(group, row(group, "sruga-0"), measured | {"sruga-0": {"relearning/retain_steps": 1.0}})
    assert shown["relearning/retain_steps"] == Figure(1.0)
