import csv
import io
from dataclasses import replace

import pytest

from srun.errors import DataError
from srun.judging.records import group_records
from srun.judging.results import Row, audit_rows, check_keys, long_form, to_csv

COLUMNS = ["dataset", "model", "method", "seed", "split", "category", "metric", "value", "request", "partition_seed"]


def table(records):
    return list(csv.DictReader(io.StringIO(to_csv(long_form(group_records(records))))))


def figure(rows, method, split, metric, seed="0"):
    values = [
        r["value"] for r in rows if (r["method"], r["split"], r["metric"], r["seed"]) == (method, split, metric, seed)
    ]
    assert len(values) <= 1
    return float(values[0]) if values else None


def test_columns_and_values(record, retrains):
    rows = table([*retrains, record("sruga", 0, 0.05)])
    assert list(rows[0]) == COLUMNS
    assert {row["request"] for row in rows} == {"r"}
    assert {row["partition_seed"] for row in rows} == {"7"}
    assert {row["category"] for row in rows} == {""}
    assert figure(rows, "sruga", "forget_report", "hit_10") == 0.05
    assert figure(rows, "sruga", "forget_report", "hit_10_gap") == pytest.approx(-0.17)
    assert figure(rows, "sruga", "forget_report", "hit_10_gap_bound") == pytest.approx(0.0993655, rel=1e-5)
    assert figure(rows, "sruga", "forget_report", "over_unlearning") == 1
    assert figure(rows, "retrain", "forget_report", "over_unlearning", "1") is None  # of three each has two others
    assert figure(rows, "retrain", "forget_report", "not_judged", "1") == 1


def test_figures_without_a_value_are_left_out(record, retrains):
    rows = table([*retrains, record("sruga", 0, 0.05)])
    assert figure(rows, "sruga", "forget_report", "mrr") is None  # NaN in the record
    assert all(row["value"] not in ("", "nan", "inf") for row in rows)


def test_speedups_are_the_retrains_mean_over_the_rows_own(record, retrains):
    slow = replace(retrains[2], measured={**retrains[2].measured, "processor_seconds": 40.0})
    counts = {**retrains[0].counts, "target_gradients": 250.0}
    sruga = record(
        "sruga", 0, 0.05, measured={**retrains[0].measured, "seconds": 5.0, "processor_seconds": 4.0}, counts=counts
    )
    rows = table([*retrains[:2], slow, sruga])
    assert figure(rows, "sruga", "cost", "speedup") == 5.0  # of the processor: (10 + 10 + 40) / 3 / 4
    assert figure(rows, "sruga", "cost", "speedup_clock") == 2.5
    assert figure(rows, "sruga", "cost", "speedup_target_gradients") == 4.0
    assert figure(rows, "retrain", "cost", "speedup", "2") == 0.5


def test_nothing_measured_means_no_rows_rather_than_zero(record, retrains):
    rows = table([*retrains, record("sruga", 0, 0.05, measured=None, machine=None)])
    assert figure(rows, "sruga", "cost", "seconds") is None
    assert figure(rows, "sruga", "cost", "speedup") is None
    assert figure(rows, "sruga", "cost", "speedup_target_gradients") == 1.0
    assert figure(rows, "sruga", "cost", "steps") == 100


def test_seconds_of_another_machine_are_not_compared(record, retrains):
    other = {**retrains[0].machine, "threads": "8"}
    rows = table([*retrains, record("sruga", 0, 0.05, machine=other)])
    assert figure(rows, "sruga", "cost", "seconds") == 12.5
    assert figure(rows, "sruga", "cost", "speedup") is None
    assert figure(rows, "sruga", "cost", "speedup_clock") is None


def test_a_run_that_did_not_measure_the_processor_has_no_headline_but_its_clock(record, retrains):
    old = {name: value for name, value in retrains[0].measured.items() if name != "processor_seconds"}
    rows = table([*retrains, record("sruga", 0, 0.05, measured=old)])
    assert figure(rows, "sruga", "cost", "processor_seconds") is None
    assert figure(rows, "sruga", "cost", "speedup") is None
    assert figure(rows, "sruga", "cost", "speedup_clock") == 1.0
    rows = table([replace(retrain, measured=old) for retrain in retrains] + [record("sruga", 0, 0.05)])
    assert figure(rows, "sruga", "cost", "speedup") is None


def test_no_computation_has_no_speedup(record, retrains):
    nothing = {"counts": {"target_gradients": 0.0}, "measured": {"seconds": 0.0, "processor_seconds": 0.0}}
    rows = table([*retrains, record("output_mask", 0, 0.0, **nothing)])
    assert figure(rows, "output_mask", "cost", "seconds") == 0
    assert figure(rows, "output_mask", "cost", "speedup") is None
    assert figure(rows, "output_mask", "cost", "speedup_target_gradients") is None


def test_categories_are_joined_and_have_no_gap(record):
    rows = table([record("retrain", seed, kind="category") for seed in range(3)])
    assert {row["category"] for row in rows} == {"War|Film-Noir"}
    assert not any(row["metric"].startswith("hit_10_gap") for row in rows)


def test_two_cells_that_claim_one_row_are_an_error(record, retrains):
    twice = [record("sruga", 0, 0.05), record("sruga", 0, 0.06, original="sasrec-other")]
    with pytest.raises(DataError, match=r"two of them give .* of sruga sasrec-0 on request \"r\""):
        long_form(group_records([*retrains, *twice]))


def test_numbers_are_whole_or_have_six_digits():
    row = Row("d", "m", "x", 0, "cost", "", "steps", 3892416.0, "r", 0)
    lines = to_csv([row, row._replace(metric="seconds", value=12.3456789)]).splitlines()
    assert lines[1:] == ["d,m,x,0,cost,,steps,3892416,r,0", "d,m,x,0,cost,,seconds,12.3457,r,0"]


def test_figures_of_an_audit_have_keys_of_their_own(record, retrains):
    row = record("sruga", 0, 0.05)
    figure = {"value": 0.5, "low": 0.4, "high": 0.6, "retrain": 0.5, "retrain_low": None, "retrain_high": 0.7}
    audit = {
        "verdict": {"word": "cannot tell"},
        "figures": {"forget_report/hit_10": figure, "membership/lira_auc": {**figure, "original": 0.9}},
    }
    rows = [*long_form(group_records([*retrains, row])), *audit_rows(row, audit)]
    check_keys(rows)
    values = {one.metric: one.value for one in rows if one.split == "audit"}
    assert values["membership/lira_auc"] == 0.5
    assert values["membership/lira_auc_low"] == 0.4
    assert values["membership/lira_auc_retrain_high"] == 0.7
    assert values["membership/lira_auc_original"] == 0.9
    assert "membership/lira_auc_retrain_low" not in values
    assert [values[word] for word in ("passes", "fails", "cannot_tell", "not_judged")] == [0, 0, 1, 0]
    with pytest.raises(DataError, match="two of them give audit/"):
        check_keys([*rows, *audit_rows(row, audit)])
