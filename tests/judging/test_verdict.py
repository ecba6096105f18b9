"""Verdicts: every combination of the two parts, of what Original shows, and of how many Retrains there are."""

from dataclasses import replace

import numpy as np
import pytest

from srun.judging.comparison import compare, judge_groups
from srun.judging.records import group_records
from srun.judging.results import long_form
from srun.judging.verdict import Figures, decide, headline, standing, tally, verdict, verdicts, words
from srun.metrics.forgetting import ForgetQuality, Interval, judge
from srun.metrics.ranking import EventRanks
from srun.reporting.figures import draw, utility_vs_suppression
from srun.reporting.page import render
from srun.reporting.summary import plain_words, tabulate, write_summary

NUM_EVENTS, RETRAIN_HITS = 200, (0.20, 0.21, 0.22, 0.23, 0.24)
GAPS = {"below": -0.2, "within": 0.05, "above": 0.2}


def quality(place, near, number=8):
    return Figures(ForgetQuality(0.1 if near else 0.3, 0.2, 0.5, GAPS[place], 0.1, number))


ABOVE_FAR, WITHIN_FAR, ABOVE_NEAR, WITHIN_NEAR = (
    [quality(place, near)] for place, near in (("above", False), ("within", False), ("above", True), ("within", True))
)
TOO, EITHER = "Original passes too", "Original does not fail by them"
NONE = "Original was not evaluated, so nothing shows that the rule can"
OTHERWISE = "ranks distributed otherwise"


@pytest.mark.parametrize(
    ("originals", "place", "near", "text"),
    [
        # Original fails both: both can tell
        (ABOVE_FAR, "within", True, "passes"),
        (ABOVE_FAR, "within", False, f"fails: {OTHERWISE}, hits within Retrain's interval"),
        (ABOVE_FAR, "above", True, "fails: under-unlearning"),
        (ABOVE_FAR, "above", False, "fails: under-unlearning"),
        (ABOVE_FAR, "below", True, "fails: over-unlearning"),
        (ABOVE_FAR, "below", False, "fails: over-unlearning"),
        # its hits are within: only ranks can tell, and over-unlearning is seen all the same
        (WITHIN_FAR, "within", True, f"passes: by ranks alone, hits cannot tell: {EITHER}"),
        (WITHIN_FAR, "within", False, f"fails: {OTHERWISE}, hits cannot tell: {EITHER}"),
        (WITHIN_FAR, "above", True, f"passes: by ranks alone, hits cannot tell: {EITHER}"),
        (WITHIN_FAR, "above", False, f"fails: {OTHERWISE}, hits cannot tell: {EITHER}"),
        (WITHIN_FAR, "below", True, "fails: over-unlearning"),
        (WITHIN_FAR, "below", False, "fails: over-unlearning"),
        # its ranks are near: only hits can tell
        (ABOVE_NEAR, "within", True, f"passes: by hits alone, ranks cannot tell: {EITHER}"),
        (ABOVE_NEAR, "within", False, f"passes: by hits alone, ranks cannot tell: {EITHER}"),
        (ABOVE_NEAR, "above", True, "fails: under-unlearning"),
        (ABOVE_NEAR, "above", False, "fails: under-unlearning"),
        (ABOVE_NEAR, "below", True, "fails: over-unlearning"),
        (ABOVE_NEAR, "below", False, "fails: over-unlearning"),
        # it passes: nothing can be told of any row
        (WITHIN_NEAR, "within", True, f"cannot tell: {TOO}"),
        (WITHIN_NEAR, "within", False, f"cannot tell: {TOO}"),
        (WITHIN_NEAR, "above", True, f"cannot tell: {TOO}"),
        (WITHIN_NEAR, "above", False, f"cannot tell: {TOO}"),
        (WITHIN_NEAR, "below", True, f"cannot tell: {TOO}, yet below Retrain's interval: over-unlearning"),
        (WITHIN_NEAR, "below", False, f"cannot tell: {TOO}, yet below Retrain's interval: over-unlearning"),
        # of two Originals one passes each part, or one passes both
        ([*WITHIN_FAR, *ABOVE_NEAR], "within", True, "cannot tell: by no part does every Original fail"),
        ([*ABOVE_FAR, *WITHIN_NEAR], "within", True, f"cannot tell: {TOO}"),
        # there is no Original: a failure is one, a pass shows nothing
        ([], "within", True, f"cannot tell: {NONE}"),
        ([], "within", False, f"fails: {OTHERWISE}, hits cannot tell: {NONE}"),
        ([], "above", True, "fails: under-unlearning"),
        ([], "below", True, "fails: over-unlearning"),
    ],
)
def test_all_combinations(originals, place, near, text):
    found = decide(quality(place, near), originals)
    assert found.text == text
    assert found.over_unlearning == (place == "below")
    assert [part.name for part in found.parts] == ["hits", "ranks"]
    passed = [part.word == "passes" for part in found.parts]
    assert (found.word == "passes") <= any(passed), "a row passes only by a part that can tell"


@pytest.mark.parametrize(
    ("number", "word", "provisional"),
    [
        (2, "not judged", ""),
        (3, "passes", "provisional, 3 Retrains"),
        (7, "passes", "provisional, 7 Retrains"),
        (8, "passes", ""),
    ],
)
def test_the_number_of_retrains_limits_a_verdict(number, word, provisional):
    originals = [quality("above", False, number)]
    found = decide(quality("within", True, number), originals)
    assert (found.word, found.provisional, found.num_retrains) == (word, provisional, number)
    if number == 2:
        assert found.text == "not judged: 2 of 3 Retrains"
        assert not decide(quality("below", False, 2), originals).over_unlearning, "two Retrains have no interval"


def test_verdicts_are_counted_over_seeds():
    passed, far, over = (
        decide(quality(*of), ABOVE_FAR) for of in (("within", True), ("within", False), ("below", True))
    )
    assert tally([passed, passed, over]) == "passes 2 of 3, fails 1 (over-unlearning)"
    assert tally([passed] * 3) == "passes 3 of 3"
    assert tally([over]) == "fails 1 of 1 (over-unlearning)"
    assert tally([far, over, over]) == f"fails 3 of 3 ({OTHERWISE} 1, over-unlearning 2)"


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


@pytest.fixture
def failing(record):
    """An Original that remembers, so that the rule can tell."""
    return ranked(record("original"), 0.6, 300.0, seed=40)


def group_of(rows):
    (group,) = group_records(rows)
    return group


def figures(group, method, seed=0):
    rows = [row for row in long_form([group]) if (row.method, row.seed, row.split) == (method, seed, "forget_report")]
    return {row.metric: row.value for row in rows}


LIKE, OVER, ELSEWHERE = (0.22, 0.0), (0.02, 0.0), (0.22, 300.0)
FEW = "(provisional, 5 Retrains)"


@pytest.mark.parametrize(
    ("drawn", "said"),
    [
        ([LIKE], f"passes {FEW}"),
        ([OVER], f"fails: over-unlearning {FEW}"),
        ([(0.6, 0.0)], f"fails: under-unlearning {FEW}"),
        ([ELSEWHERE], f"fails: {OTHERWISE}, hits within Retrain's interval {FEW}"),
        ([LIKE, LIKE], f"passes, 2 of 2 seeds {FEW}"),
        ([LIKE, LIKE, OVER], f"passes 2 of 3, fails 1 (over-unlearning) {FEW}"),
        ([LIKE, OVER, OVER], f"passes 1 of 3, fails 2 (over-unlearning) {FEW}"),
    ],
)
def test_what_a_table_says_of_a_method(record, five, failing, drawn, said):
    rows = [ranked(record("sruga", seed), *values, seed=20 + seed) for seed, values in enumerate(drawn)]
    assert words(group_of([*five, failing, *rows]), "sruga") == said


def test_the_headline_counts_every_method_and_control(record, five, failing):
    rows = [ranked(record("sruga", s), *values, seed=20 + s) for s, values in enumerate((LIKE, LIKE, OVER))]
    rows += [ranked(record("sisa"), *OVER, seed=30), ranked(record("output_mask"), 0.0, seed=31)]
    assert headline(group_of([*five, failing, *rows])) == (
        "SISA: fails 1 of 1 (over-unlearning); SRUGA: passes 2 of 3, fails 1 (over-unlearning); "
        f"Output mask (control): fails 1 of 1 (over-unlearning) {FEW}"
    )


def test_where_original_passes_every_row_says_so_everywhere(record, five):
    original = ranked(record("original"), *LIKE, seed=2)  # as the third Retrain
    rows = [ranked(record("sruga"), *ELSEWHERE, seed=20), ranked(record("output_mask"), 0.0, seed=21)]
    group = group_of([*five, original, *rows])
    said = "cannot tell: Original passes too"
    judgement = judge_groups([group], [""])
    [comparison] = judgement.comparisons
    for method in comparison.methods:
        if method.method in ("sruga", "output_mask"):
            assert said in method.words
    assert comparison.headline.count("cannot tell 1 of 1 (Original passes too)") == 2
    summary, page = write_summary(judgement), render(judgement, [])
    assert all(text.count(said) >= 2 for text in (summary, page))
    assert utility_vs_suppression(comparison).axes[0].get_title(loc="left") == f"{said}, provisional, 5 Retrains"
    assert any("cannot tell" in figure.caption for figure in draw(judgement))
    assert figures(group, "original")["pass"] == 1
    for method in ("sruga", "output_mask"):
        found = figures(group, method)
        assert found["cannot_tell"] == 1
        assert "pass" not in found
        assert found["over_unlearning"] == (method == "output_mask")


def test_raw_scores_are_not_judged_as_rows(record, five):
    raw = replace(five[0], untrained_raw={"test": {"ndcg_10": 0.5}})
    group = group_of([raw, *five[1:]])
    assert verdicts(group, "untrained_raw") == []
    assert "pass" not in figures(group, "untrained_raw")


def test_results_hold_the_figures_of_the_rule(record, five, failing):
    group = group_of([*five, failing, ranked(record("sruga"), *LIKE, seed=20)])
    found = figures(group, "sruga")
    sruga, retrains = group.of("sruga")[0].events["forget_report"], [row.events["forget_report"].rank for row in five]
    expected = judge(sruga.rank, np.stack(retrains), sruga.user, np.random.default_rng(0))
    for name in ("ks_d", "ks_d_retrain_max", "hit_10_gap", "hit_10_gap_bound"):
        assert found[name] == pytest.approx(getattr(expected, name))
    assert 0 < found["ks_p"] <= 1
    assert (found["pass"], found["cannot_tell"], found["not_judged"], found["num_retrains"]) == (1, 0, 0, 5)
    assert figures(group, "sruga") == found  # the permutations come from a named stream


def test_every_retrain_is_judged_by_the_others(record, five):
    group = group_of([*five, ranked(record("sruga"), *LIKE, seed=20)])
    own = five[0].events["forget_report"]
    others = np.stack([row.events["forget_report"].rank for row in five[1:]])
    expected = judge(own.rank, others, own.user, np.random.default_rng(0))
    assert group.qualities["retrain-0"].num_retrains == 4
    assert group.qualities["retrain-0"].ks_d == expected.ks_d
    number = sum(quality.passes for cell, quality in group.qualities.items() if cell.startswith("retrain"))
    assert words(group, "retrain") == f"the reference; by the same rule {number} of 5 pass"


def test_two_retrains_give_a_distance_and_no_verdict(record, five, failing):
    group = group_of([*five[:2], failing, ranked(record("sruga"), *OVER, seed=20)])
    found = figures(group, "sruga")
    assert {"ks_d", "hit_10_gap", "hit_10_gap_bound"} <= found.keys()
    assert found["not_judged"] == 1
    assert found.keys().isdisjoint({"pass", "cannot_tell", "over_unlearning"})
    assert words(group, "sruga") == "not judged: 2 of 3 Retrains"
    assert words(group, "original") == "nothing removed"
    assert headline(group) == standing(group) == "not judged: 2 of 3 Retrains"
    assert Interval.of([0.2, 0.21]) is None
    assert "over-unlearning" not in " ".join(plain_words(compare(group)))
    assert figures(group, "retrain").keys().isdisjoint({"ks_d", "pass"})


def test_an_original_that_only_its_ranks_betray(record, five):
    group = group_of([*five, ranked(record("original"), *ELSEWHERE, seed=30), ranked(record("sruga"), *LIKE, seed=20)])
    assert words(group, "original") == f"nothing removed; fails: {OTHERWISE}, hits within Retrain's interval {FEW}"
    assert words(group, "sruga") == f"passes: by ranks alone, hits cannot tell: {EITHER} {FEW}"
    assert any("does not show whether" in sentence for sentence in plain_words(compare(group)))


def test_a_category_is_not_judged_so(record):
    rows = [ranked(record("retrain", seed, kind="category"), 0.2, seed=seed) for seed in range(3)]
    group = group_of([*rows, ranked(record("sruga", kind="category"), 0.2, seed=9)])
    assert group.qualities == {}
    assert "ks_d" not in figures(group, "sruga")
    assert "KS D" not in tabulate(compare(group)).header
    assert verdict(group, group.of("sruga")[0]).word == "not judged"
    assert headline(group) == "not judged: a category has no rule of hits and ranks"
