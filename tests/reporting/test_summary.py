from dataclasses import replace

import pytest

from srun.judging.comparison import compare, judge_groups
from srun.judging.records import group_records
from srun.judging.verdict import words
from srun.reporting.summary import headlines, tabulate, what_was_run, write_summary
from srun.reporting.texts import markdown_table


def only(records):
    (group,) = group_records(records)
    return group


def table_of(records, to_judge=""):
    return tabulate(compare(only(records), to_judge))


def cells(table, method):
    (line,) = [line for line in table.lines if line.method == method]
    return dict(zip(table.header, line.cells, strict=True))


def test_retrain_has_mean_and_spread_and_methods_their_gap(record, retrains):
    comparison = table_of([*retrains, record("sruga", 0, 0.05)])
    assert cells(comparison, "retrain")["Forget Hit@10"] == "0.2200 ± 0.0200"
    assert cells(comparison, "retrain")["Seeds"] == "0–2"
    assert cells(comparison, "sruga")["Gap to Retrain"] == "-0.1700 (± 0.0994)"
    assert cells(comparison, "sruga")["Speed-up, processor seconds"] == "1.0×"
    assert "forget_report: 20 users, 100 events" in comparison.sizes


FEW = "(provisional, 3 Retrains)"


@pytest.mark.parametrize(
    ("method", "hit", "said"),
    [
        ("sruga", 0.05, f"fails: over-unlearning {FEW}"),
        ("sruga", 0.21, f"passes {FEW}"),
        ("sruga", 0.40, f"fails: under-unlearning {FEW}"),
        ("output_mask", 0.0, f"control: fails: over-unlearning {FEW}"),
        ("finetune_only", 0.40, f"control: fails: under-unlearning {FEW}"),
        ("retrain", 0.22, "the reference; by the same rule 4 of 4 pass"),
        ("my_method", 0.05, f"fails: over-unlearning {FEW}"),
    ],
)
def test_verdicts(record, retrains, method, hit, said):
    assert words(only([*retrains, record("original", 9, 0.5), record(method, 9, hit)]), method) == said


@pytest.mark.parametrize(
    ("hit", "said"),
    [(0.5, f"nothing removed; fails: under-unlearning {FEW}"), (0.22, f"nothing removed; passes {FEW}")],
)
def test_original_is_judged_by_the_rule_as_it_stands(record, retrains, hit, said):
    assert words(only([*retrains, record("original", 9, hit)]), "original") == said


def test_the_headline_says_how_many_fail_where_most_do(record, retrains):
    """It once said "over-unlearning: none of the methods" while most of them failed otherwise."""
    rows = [*retrains, record("original", 0, 0.6), record("sruga", 0, 0.4), record("sisa", 0, 0.4)]
    rows += [replace(row, model="gru4rec") for row in [*retrains, record("original", 0, 0.6), record("sruga", 0, 0.21)]]
    judgement = judge_groups(group_records(rows), ["", ""])
    first, second = headlines(judgement.comparisons)
    failed = "fails 1 of 1 (under-unlearning)"
    assert first == f"SASRec, request “r”: SISA: {failed}; SRUGA: {failed} {FEW}."
    assert second == f"GRU4Rec, request “r”: SRUGA: passes 1 of 1 {FEW}."
    summary = write_summary(judgement)
    assert first in summary
    assert second in summary
    assert "none of the methods" not in summary


def test_too_few_retrains_are_said_with_what_to_run(record, retrains):
    comparison = compare(only([retrains[0], record("sruga", 0, 0.05)]), "srun run --set x=1")
    table = tabulate(comparison)
    assert cells(table, "sruga")["Verdict"] == "not judged: 1 of 3 Retrains"
    assert "Gap to Retrain" not in table.header
    assert headlines([comparison]) == [
        "SASRec, request “r”: not judged: 1 of 3 Retrains. To judge: `srun run --set x=1`."
    ]


def test_a_small_catalogue_says_that_every_hit_is_one(record, retrains):
    info = {**retrains[0].info, "models": [{"name": "sasrec", "settings": {}, "num_items": 8}]}
    rows = [replace(row, info=info, events={}) for row in [*retrains, record("sruga", 0, 0.05)]]
    said = "The catalogue has 8 items, so every Hit@10 and Recall@10 is 1 and says nothing."
    assert table_of(rows).plain[0] == said
    info["models"][0]["num_items"] = 11
    assert said not in table_of(rows).plain


def test_every_target_gradient_has_seconds_and_scored_positions_beside_it(record, retrains):
    sruga = record("sruga", 0, 0.05, counts={"target_gradients": 100.0, "scored_positions": 250})
    comparison = table_of([*retrains, sruga])
    costs = dict(zip(comparison.header[-6:], ("10.0", "1.0×", "12.5", "1.0×", "2.0×", "10.0×"), strict=True))
    assert list(costs) == [
        *("Processor seconds", "Speed-up, processor seconds", "Seconds, by the clock", "Speed-up, by the clock"),
        *("Speed-up, scored positions", "Speed-up, target gradients"),
    ]
    assert {title: cells(comparison, "sruga")[title] for title in costs} == costs
    speedups = [title for title in costs if title.startswith("Speed-up")]
    assert [cells(comparison, "retrain")[title] for title in speedups] == ["1"] * 4


def test_plain_words_name_over_unlearning_and_what_original_says_about_the_data(record, retrains):
    rows = [*retrains, record("sruga", 0, 0.05), record("original", 0, 0.22), record("output_mask", 0, 0.0)]
    text = " ".join(table_of(rows).plain)
    assert "SRUGA ranks 5.0% of the forgotten events in its top 10: cannot tell: Original passes too, yet below" in text
    assert "test NDCG@10 is 100% of Retrain's" in text
    assert "Original, from which nothing was removed, ranks 22.0% of the forgotten events in its top 10, which" in text
    assert "mask is no success" in text


def test_how_a_method_fails_is_explained_once(record, retrains):
    rows = [*retrains, record("original", 0, 0.6), record("sruga", 0, 0.05), record("sisa", 0, 0.06)]
    text = " ".join(table_of(rows).plain)
    assert text.count("(over-unlearning: forgotten items rank lower than if they had never been there)") == 1


def test_an_original_above_the_interval_needs_no_caveat(record, retrains):
    text = " ".join(table_of([*retrains, record("original", 0, 0.6)]).plain)
    assert "Original" not in text


def test_what_was_not_measured_is_said(record, retrains):
    rows = [replace(row, measured=None, machine=None) for row in retrains]
    comparison = table_of([*rows, record("sruga", 0, 0.05, measured=None, machine=None)])
    assert cells(comparison, "sruga")["Seconds, by the clock"] == "not measured here"
    assert cells(comparison, "sruga")["Speed-up, processor seconds"] == "–"
    assert what_was_run(judge_groups([only(rows)], [""]))["Machine"] == "not measured here"


def test_named_users_are_counted(record):
    rows = [record("retrain", seed, kind="category") for seed in range(2)]
    request = {**rows[0].partition["request"], "users": 2}
    rows = [replace(row, partition={**row.partition, "request": request}) for row in rows]
    text = write_summary(judge_groups([only(rows)], [""]))
    assert "users 2 named" in text


def test_names_cannot_break_the_table():
    assert markdown_table(["Method", "a|b"], [["<b>", "x\ny"]]) == [
        "| Method | a\\|b |",
        "| --- | ---: |",
        "| &lt;b> | x y |",
    ]
