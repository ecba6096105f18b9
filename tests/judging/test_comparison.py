"""The judgement as numbers: figures over seeds, intervals, curves, what was run; and its file."""

import math
from dataclasses import replace

import pytest

from srun.judging.comparison import compare, judge_groups
from srun.judging.estimates import over_seeds, retrain_band
from srun.judging.judgement import read_judgement, to_json
from srun.judging.records import Trained, group_records

TRAINING = [
    {"epoch": 1.0, "train/loss": 2.0, "validation/ndcg_10": 0.1},
    {"epoch": 2.0, "train/loss": 1.0, "validation/ndcg_10": 0.3},
    {"epoch": 3.0, "train/loss": 0.5, "validation/ndcg_10": 0.2},
]
UNLEARNING = [{"epoch": float(epoch), "forget_tune/hit_10": 0.3 - epoch / 20} for epoch in range(4)]


def group_of(rows, originals=()):
    [group] = group_records(rows, originals)
    return group


def test_mean_and_spread_over_seeds():
    estimate = over_seeds([(0, 0.2), (1, 0.22), (2, 0.24)])
    assert (estimate.mean, estimate.spread) == pytest.approx((0.22, 0.02))
    assert estimate.by_seed == {0: 0.2, 1: 0.22, 2: 0.24}
    assert over_seeds([(4, 0.5)]).spread is None
    assert over_seeds([]) is None


@pytest.mark.parametrize(
    ("values", "lacks"),
    [((1.0, math.inf), "infinite"), ((1.0, math.nan), "undefined"), ((math.inf, math.nan), "undefined")],
)
def test_a_value_that_is_no_number_leaves_no_mean(values, lacks):
    estimate = over_seeds(enumerate(values))
    assert (estimate.mean, estimate.spread, estimate.lacks) == (None, None, lacks)
    assert None in estimate.by_seed.values()


def test_retrains_interval_needs_three_of_them():
    assert retrain_band([0.2, 0.24]) is None
    band = retrain_band([0.20, 0.22, 0.24])
    assert (band.mean, band.bound) == pytest.approx((0.22, 0.0993655), rel=1e-5)
    assert (band.low, band.high) == (band.mean - band.bound, band.mean + band.bound)
    assert retrain_band([0.2, 0.22, math.nan]) is None


def test_a_method_is_numbers_with_names(record, retrains):
    comparison = compare(group_of([*retrains, record("original", 0, 0.5), record("sruga", 0, 0.05)]))
    sruga, retrain = comparison.method("sruga"), comparison.method("retrain")
    assert sruga.figure("forget_report", "hit_10").mean == 0.05
    assert sruga.quality.gap == pytest.approx(-0.17)
    assert sruga.quality.gap_bound == pytest.approx(comparison.interval.bound)
    assert (retrain.quality.gap, retrain.quality.gap_bound) == (0, comparison.interval.bound)
    [row] = sruga.rows
    assert (row.cell, row.verdict.word, row.verdict.how) == ("sruga-0", "fails", "over-unlearning")
    assert [part.name for part in row.verdict.parts] == ["hits", "ranks"]
    assert sruga.over_unlearning
    assert not comparison.method("original").over_unlearning
    assert sruga.cost["speedup"].mean == 1
    assert sruga.utility_of_retrain == pytest.approx(1)
    [point] = sruga.points
    assert (point.suppression, point.utility) == (0.05, 0.1)
    assert (comparison.splits["test"].num_users, comparison.splits["test"].num_events) == (20, 100)
    assert "empty" not in comparison.splits
    assert comparison.method("sisa") is None


def test_training_keeps_its_best_epoch_and_unlearning_its_last(record, retrains):
    original = Trained("sasrec-0", {"seed": 0, "cost": {"target_gradients": 1.0}}, history=TRAINING)
    sharded = Trained("sasrec-0", original.info, history=[{**row, "shard": 0.0} for row in TRAINING])
    rows = [*retrains, record("sruga", history=UNLEARNING)]
    trained, unlearned = compare(group_of(rows, [original])).curves
    assert (trained.from_scratch, trained.series["validation/ndcg_10"].kept) == (True, 1)
    series = unlearned.series["forget_tune/hit_10"]
    assert (unlearned.from_scratch, series.kept, series.epochs) == (False, 3, (0, 1, 2, 3))
    assert [curve.method for curve in compare(group_of(rows, [sharded])).curves] == ["sruga"]


def test_machines_are_named_once_and_users_only_counted(record, retrains):
    other = {**retrains[0].machine, "threads": "8"}
    request = {**retrains[0].partition["request"], "users": 2}
    rows = [replace(row, partition={**row.partition, "request": request}) for row in [*retrains, record("sruga")]]
    facts = judge_groups([group_of([*rows[:-1], replace(rows[-1], machine=other)])], [""]).facts
    assert sorted(machine["threads"] for machine in facts.machines) == ["2", "8"]
    assert facts.requests["r"]["users"] == 2
    assert facts.requests["r"]["num_forget"] == 300


@pytest.mark.parametrize("kind", ["interactions", "category"])
def test_the_file_is_read_back_as_it_was(record, tmp_path, kind):
    curves = {"original": [0.5, 0.5], "retrain": [0.1, 0.1], "sruga": [0.1, 0.2]}
    rows = [
        record(name, kind=kind, history=UNLEARNING, relearning={"returned": {"steps": [0, 1], "hit_10": curve}})
        for name, curve in curves.items()
    ]
    original = Trained("sasrec-0", {"seed": 0, "cost": {"target_gradients": 1.0}}, history=TRAINING)
    judgement = judge_groups([group_of(rows, [original])], ["srun run"], ["cell x: none"])
    file = tmp_path / "judgement.json"
    file.write_text(to_json(judgement))
    assert read_judgement(file) == judgement
    assert judgement.comparisons[0].method("sruga").figure("relearning", "returned_steps").lacks == "infinite"
    assert judgement.comparisons[0].method("sruga").figure("forget_report", "mrr").lacks == "undefined"
