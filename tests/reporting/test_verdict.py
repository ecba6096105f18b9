"""Verdicts from the ranks of forgotten events; those from hits alone are in test_summary."""

from dataclasses import replace

import numpy as np
import pytest

from srun.metrics.forgetting import judge
from srun.reporting.records import EventRanks, Group, group_records
from srun.reporting.results import long_form
from srun.reporting.summary import compare
from srun.reporting.verdict import OTHERWISE, PASSES, passes, verdict

NUM_EVENTS, RETRAIN_HITS = 200, (0.20, 0.21, 0.22, 0.23, 0.24)


def ranked(row, hit, other=0.0, seed=0):
    """The row with ranks of which a share ``hit`` is in the first 10; ``other`` moves the rest."""
    generator, top = np.random.default_rng([7, seed]), round(NUM_EVENTS * hit)
    rank = np.concatenate([np.full(top, 5.0), 20 + generator.integers(0, 500, NUM_EVENTS - top) + other])
    events = EventRanks(np.arange(NUM_EVENTS), np.arange(NUM_EVENTS) // 4, rank)
    metrics = {**row.metrics, "forget_report": {**row.metrics["forget_report"], "hit_10": float((rank <= 10).mean())}}
    return replace(row, metrics=metrics, events={"forget_report": events})


@pytest.fixture
def five(record):
    return [ranked(record("retrain", seed), hit, seed=seed) for seed, hit in enumerate(RETRAIN_HITS)]


def group_of(rows) -> Group:
    (group,) = group_records(rows)
    return group


def figures(group, method, seed=0):
    rows = [row for row in long_form([group]) if (row.method, row.seed, row.split) == (method, seed, "forget_report")]
    return {row.metric: row.value for row in rows}


LIKE, OVER, ELSEWHERE = (0.22, 0.0), (0.02, 0.0), (0.22, 300.0)


@pytest.mark.parametrize(
    ("drawn", "words"),
    [
        ([LIKE], PASSES),
        ([OVER], "over-unlearning"),
        ([(0.6, 0.0)], "under-unlearning"),
        ([ELSEWHERE], OTHERWISE),
        ([LIKE, LIKE, OVER], f"{PASSES} in 2 of 3 seeds (over-unlearning in 1 of 3 seeds)"),
        ([LIKE, OVER, OVER], "fails, with 1 of 3 seeds that pass: over-unlearning in 2 of 3 seeds"),
    ],
)
def test_words(record, five, drawn, words):
    rows = [ranked(record("sruga", seed), *values, seed=20 + seed) for seed, values in enumerate(drawn)]
    assert verdict(group_of([*five, *rows]), "sruga") == words


def test_results_hold_the_figures_of_the_rule(record, five):
    group = group_of([*five, ranked(record("sruga"), *LIKE, seed=20)])
    found = figures(group, "sruga")
    sruga, retrains = group.of("sruga")[0].events["forget_report"], [row.events["forget_report"].rank for row in five]
    expected = judge(sruga.rank, np.stack(retrains), sruga.user, np.random.default_rng(0))
    for name in ("ks_d", "ks_d_retrain_max", "hit_10_gap", "hit_10_gap_bound"):
        assert found[name] == pytest.approx(getattr(expected, name))
    assert 0 < found["ks_p"] <= 1
    assert found["pass"] == 1
    assert figures(group, "sruga") == found  # the permutations come from a named stream


def test_every_retrain_is_judged_by_the_others(record, five):
    group = group_of([*five, ranked(record("sruga"), *LIKE, seed=20)])
    own = five[0].events["forget_report"]
    others = np.stack([row.events["forget_report"].rank for row in five[1:]])
    expected = judge(own.rank, others, own.user, np.random.default_rng(0))
    assert group.qualities["retrain-0"].num_retrains == 4
    assert group.qualities["retrain-0"].ks_d == expected.ks_d
    number = sum(quality.passes for cell, quality in group.qualities.items() if cell.startswith("retrain"))
    assert passes(group, "retrain") == (number, 5)
    assert verdict(group, "retrain").endswith(f"by the same rule {number} of 5 pass")


def test_two_retrains_give_a_distance_and_no_pass(record, five):
    group = group_of([*five[:2], ranked(record("sruga"), *LIKE, seed=20)])
    found = figures(group, "sruga")
    assert "ks_d" in found
    assert "pass" not in found
    assert verdict(group, "sruga") == "within Retrain's interval"
    assert figures(group, "retrain").keys().isdisjoint({"ks_d", "pass"})


def test_the_comparison_shows_them(record, five):
    rows = [ranked(record("sruga", seed), *LIKE, seed=20 + seed) for seed in range(2)]
    comparison = compare(group_of([*five, *rows, record("output_mask", 0, 0.0, events=five[0].events)]))
    cells = {line.method: dict(zip(comparison.header, line.cells, strict=True)) for line in comparison.lines}
    assert cells["sruga"]["Pass"] == "2 of 2"
    assert cells["sruga"]["KS p by seed"].count(",") == 1
    distance, limit = cells["sruga"]["KS D"].split(" (≤ ")
    assert float(distance) <= float(limit.rstrip(")"))
    assert "(max " in cells["retrain"]["KS D"]
    assert cells["output_mask"]["Verdict"] == "control: hides, does not unlearn"
    assert any("could be a Retrain" in sentence for sentence in comparison.plain)


def test_an_original_that_only_its_ranks_betray(record, five):
    group = group_of([*five, ranked(record("original"), *ELSEWHERE, seed=30)])
    words = "nothing removed; yet within Retrain's interval, but ranks distributed otherwise"
    assert verdict(group, "original") == words
    assert not any("does not show whether" in sentence for sentence in compare(group).plain)


def test_a_category_is_not_judged_so(record):
    rows = [ranked(record("retrain", seed, kind="category"), 0.2, seed=seed) for seed in range(3)]
    group = group_of([*rows, ranked(record("sruga", kind="category"), 0.2, seed=9)])
    assert group.qualities == {}
    assert "ks_d" not in figures(group, "sruga")
    assert "KS D" not in compare(group).header
