"""The space: what is drawn, what is left alone, and what the sampler is told of the method's own settings."""

import optuna
import pytest

from srun.config import build
from srun.errors import ConfigError
from srun.search.space import Choice, Range, Space


def draws(space, number=200):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [space.draw(study.ask()) for _ in range(number)]


def test_draws_lie_within_the_space_and_follow_its_conditions(toy):
    found = draws(toy.toy_space())
    ascents = [row["unlearn.toy.ascent"] for row in found]
    assert all(value == 0 or 0.01 <= value <= 3 for value in ascents)
    assert 50 < ascents.count(0) < 150, "on and off are as likely"
    assert all(row["unlearn.toy.kl"] > 0 for row in found)
    below = sum(row["unlearn.toy.kl"] < 0.173 for row in found)
    assert 70 < below < 130, "half of the draws lie below the geometric mean"
    for row in found:
        assert ("unlearn.toy.steps" in row) == (row["unlearn.toy.kind"] == "stepped")
        assert isinstance(row.get("unlearn.toy.steps", 1), int)


def test_own_settings_are_told_as_far_as_they_lie_within(toy):
    assert toy.toy_space().own_settings() == {
        "unlearn.toy.ascent.on": True,
        "unlearn.toy.ascent": 0.5,
        "unlearn.toy.kl": 1.0,
        "unlearn.toy.kind": "plain",
    }
    narrow = Range(low=2.0, high=3.0, scale="log", zero=True, when={})
    outside = toy.toy_space(ascent=narrow, kind=Choice(of=("stepped",), when={}))
    assert outside.own_settings() == {"unlearn.toy.kl": 1.0}
    off = Space("unlearn.toy", {"ascent": 0}, {"ascent": narrow})
    assert off.own_settings() == {"unlearn.toy.ascent.on": False}


def test_own_settings_have_no_overrides(toy):
    study = optuna.create_study()
    study.enqueue_trial(toy.toy_space().own_settings())
    trial = study.ask()
    assert toy.toy_space().keep(trial) == {}
    assert trial.params == toy.toy_space().own_settings()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"low": 3, "high": 2}, "not below"),
        ({"low": 0.0, "scale": "log"}, "above 0"),
        ({"low": 0.0, "zero": True}, "above 0"),
    ],
)
def test_impossible_ranges_are_refused(changes, said):
    values = {"low": 0.1, "high": 1.0, "scale": "linear", "zero": False, "when": {}, **changes}
    with pytest.raises(ConfigError, match=said):
        build(Range, values)


def test_unknown_keys_and_late_conditions_are_refused(toy):
    key = Range(low=0.1, high=1.0, scale="log", zero=False, when={})
    with pytest.raises(ConfigError, match=r'"unlearn.toy.asent"; did you mean "ascent"'):
        Space("unlearn.toy", toy.BASE, {"asent": key})
    with pytest.raises(ConfigError, match="nothing to search"):
        Space("unlearn.toy", toy.BASE, {})
    late = {"kl": Range(low=0.1, high=1.0, scale="log", zero=False, when={"kind": ("plain",)})}
    with pytest.raises(ConfigError, match='"kl" depends on "kind"'):
        Space("unlearn.toy", toy.BASE, {**late, "kind": Choice(of=("plain",), when={})})
    assert Space("unlearn.toy", toy.BASE, late).domains == late, "a key that is not searched may be a condition"
