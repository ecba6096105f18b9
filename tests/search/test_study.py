"""The loop: an exact number of trials, whatever happens to workers; a front as good as a grid's; studies that go on."""

import json
import os
import signal
import time

import numpy as np
import pytest

from srun.errors import ConfigError, RunError
from srun.search.front import hypervolume
from srun.search.results import importances, read_study
from srun.search.storage import open_storage
from srun.search.study import (
    MAX_FAILURES,
    LimitsConfig,
    Search,
    load_study,
    num_finished,
    open_study,
)


@pytest.fixture
def place(tmp_path):
    return str(tmp_path / "folder" / "s.journal")


@pytest.fixture
def begin(toy, place):
    """A worker on a study in the journal, in this process."""

    def begin(sampler="random", limits=toy.LIMITS, texts=(), name="s", goal=None, about=None):
        from srun.search.results import describe_goal

        goal = goal or toy.toy_goal(*texts)
        study = open_study(open_storage(place), name, goal, about or {"goal": describe_goal(goal)})
        return Search(study, toy.toy_space(), goal, limits, sampler, 0)

    return begin


def plain(toy):
    return lambda overrides, tell: toy.toy(overrides)


def test_trial_0_has_the_own_settings_and_the_command_goes_on(toy, begin):
    assert begin().run(plain(toy), 3, None)
    assert begin().run(plain(toy), 5, None)
    assert begin().run(plain(toy), 5, None), "nothing is left to do"
    result = read_study(begin().study)
    assert [trial.state for trial in result.trials] == ["complete"] * 5
    assert result.trials[0].own_settings
    assert result.trials[0].overrides == {}
    assert result.trials[0].values == (toy.toy({})["utility"], toy.toy({})["forget"])
    assert not any(trial.own_settings for trial in result.trials[1:])
    assert len({json.dumps(trial.overrides) for trial in result.trials}) == 5, "no draw is repeated"


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "nsga3", "gp", "random"])
def test_a_study_that_was_interrupted_draws_what_it_would_have_drawn(toy, begin, sampler):
    begin(sampler, name="whole").run(plain(toy), 6, None)
    for number in (2, 6):
        begin(sampler, name="parts").run(plain(toy), number, None)
    whole, parts = (
        [trial.params for trial in begin(name=name).study.get_trials(deepcopy=False)] for name in ("whole", "parts")
    )
    assert whole == parts


def test_a_study_begun_otherwise_is_refused(toy, begin, place):
    begin(about={"goal": 1, "data": "a"})
    with pytest.raises(ConfigError, match='"s" was begun with another value of data'):
        begin(about={"goal": 1, "data": "b"})
    with pytest.raises(RunError, match='no study "t" in this storage; there is s'):
        load_study(open_storage(place), "t")


def test_failed_trials_are_made_up_for_and_too_many_in_a_row_end_the_worker(toy, begin):
    calls = []

    def sometimes(overrides, tell):
        calls.append(overrides)
        if len(calls) % 3 == 0:
            raise RunError("a loss is not a number")
        return toy.toy(overrides)

    worker = begin()
    assert worker.run(sometimes, 6, None)
    states = [trial.state for trial in read_study(worker.study).trials]
    assert states.count("complete") == 6
    assert states.count("failed") == 2

    def never(overrides, tell):
        raise RunError("out of memory")

    with pytest.raises(RunError, match=f"{MAX_FAILURES} trials in a row failed, the last one so: out of memory"):
        begin().run(never, 20, None)
    assert read_study(worker.study).trials[-1].why == "out of memory"

    limits = LimitsConfig(trial=0.05, beat=0.5, silence=2.0, poll=0.05)
    with pytest.raises(RunError, match=r"the last one so: took longer than optimize\.limits\.trial = 0\.05 s"):
        begin(limits=limits).run(lambda overrides, tell: time.sleep(9), 20, None)


def test_the_time_limit_stands_still_while_the_storage_is_written(toy, begin, monkeypatch):
    """An error in the middle of a write would leave the journal locked."""
    from optuna.trial import Trial

    from srun.search.goals import read_goal

    report = Trial.report

    def slow(self, value, step):
        time.sleep(0.6)
        report(self, value, step)

    monkeypatch.setattr(Trial, "report", slow)

    def told(overrides, tell):
        tell({"epoch": 1.0, **toy.toy(overrides)})
        return toy.toy(overrides)

    goal = read_goal(["minimize forget from 1"], {})
    worker = begin(limits=LimitsConfig(trial=0.4, beat=0.5, silence=9.0, poll=0.05), goal=goal)
    assert worker.run(told, 1, None)
    assert [trial.state for trial in read_study(worker.study).trials] == ["complete"]


def test_own_settings_that_failed_are_tried_again(toy, begin):
    calls = []

    def first_fails(overrides, tell):
        calls.append(overrides)
        if len(calls) == 1:
            raise RunError("no")
        return toy.toy(overrides)

    worker = begin()
    worker.run(first_fails, 2, None)
    assert [(t.state, t.own_settings) for t in read_study(worker.study).trials] == [
        ("failed", True),
        ("complete", True),
        ("complete", False),
    ]


def test_a_hanging_trial_is_ended_by_its_limit(toy, begin):
    calls = []

    def hangs_once(overrides, tell):
        calls.append(overrides)
        if len(calls) == 2:
            time.sleep(60)
        return toy.toy(overrides)

    worker = begin(limits=LimitsConfig(trial=0.3, beat=0.1, silence=1.0, poll=0.05))
    began = time.monotonic()
    assert worker.run(hangs_once, 3, None)
    assert time.monotonic() - began < 10
    failed = [trial for trial in read_study(worker.study).trials if trial.state == "failed"]
    assert [trial.why for trial in failed] == ["took longer than optimize.limits.trial = 0.3 s"]


def test_no_trial_begins_after_the_timeout(toy, begin):
    def slow(overrides, tell):
        time.sleep(0.1)
        return toy.toy(overrides)

    worker = begin()
    assert not worker.run(slow, 1000, 0.5)
    assert 1 <= len(worker.study.trials) <= 6


def test_ctrl_c_leaves_a_usable_study(toy, begin):
    def interrupted(overrides, tell):
        if overrides:
            raise KeyboardInterrupt
        return toy.toy(overrides)

    with pytest.raises(KeyboardInterrupt):
        begin().run(interrupted, 4, None)
    worker = begin()
    assert worker.run(plain(toy), 4, None)
    assert sorted(trial.state for trial in read_study(worker.study).trials) == ["complete"] * 4 + ["failed"]


def test_hopeless_trials_are_discarded_and_count(toy, begin):
    def collapses(overrides, tell):
        figures = toy.toy(overrides)
        if overrides:
            tell({"epoch": 1, **figures, "utility": 0.1})
        return figures

    worker = begin()
    assert worker.run(collapses, 4, None)
    result = read_study(worker.study)
    assert [trial.state for trial in result.trials] == ["complete", "discarded", "discarded", "discarded"]
    assert [trial.number for trial in result.front] == [0]
    assert result.num_finished == 4


def test_single_objectives_prune_what_is_worse_than_the_median(toy, begin):
    from srun.search.goals import read_goal

    def by_epochs(overrides, tell):
        figures = toy.toy(overrides)
        for epoch in range(1, 4):
            tell({"epoch": epoch, "forget": figures["forget"]})
        return figures

    worker = begin(goal=read_goal(["minimize forget from 1"], {}))
    worker.run(by_epochs, 30, None)
    result = read_study(worker.study)
    pruned = [trial for trial in result.trials if trial.state == "discarded"]
    assert 3 <= len(pruned) <= 20
    complete = [trial.figures["forget"] for trial in result.trials if trial.state == "complete"]
    assert all(len(trial.history) == 2 for trial in pruned), "not before the first look is over"
    assert min(trial.figures["forget"] for trial in pruned) > min(complete)


def test_constraints_keep_trials_off_the_front(toy, begin):
    worker = begin(texts=["utility >= 0.8"])
    worker.run(plain(toy), 30, None)
    result = read_study(worker.study)
    assert any(not trial.feasible for trial in result.trials)
    assert result.front
    assert all(trial.figures["utility"] >= 0.8 for trial in result.front)


def test_exact_number_with_six_workers_one_killed(toy, place):
    workers = [toy.start(place, "s", 30, 0.05) for _ in range(6)]
    toy.wait_for(lambda: num_finished(toy.count(place, "s")) >= 8)
    os.kill(workers[0].pid, signal.SIGKILL)
    assert toy.ends_of(workers) == [-signal.SIGKILL, 0, 0, 0, 0, 0]
    states = toy.count(place, "s")
    assert states["COMPLETE"] == 30
    assert not states["RUNNING"]
    assert not states["WAITING"]
    trials = load_study(open_storage(place), "s").trials
    assert sum(trial.user_attrs.get("own_settings", False) and trial.state.name == "COMPLETE" for trial in trials) == 1


def test_a_killed_only_worker_costs_one_attempt(toy, begin, place):
    worker = toy.start(place, "s", 10, 0.3)
    toy.wait_for(lambda: num_finished(toy.count(place, "s")) >= 2)
    os.kill(worker.pid, signal.SIGKILL)
    assert toy.ends_of([worker, toy.start(place, "s", 10, 0.01)]) == [-signal.SIGKILL, 0]
    states = toy.count(place, "s")
    assert states["COMPLETE"] == 10
    assert states["FAIL"] <= 1


def grid(toy, number):
    """Every combination of a dense grid, number values an axis."""
    axes = np.geomspace(0.01, 3, number)
    rows = [(0.0, kl) for kl in axes] + [(ascent, kl) for ascent in axes for kl in axes]
    settings = [{"unlearn.toy.ascent": a, "unlearn.toy.kl": k, "unlearn.toy.kind": "plain"} for a, k in rows]
    steps = [{**one, "unlearn.toy.kind": "stepped", "unlearn.toy.steps": s} for one in settings for s in range(1, 10)]
    return [toy.toy(one) for one in settings + steps]


def test_the_front_is_as_good_as_a_dense_grids_with_a_tenth_of_its_trials(toy, begin):
    found = grid(toy, 8)  # 720 trials
    reference = np.array([-0.2, 1.0])
    best = hypervolume(np.array([[-one["utility"], one["forget"]] for one in found]), reference)
    worker = begin("tpe")
    worker.run(plain(toy), len(found) // 10, None)
    result = read_study(worker.study)
    assert len(result.feasible) <= len(found) // 10
    assert result.hypervolumes[-1] >= 0.95 * best
    shares = importances(worker.study, result.goal)
    assert all(sum(share.values()) == pytest.approx(1) for share in shares)


def test_discarding_hopeless_trials_does_not_change_the_front(toy, begin):
    """The same draws with and without the rule, of curves that fall with noise: less work, the same hypervolume."""
    epochs = {}

    def by_epochs(rule):
        def evaluate(overrides, tell):
            values = {"unlearn.toy.ascent": 0.5, **overrides}
            rng = np.random.default_rng(int(values["unlearn.toy.ascent"] * 1e6))
            for epoch in range(1, 6):
                share = {**overrides, "unlearn.toy.ascent": values["unlearn.toy.ascent"] * epoch / 3}
                figures = toy.toy(share)
                figures["utility"] += rng.normal(0, 0.02)
                epochs[rule] = epochs.get(rule, 0) + 1
                if rule:
                    tell({"epoch": epoch, **figures})
            return figures

        return evaluate

    volumes = {}
    for rule in (True, False):
        worker = begin(name=f"rule-{rule}")
        worker.run(by_epochs(rule), 60, None)
        volumes[rule] = read_study(worker.study).hypervolumes[-1]
    assert epochs[True] < 0.95 * epochs[False]
    assert volumes[True] == pytest.approx(volumes[False], rel=0.01)
