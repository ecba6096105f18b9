from dataclasses import replace

import pytest

from srun.reporting.page import what_was_run
from srun.reporting.records import group_records
from srun.reporting.summary import compare, markdown_table, overview, verdict, write_summary


def only(records):
    (group,) = group_records(records)
    return group


def cells(comparison, method):
    (line,) = [line for line in comparison.lines if line.method == method]
    return dict(zip(comparison.header, line.cells, strict=True))


def test_retrain_has_mean_and_spread_and_methods_their_gap(record, retrains):
    comparison = compare(only([*retrains, record("sruga", 0, 0.05)]))
    assert cells(comparison, "retrain")["Forget Hit@10"] == "0.2200 ± 0.0200"
    assert cells(comparison, "retrain")["Seeds"] == "0–2"
    assert cells(comparison, "sruga")["Gap to Retrain"] == "-0.1700 (± 0.0994)"
    assert cells(comparison, "sruga")["Speed-up, seconds"] == "1.0×"
    assert "forget_report: 20 users, 150 events" in comparison.sizes


@pytest.mark.parametrize(
    ("method", "hit", "words"),
    [
        ("sruga", 0.05, "over-unlearning"),
        ("sruga", 0.21, "within Retrain's interval"),
        ("sruga", 0.40, "under-unlearning"),
        ("original", 0.40, "nothing removed; above Retrain's interval"),
        ("original", 0.21, "nothing removed; yet within Retrain's interval"),
        ("output_mask", 0.0, "control: hides, does not unlearn"),
        ("finetune_only", 0.40, "control: under-unlearning"),
        ("retrain", 0.22, "the reference"),
        ("my_method", 0.05, "over-unlearning"),
    ],
)
def test_verdicts(record, retrains, method, hit, words):
    assert verdict(only([*retrains, record(method, 9, hit)]), method) == words


def test_a_verdict_of_several_seeds_counts_them(record, retrains):
    rows = [record("sruga", seed, hit) for seed, hit in enumerate((0.05, 0.06, 0.21))]
    words = verdict(only([*retrains, *rows]), "sruga")
    assert words == "over-unlearning in 2 of 3 seeds, within Retrain's interval in 1 of 3 seeds"


def test_several_comparisons_say_at_the_top_where_over_unlearning_occurs(record, retrains):
    rows = [*retrains, record("sruga", 0, 0.05), record("output_mask", 0, 0.0)]
    rows += [replace(row, model="gru4rec") for row in [*retrains, record("sruga", 0, 0.21)]]
    comparisons = [compare(group) for group in group_records(rows)]
    assert overview(comparisons) == "Over-unlearning, in at least one seed: SRUGA on SASRec, request “r”."
    assert "none of the methods" in overview(comparisons[1:] * 2)
    assert overview(comparisons[:1]) == ""
    assert overview(comparisons) in write_summary(comparisons, {})


def test_one_retrain_gives_no_verdict(record, retrains):
    comparison = compare(only([retrains[0], record("sruga", 0, 0.05)]))
    assert cells(comparison, "sruga")["Verdict"] == "no verdict: needs two Retrains"
    assert "Gap to Retrain" not in comparison.header
    assert "no interval" in comparison.plain[0]


def test_a_retrain_that_the_rule_would_not_take_for_one_is_named(record):
    hits = (0.20, 0.201, 0.202, 0.9)
    group = only([record("retrain", seed, hit) for seed, hit in enumerate(hits)])
    assert verdict(group, "retrain") == "the reference; seed 3 lies outside the interval of the others"


def test_plain_words_name_over_unlearning_and_what_original_says_about_the_data(record, retrains):
    rows = [*retrains, record("sruga", 0, 0.05), record("original", 0, 0.22), record("output_mask", 0, 0.0)]
    text = " ".join(compare(only(rows)).plain)
    assert "SRUGA ranks 5.0% of them there: over-unlearning (forgotten items rank lower than if" in text
    assert "test NDCG@10 is 100% of Retrain's" in text
    assert "Original, from which nothing was removed, ranks 22.0% of them there, which is not above" in text
    assert "mask's 0 is no success" in text


def test_an_original_above_the_interval_needs_no_caveat(record, retrains):
    text = " ".join(compare(only([*retrains, record("original", 0, 0.6)])).plain)
    assert "Original" not in text


def test_what_was_not_measured_is_said(record, retrains):
    rows = [replace(row, measured=None, machine=None) for row in retrains]
    comparison = compare(only([*rows, record("sruga", 0, 0.05, measured=None, machine=None)]))
    assert cells(comparison, "sruga")["Seconds"] == "not measured here"
    assert cells(comparison, "sruga")["Speed-up, seconds"] == "–"
    assert what_was_run([only(rows)])["Machine"] == "not measured here"


def test_named_users_are_counted(record):
    rows = [record("retrain", seed, kind="category") for seed in range(2)]
    request = {**rows[0].partition["request"], "users": 2}
    rows = [replace(row, partition={**row.partition, "request": request}) for row in rows]
    group = only(rows)
    text = write_summary([compare(group)], what_was_run([group]))
    assert "users 2 named" in text


def test_names_cannot_break_the_table():
    assert markdown_table(["Method", "a|b"], [["<b>", "x\ny"]]) == [
        "| Method | a\\|b |",
        "| --- | ---: |",
        "| &lt;b> | x y |",
    ]
