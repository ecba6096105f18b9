"""What a category request is judged by: removal, what is kept, linear probe and relearning, by hand."""

import math

import numpy as np
import pytest

from srun.judging.comparison import compare, judge_groups
from srun.judging.records import LinearProbeScores, group_records
from srun.judging.results import long_form
from srun.reporting.summary import tabulate, write_summary
from srun.reporting.texts import INVALID, OVER_CAP

SIZES = {"num_users": 20.0, "num_events": 40.0}
INSIDE = np.array([True, False] * 30)
USERS = np.arange(60)


def linear_probe(noise: float) -> LinearProbeScores:
    """Scores that say the category, the less so the noisier."""
    return LinearProbeScores(USERS, INSIDE + noise * np.random.default_rng(0).normal(size=60), INSIDE)


def row(record, method, inside, lists, outside, auc, curve, noise=0.0, seed=0):
    metrics = {
        "in_category": {**SIZES, "hit_10": inside, "category_items_10": lists},
        "out_of_category": {**SIZES, "hit_10": outside, "ndcg_10": outside / 2},
        "all_targets": {**SIZES, "linear_probe_auc": auc},
    }
    relearning = {"returned": {"steps": [0, 10, 20], "hit_10": curve}, "retain": {"steps": [0, 5], "hit_10": curve[:2]}}
    return record(
        method, seed, kind="category", metrics=metrics, linear_probe=linear_probe(noise), relearning=relearning
    )


@pytest.fixture
def group(record):
    [found] = group_records(
        [
            row(record, "original", 0.20, 4.0, 0.10, 0.8, [0.5, 0.5, 0.5]),
            row(record, "retrain", 0.00, 0.0, 0.12, 0.6, [0.0, 0.1, 0.2], noise=5.0, seed=0),
            row(record, "retrain", 0.00, 0.0, 0.08, 0.5, [0.1, 0.1, 0.2], noise=5.0, seed=1),
            row(record, "output_mask", 0.00, 0.0, 0.11, 0.8, [0.5, 0.5, 0.5]),
            row(record, "attribution", 0.15, 3.0, 0.09, 0.7, [0.1, 0.2, 0.3]),
            row(record, "attribution_plus", 0.01, 0.1, 0.12, 0.55, [0.0, 0.1, 0.1], noise=5.0),
        ]
    )
    return found


def value(group, method, split, metric):
    return group.of(method)[0].value(split, metric)


def test_removal_and_what_is_kept(group):
    assert value(group, "original", "in_category", "removal_rate_10") == 0
    assert value(group, "attribution", "in_category", "removal_rate_10") == pytest.approx(0.25)
    assert value(group, "attribution", "in_category", "list_removal_rate_10") == pytest.approx(0.25)
    assert value(group, "attribution_plus", "in_category", "removal_rate_10") == pytest.approx(0.95)
    assert value(group, "attribution", "out_of_category", "hit_10_kept") == pytest.approx(0.9)
    assert value(group, "attribution", "out_of_category", "ndcg_10_kept") == pytest.approx(0.9)
    assert value(group, "attribution_plus", "out_of_category", "hit_10_of_retrain") == pytest.approx(1.2)


def test_the_linear_probe_beside_retrain_and_the_mask(group):
    assert value(group, "attribution_plus", "all_targets", "linear_probe_auc_gap") == pytest.approx(0.0)
    assert value(group, "output_mask", "all_targets", "linear_probe_auc_gap") == pytest.approx(0.25)
    low = value(group, "attribution_plus", "all_targets", "linear_probe_nearer_low")
    assert value(group, "attribution_plus", "all_targets", "linear_probe_nearer") > low > 0
    assert value(group, "attribution", "all_targets", "linear_probe_nearer") == 0, (
        "its linear probe is as good as the mask's"
    )
    assert value(group, "output_mask", "all_targets", "linear_probe_nearer") is None


def test_relearning_to_half_of_the_lead(group):
    """The threshold is .05 + .45 / 2 = .275, either way."""
    assert value(group, "attribution", "relearning", "returned_threshold") == pytest.approx(0.275)
    assert value(group, "output_mask", "relearning", "returned_steps") == 0
    assert value(group, "attribution", "relearning", "returned_steps") == 20
    assert value(group, "attribution", "relearning", "returned_valid") == 1
    assert value(group, "attribution", "relearning", "retain_steps") == math.inf
    assert value(group, "attribution", "relearning", "retain_cap") == 5
    assert value(group, "attribution_plus", "relearning", "returned_steps") == math.inf
    assert value(group, "attribution_plus", "relearning", "returned_reached") == 0
    assert value(group, "retrain", "relearning", "returned_steps") == math.inf


@pytest.mark.parametrize(
    ("original", "retrain"),
    [([0.5, 0.2, 0.5], [0.1, 0.1, 0.1]), ([0.1, 0.5, 0.5], [0.1, 0.1, 0.1])],
    ids=["falls", "no lead"],
)
def test_relearning_says_nothing_where_original_fails_or_has_no_lead(record, original, retrain):
    """Original at .2 is below the threshold of .3 on the way; where it starts where Retrain does it has no lead."""
    asked = ("original", original), ("retrain", retrain), ("attribution", [0.1, 0.5, 0.5])
    [group] = group_records([row(record, name, 0.1, 1.0, 0.1, 0.5, curve) for name, curve in asked])
    for name, _ in asked:
        assert value(group, name, "relearning", "returned_valid") == 0
        below = 10 if original[0] == 0.5 else math.inf
        assert value(group, name, "relearning", "returned_original_below_at") == below
        assert math.isnan(value(group, name, "relearning", "returned_steps"))
        assert value(group, name, "relearning", "returned_reached") is None
    keys = {(row.split, row.metric) for row in long_form([group])}
    assert ("relearning", "returned_valid") in keys
    assert ("relearning", "returned_steps") not in keys
    table = tabulate(compare(group))
    assert {dict(zip(table.header, line.cells, strict=True))["Relearning steps"] for line in table.lines} == {INVALID}


def test_relearning_of_other_kinds_of_request(record):
    """Events of users, not of a category: the same figures, and their columns where they were measured only."""
    curves = {"original": [0.5, 0.5], "retrain": [0.1, 0.1], "sruga": [0.1, 0.3]}
    rows = [record(name, relearning={"returned": {"steps": [0, 1], "hit_10": curve}}) for name, curve in curves.items()]
    [group] = group_records(rows)
    assert value(group, "sruga", "relearning", "returned_steps") == 1
    assert value(group, "sruga", "relearning", "retain_steps") is None
    assert "Relearning steps" in tabulate(compare(group)).header
    [without] = group_records([record("original"), record("retrain")])
    assert "Relearning steps" not in tabulate(compare(without)).header


def test_the_tables_show_it(group):
    keys = {(row.method, row.split, row.metric) for row in long_form([group])}
    assert ("attribution_plus", "in_category", "removal_rate_10") in keys
    assert ("attribution_plus", "relearning", "returned_reached") in keys
    assert ("attribution_plus", "relearning", "returned_steps") not in keys, "an infinite value is no figure"
    assert ("attribution_plus", "cost", "speedup") in keys
    table = tabulate(compare(group))
    lines = {line.method: dict(zip(table.header, line.cells, strict=True)) for line in table.lines}
    assert lines["attribution_plus"]["Removal rate"] == "0.950"
    assert lines["attribution_plus"]["Relearning steps"] == OVER_CAP
    assert lines["output_mask"]["Relearning steps"] == "0"
    assert lines["retrain"]["Of Retrain's Hit@10"].startswith("1.000")
    assert f"| {OVER_CAP} |" in write_summary(judge_groups([group], [""]))


def test_without_original_there_is_no_removal_rate(record):
    [group] = group_records([row(record, "retrain", 0.1, 1.0, 0.1, 0.5, [0.0, 0.0, 0.0])])
    assert value(group, "retrain", "in_category", "removal_rate_10") is None
    assert value(group, "retrain", "out_of_category", "hit_10_of_retrain") == 1
