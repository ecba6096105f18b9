"""Verdicts: every combination of the two parts, of what Original shows, and of how many Retrains there are."""

from dataclasses import replace

import numpy as np
import pytest
from pydantic import TypeAdapter

from srun.judging.comparison import compare, judge_groups, verdicts_by_cell
from srun.judging.judgement import Judgement, to_json
from srun.judging.records import ERROR_RATE, Trained, group_records
from srun.judging.results import long_form
from srun.judging.verdict import Figures, decide, headline, standing, tally, verdict, verdicts, words
from srun.metrics import forgetting
from srun.metrics.forgetting import ForgetQuality, Interval, LevelError, judge, ks_of_shift
from srun.metrics.memory import MemoryQuality
from srun.metrics.power import SHARES, WAYS, Failures
from srun.metrics.ranking import EventRanks
from srun.reporting.figures import draw, utility_vs_suppression
from srun.reporting.page import render
from srun.reporting.summary import plain_words, tabulate, write_summary

NUM_EVENTS, RETRAIN_HITS = 200, (0.20, 0.21, 0.22, 0.23, 0.24)
GAPS = {"below": -0.2, "within": 0.05, "above": 0.2}


def of_ranks(ks_d, gap, number=8):
    """Beside a limit of .2 for the distance and .1 for hits; the pooled rule's bounds decide nothing."""
    return ForgetQuality(ks_d, 0.0, 0.5, gap, 0.0, number, 0.1, 0.2)


def quality(place, near, number=8):
    return Figures(of_ranks(0.1 if near else 0.3, GAPS[place], number))


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
    expected = judge(sruga.rank, np.stack(retrains), sruga.user, np.random.default_rng(0), ERROR_RATE / 3)
    for name in ("ks_d", "ks_d_retrain_max", "ks_d_limit", "hit_10_gap", "hit_10_gap_bound", "hit_10_gap_limit"):
        assert found[name] == pytest.approx(getattr(expected, name))
    assert 0 < found["ks_p"] <= 1
    assert (found["pass"], found["cannot_tell"], found["not_judged"], found["num_retrains"]) == (1, 0, 0, 5)
    assert figures(group, "sruga") == found  # the permutations come from a named stream


def test_every_retrain_is_judged_by_the_others(record, five):
    group = group_of([*five, ranked(record("sruga"), *LIKE, seed=20)])
    own = five[0].events["forget_report"]
    others = np.stack([row.events["forget_report"].rank for row in five[1:]])
    expected = judge(own.rank, others, own.user, np.random.default_rng(0), ERROR_RATE / 3)
    assert group.qualities["retrain-0"].num_retrains == 4
    assert group.qualities["retrain-0"].ks_d == expected.ks_d
    number = sum(verdict(group, row).word == "passes" for row in group.retrains)
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


# the file, and single events: a made-up world in which forgotten events stand at a level of their own

NUM_ITEMS, NUM_MADE = 500, 1600
INFO = {"models": [{"name": "sasrec", "settings": {}, "num_items": NUM_ITEMS}]}
ATTACKS = ("own", "ridge", "softmax_zero", "softmax_input")
OF_RETRAIN, OF_ORIGINAL = (0.20, 0.18, 0.12, 0.19), (0.60, 0.35, 0.30, 0.55)
SEEDS = [Trained(f"sasrec-{s}", {"seed": s, "cost": {"target_gradients": 1.0}}) for s in (0, 1)]
FEATURES = np.random.default_rng(5).normal(size=(NUM_MADE, 2))
LEVEL = FEATURES @ [1.0, -0.5] + np.random.default_rng(6).normal(size=NUM_MADE)
MEMORY = np.abs(np.random.default_rng(7).normal(size=NUM_MADE)) * 3


def made(row, seed, memory=0.0, recovered=OF_RETRAIN, tables=(), info=(), **changes):
    """The row with ranks that keep a share of the memory, and what attacks have back: of tables, or the usual ones."""
    rng = np.random.default_rng([8, seed])
    z = LEVEL + memory * MEMORY + 0.3 * rng.normal(size=NUM_MADE)
    rank = np.clip(np.round(0.5 + NUM_ITEMS / (1 + np.exp(z))), 1, NUM_ITEMS)
    events = EventRanks(np.arange(NUM_MADE), np.arange(NUM_MADE) // 4, rank)
    noise = rng.normal(size=len(ATTACKS)) * 0.005
    attacks = {**dict(zip(ATTACKS, np.add(recovered, noise), strict=True)), **dict(tables)} if recovered else {}
    metrics = {**row.metrics, "forget_report": {**row.metrics["forget_report"], "hit_10": float((rank <= 10).mean())}}
    metrics["recovered"] = {f"{name}_hit_10": float(value) for name, value in attacks.items()}
    rest = {"features": FEATURES} if row.method == "original" else {}
    info = {**row.info, **INFO, **dict(info)}
    return replace(row, metrics=metrics, events={"forget_report": events}, info=info, **rest, **changes)


@pytest.fixture
def eight(record, monkeypatch):
    """Eight Retrains, and two Originals of other seeds, which remember."""
    monkeypatch.setattr(forgetting, "permutation_p", lambda *_: 0.5)  # decides nothing, and takes the time
    rows = [made(record("retrain", 100 + seed), seed) for seed in range(8)]
    return [*rows, *(made(record("original", s), 50 + s, 1.0, OF_ORIGINAL, **of_seed(s)) for s in (0, 1))]


def of_seed(seed):
    return {"original": f"sasrec-{seed}"}


def parts_of(rows, method="sruga"):
    (group,) = group_records(rows, SEEDS)
    judged = verdict(group, group.of(method)[0])
    return {part.name: part.word for part in judged.parts}, judged


def test_a_retrain_passes_every_part(record, eight):
    parts, judged = parts_of([*eight, made(record("sruga"), 20)])
    assert parts == dict.fromkeys(("hits", "ranks", "file", "events"), "passes")
    assert judged.text == "passes"


def test_most_retrains_pass_every_part_beside_the_others(eight):
    (group,) = group_records(eight, SEEDS)
    judged = [verdict(group, row) for row in group.retrains]
    for name in ("file", "events"):
        words = [next(part.word for part in one.parts if part.name == name) for one in judged]
        assert words.count("passes") >= 7


def test_original_fails_every_part(eight):
    parts, judged = parts_of(eight, "original")
    assert parts == dict.fromkeys(("hits", "ranks", "file", "events"), "fails")
    assert judged.how == "under-unlearning, Original is in the file, single events are remembered"


def test_an_output_mask_fails_by_the_file(record, eight):
    """Nothing is left in its lists, and all of it in its file: attacks lift masks."""
    mask = made(record("output_mask"), 20, 1.0, OF_ORIGINAL)
    events = replace(mask.events["forget_report"], rank=np.full(NUM_MADE, float(NUM_ITEMS)))
    metrics = {**mask.metrics, "forget_report": {**mask.metrics["forget_report"], "hit_10": 0.0}}
    parts, judged = parts_of([*eight, replace(mask, events={"forget_report": events}, metrics=metrics)], "output_mask")
    assert (parts["hits"], parts["file"]) == ("fails", "fails")
    assert judged.how == "over-unlearning, Original is in the file"


def test_a_table_of_original_beside_fails_what_ranks_let_pass(record, eight):
    parts, judged = parts_of([*eight, made(record("sruga"), 20, tables={"scored_by_input": 0.6, "swapped": 0.3})])
    assert parts == {"hits": "passes", "ranks": "passes", "file": "fails", "events": "passes"}
    assert judged.text == "fails: Original is in the file"


@pytest.mark.parametrize(
    ("recovered", "how"),
    [
        ((0.20, 0.30, 0.12, 0.19), "its states give forgotten events back"),
        ((0.20, 0.18, 0.12, 0.30), "its states give forgotten events back"),
        ((0.35, 0.18, 0.12, 0.19), "its tables give forgotten events back"),
        ((0.60, 0.18, 0.12, 0.19), "Original is in the file"),
    ],
)
def test_how_a_file_fails_is_named_by_the_attack(record, eight, recovered, how):
    assert parts_of([*eight, made(record("closed_form"), 20, recovered=recovered)], "closed_form")[1].how == how


def test_a_retrain_mixed_with_original_fails_by_single_events(record, eight):
    """Its ranks, permuted among events that are as hard, are distributed as a Retrain's."""
    row = made(record("sruga"), 20, 0.4)
    by_rank = np.sort(eight[0].events["forget_report"].rank)[row.events["forget_report"].rank.argsort().argsort()]
    mixed = replace(row, events={"forget_report": replace(row.events["forget_report"], rank=by_rank)})
    hit = {**mixed.metrics["forget_report"], "hit_10": float((by_rank <= 10).mean())}
    parts, judged = parts_of([*eight, replace(mixed, metrics={**mixed.metrics, "forget_report": hit})])
    assert parts == {"hits": "passes", "ranks": "passes", "file": "passes", "events": "fails"}
    assert judged.text == "fails: single events are remembered"


def test_single_events_need_an_original_of_another_seed(record, eight):
    rows = [row for row in eight if row.cell != "original-1"]
    parts, judged = parts_of([*rows, made(record("sruga"), 20)])
    assert list(parts) == ["hits", "ranks", "file"]
    assert judged.text == "passes"
    same = [Trained("sasrec-0", {"seed": 0}), Trained("sasrec-1", {"seed": 0})]
    (group,) = group_records([*eight, made(record("sruga"), 20)], same)
    assert not group.memories


def test_a_file_by_which_original_passes_tells_nothing(record, eight):
    rows = [*eight[:8], made(record("original"), 50, 1.0), made(record("sruga"), 20, tables={"swapped": 0.6})]
    parts, judged = parts_of(rows)
    assert parts == {"hits": "passes", "ranks": "passes", "file": "cannot tell"}
    assert judged.text == "passes: by hits and ranks alone, file cannot tell: Original does not fail by it"


def test_a_file_of_several_models_is_not_told(record, eight):
    sisa = made(record("sisa"), 20, recovered=())
    parts, judged = parts_of([*eight[:9], sisa], "sisa")
    assert parts == {"hits": "passes", "ranks": "passes", "file": "cannot tell"}
    assert judged.text == "passes: by hits and ranks alone, file cannot tell: of several models, unlike Retrain's"
    in_shards = made(record("original", 1), 51, 1.0, (), **of_seed(1))
    assert parts_of([*eight[:9], in_shards, made(record("sruga"), 20)])[0]["file"] == "passes", "another file is"


def test_fewer_retrains_give_wider_limits_and_more_attacks_too(record, eight):
    few, many, swapped = (
        group_records(rows)[0].files["sruga-0"].limits["own"]
        for rows in (
            [*eight[:3], made(record("sruga"), 20)],
            [*eight, made(record("sruga"), 20)],
            [*eight, made(record("sruga"), 20, tables={"swapped": 0.2})],
        )
    )
    assert few > swapped > many
    assert "sruga-0" not in group_records([*eight[:2], made(record("sruga"), 20)])[0].files


def test_memory_that_is_not_known_well_enough_is_not_told(record):
    quality = of_ranks(0.1, 0.0)
    original = Figures(quality=of_ranks(0.3, 0.2), memory=MemoryQuality(1.0, 1.0, 0.1))
    for memory, word, text in (
        (MemoryQuality(-0.05, 0.09, 0.1), "passes", "passes"),
        (MemoryQuality(0.11, 0.5, 0.1), "fails", "fails: single events are remembered"),
        (MemoryQuality(-0.3, 0.4, 0.1), "cannot tell", "memory left is between -0.30 and 0.40"),
        (MemoryQuality(-0.3, 0.24, 0.25), "cannot tell", "memory left is between -0.30 and 0.24"),
    ):
        judged = decide(Figures(quality=quality, memory=memory), [original])
        assert judged.parts[-1].word == word
        assert judged.text.endswith(text)


@pytest.mark.parametrize(
    ("error", "ks_d", "word"),
    [
        (0.01, 0.1, "passes"),  # smaller than what the bound tells
        (0.25, 0.1, "cannot tell"),
        (0.25, 0.3, "cannot tell"),  # the error of the level may have made this distance
        (0.25, 0.5, "fails"),  # and not this one
    ],
)
def test_a_level_that_is_not_known_well_enough_lets_nothing_pass(error, ks_d, word):
    row = Figures(of_ranks(ks_d, 0.0), level=LevelError(0.9, error))
    judged = decide(row, ABOVE_FAR)
    assert (judged.word, judged.parts[1].word) == (word, word)
    if word == "cannot tell":
        assert judged.text == "cannot tell: the level it aims at is known to ± 0.9 only"


def test_the_error_of_a_level_is_told_in_the_distance_that_it_makes(record, eight):
    known, unknown = (made(record("sruga"), 20, info={"level_standard_error": error}) for error in (0.01, 1.0))
    assert parts_of([*eight, known])[0]["ranks"] == "passes"
    (group,) = group_records([*eight, unknown], SEEDS)
    ranks = np.concatenate([row.events["forget_report"].rank for row in group.retrains])
    assert group.levels["sruga-0"] == LevelError(1.0, ks_of_shift(ranks, NUM_ITEMS, 1.0))
    assert parts_of([*eight, unknown])[0]["ranks"] == "cannot tell"


def test_results_have_the_figures_of_the_file_and_of_single_events(record, eight):
    (group,) = group_records([*eight, made(record("sruga"), 20, info={"level_standard_error": 0.01})], SEEDS)
    rows = {(row.split, row.metric): row.value for row in long_form([group]) if row.method == "sruga"}
    assert rows["recovered", "ridge_hit_10"] < rows["recovered", "ridge_hit_10_limit"]
    assert rows["by_event", "memory_left_low"] < rows["by_event", "memory_left"] < rows["by_event", "memory_left_high"]
    assert rows["by_event", "memory_left_limit"] >= 0.1
    assert rows["by_event", "event_corr_share"] == pytest.approx(1, abs=0.02)
    assert rows["by_event", "event_mae_ratio"] == pytest.approx(1, abs=0.1)
    assert rows["by_event", "level_standard_error"] == 0.01
    assert 0 < rows["by_event", "level_ks_d"] < 0.01
    [comparison] = judge_groups([group], [""]).comparisons
    assert comparison.method("sruga").rows[0].file == group.files["sruga-0"]
    assert comparison.tests.startswith("A verdict joins Hit@10 below Retrain's interval, Hit@10 above it, KS D, what")
    assert "memory left of single events" in comparison.tests
    assert "(own, ridge, softmax_zero, softmax_input)" in comparison.tests


# power, and the pooled rule beside


def seen(**fails_from):
    """Failures of mixtures: each part fails from the place of a share on, in every draw; None: never."""
    by_part = {}
    for part, place in fails_from.items():
        by_part[part] = np.zeros((4, len(SHARES), 3), dtype=bool)
        by_part[part][:, len(SHARES) if place is None else place :] = True
    return Failures({way: by_part for way in WAYS}, 2)


@pytest.mark.parametrize(
    ("hits", "ranks", "text", "sees"),
    [
        (2, 1, "passes", 0.03),
        (5, 2, "passes: by ranks alone, hits cannot tell: sees from 30 % of users on", 0.05),
        (4, None, "passes: by hits alone, ranks cannot tell: does not see 80 % of users", 0.2),
        (6, 5, "cannot tell: sees from 50 % of users on, sees from 30 % of users on", 0.3),
    ],
)
def test_a_part_that_sees_too_little_cannot_tell_by_a_pass(hits, ranks, text, sees):
    judged = decide(quality("within", True), ABOVE_FAR, seen(hits=hits, ranks=ranks))
    assert judged.text == text
    assert judged.sees.users.share == sees
    assert [part.sees.users.share for part in judged.parts] == [
        None if place is None else SHARES[place] for place in (hits, ranks)
    ]


def test_a_failure_stands_however_little_the_part_sees():
    judged = decide(quality("within", False), ABOVE_FAR, seen(hits=2, ranks=None))
    assert judged.text == f"fails: {OTHERWISE}, hits within Retrain's interval"


def test_where_original_passes_a_part_power_does_not_matter():
    judged = decide(quality("within", True), WITHIN_FAR, seen(hits=0, ranks=3))
    assert judged.text == f"passes: by ranks alone, hits cannot tell: {EITHER}"
    assert judged.parts[0].sees is None
    assert judged.sees.users.share == SHARES[3], "of what can tell alone"
    assert judged.said == f"{judged.text} (sees from 10 % of users on)"
    assert decide(quality("within", True), WITHIN_NEAR, seen(hits=0, ranks=0)).sees is None


def test_what_a_verdict_sees_stands_wherever_it_does(record, eight):
    (group,) = group_records([*eight, made(record("sruga"), 20)], SEEDS)
    judgement = judge_groups([group], [""])
    [comparison] = judgement.comparisons
    judged = comparison.method("sruga").rows[0].verdict
    sees = f"(sees from {100 * judged.sees.users.share:.0f} % of users on)"
    assert judged.sees.users.share == min(part.sees.users.share for part in judged.parts if part.sees is not None)
    assert judged.num_tests == 8
    assert comparison.method("sruga").words.endswith(sees)
    assert sees in comparison.headline
    assert verdicts_by_cell(judgement)["sruga-0"] == f"{judged.text} {sees}"
    assert set(comparison.power) == {"hits", "ranks", "events"}
    assert comparison.rule_error.judged == 8
    summary, page = write_summary(judgement), render(judgement, [])
    for text in (summary, page):
        assert sees in text
        assert f"A true Retrain fails this verdict in {100 * comparison.rule_error.simulated:.0f} %" in text
        assert "The power of the file" in text
    rows = figures(group, "sruga")
    assert rows["sees_users"] == judged.sees.users.share
    assert rows["num_tests"] == 8
    assert read_judgement_of(judgement) == judgement


def read_judgement_of(judgement):
    return TypeAdapter(Judgement).validate_json(to_json(judgement))


def test_the_pooled_rule_stands_beside_and_decides_nothing(record, five, failing):
    rows = [ranked(record("sruga", s), *values, seed=20 + s) for s, values in enumerate((LIKE, LIKE, OVER))]
    group = group_of([*five, failing, *rows])
    for row in group.of("sruga"):
        of_row = group.qualities[row.cell]
        assert of_row.hit_10_gap_limit > of_row.hit_10_gap_bound, "one of three tests: .05 / 3 on each side"
    method = compare(group).method("sruga")
    pooled = [row.pooled for row in method.rows]
    assert pooled == ["passes" if group.qualities[row.cell].passes else "fails" for row in method.rows]
    assert pooled[2] == "fails"
    assert method.pooled in ("fails", f"passes {pooled.count('passes')} of 3")
    header = tabulate(compare(group)).header
    assert "Pooled rule" in header
    assert figures(group, "sruga")["pooled_pass"] == (pooled[0] == "passes")


def test_power_needs_four_retrains_and_an_original(record, five, failing):
    few = group_of([*five[:3], failing, ranked(record("sruga"), *LIKE, seed=20)])
    assert few.failures == {}
    assert "Power not measured: 3 Retrains." in compare(few).tests
    assert compare(few).rule_error is None
    none = group_of([*with_items(five), ranked(record("sruga"), *LIKE, seed=20)])
    assert "Power not measured: no Original to mix in." in compare(none).tests


def with_items(rows):
    items = {"models": [{**INFO["models"][0], "num_items": 1000}]}
    return [replace(row, info={**row.info, **items}) for row in rows]


def test_it_is_said_that_no_file_was_attacked(record, five, failing):
    assert "No file was attacked (evaluate.recovery)" in " ".join(plain_words(compare(group_of([*five, failing]))))
