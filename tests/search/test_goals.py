"""Objectives and constraints as words: read, bounded by references, and refused where they make no sense."""

import pytest

from srun.errors import ConfigError
from srun.search.goals import read_goal

ORIGINAL = {"validation/ndcg_10": 0.2, "forget_tune/hit_10": 0.4}
REFERENCES = {"original": ORIGINAL, "never_seen": {"forget_tune/hit_10": 0.1}}
PARETO = ["maximize validation/ndcg_10 from 0.5 of original", "minimize forget_tune/hit_10 from 1 of original"]
KEPT = "validation/ndcg_10 >= 0.95 of original"


def test_references_become_numbers():
    goal = read_goal([*PARETO, KEPT, "forget_tune/hit_10 <= 2 of never_seen"], REFERENCES)
    assert [objective.reference for objective in goal.objectives] == [0.1, 0.4]
    assert [constraint.bound for constraint in goal.constraints] == pytest.approx([0.19, 0.2])
    figures = {"validation/ndcg_10": 0.18, "forget_tune/hit_10": 0.05}
    assert goal.values(figures) == [0.18, 0.05]
    assert goal.violations(figures)[KEPT] == pytest.approx(0.01)
    assert goal.violations(figures)["forget_tune/hit_10 <= 2 of never_seen"] == pytest.approx(-0.15)


def test_hopeless_is_what_lost_its_utility_and_nothing_else():
    goal = read_goal(PARETO, REFERENCES)
    assert goal.hopeless({"validation/ndcg_10": 0.09, "forget_tune/hit_10": 0.0})
    assert not goal.hopeless({"validation/ndcg_10": 0.1, "forget_tune/hit_10": 0.9})
    assert not goal.hopeless({"epoch": 1})


def test_a_single_objective_pays_for_broken_constraints():
    goal = read_goal(["minimize forget_tune/hit_10 from 1", KEPT], REFERENCES)
    assert goal.score({"validation/ndcg_10": 0.19, "forget_tune/hit_10": 0.3}) == pytest.approx(0.3)
    assert goal.score({"validation/ndcg_10": 0.09, "forget_tune/hit_10": 0.3}) == pytest.approx(1.3)
    assert goal.score({"forget_tune/hit_10": 0.3}) is None
    up = read_goal(["maximize validation/ndcg_10 from 0", "forget_tune/hit_10 <= 0.1"], REFERENCES)
    assert up.score({"validation/ndcg_10": 0.2, "forget_tune/hit_10": 0.2}) == pytest.approx(-0.8)


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["maximise x from 1"], 'objective "maximise x from 1"'),
        (["minimize x"], "expected a name"),
        (["minimize x from 1.2.3"], "not a number"),
        (["minimize forget_tune/hit_10 from 1 of retrain"], 'no reference "retrain"'),
        (["minimize forget_tune/hit_1 from 1 of original"], 'did you mean "forget_tune/hit_10"'),
        (["x >= 1"], "at least one"),
        (["minimize x from 1", "maximize x from 2"], "each key once"),
    ],
)
def test_what_cannot_be_meant_is_refused(texts, said):
    with pytest.raises(ConfigError, match=said):
        read_goal(texts, REFERENCES)


def test_a_key_without_a_figure_is_named():
    goal = read_goal(["minimize validation/ndgc_10 from 1"], {})
    with pytest.raises(ConfigError, match=r'"validation/ndgc_10".*did you mean "validation/ndcg_10"'):
        goal.values(ORIGINAL)
    with pytest.raises(ConfigError, match="no figure"):
        goal.values({"validation/ndgc_10": float("nan")})
