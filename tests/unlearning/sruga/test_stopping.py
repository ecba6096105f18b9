"""The stop rule ``match``: what it compares, when it stops, what it returns, what it costs."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from srun.data.dataset import Role
from srun.data.sequences import Queries
from srun.errors import ConfigError
from srun.metrics.forgetting import ks_distance, superiority
from srun.metrics.ranking import EventRanks
from srun.requests.partition import partition
from srun.system.meter import FORWARD_SHARE
from srun.unlearning import UNLEARNERS
from srun.unlearning.sruga.comparable import _Affinity, _gaps
from srun.unlearning.sruga.stopping import Match, StopRule, make_stop

SETTINGS = {"update": "all", "stop": "match", "learning_rate": 0.03, "batch_size": 64, "unlearn_dropout": False}
SETTINGS |= {
    "level": "pooled",
    "evaluate_every": 1,
    "retain_batch_size": 64,
    "kl_weight": 1.0,
    "finetune_weight": 0.5,
    "anneal": "none",
}
TUNE, VALIDATION = "forget_tune", "validation"


class Killed(BaseException):
    """Stands for the death of the process."""


@pytest.fixture(scope="module")
def learned(small, tmp_path_factory):
    """A world whose Original has learned its events by heart, so that there is something to forget."""
    log = small.log_of(np.random.default_rng(0).integers(60, size=(80, 9)).tolist())  # nothing else to learn
    data = small.make_data(log, calibration_users=0.2)
    return small.make_world(
        data, small.interactions_request(), tmp_path_factory.mktemp("w"), max_epochs=100, patience=100
    )


def ranked(ranks):
    events = np.arange(len(ranks))
    return EventRanks(events, events, ranks)


class Script:
    """A probe whose forget_tune ranks are given look by look; never-seen events keep theirs."""

    def __init__(self, world, shifts):
        self.real, self.shifts, self.num = world.probe(), list(shifts), len(world.request.queries(TUNE))
        self.looks = []

    def __call__(self, scorer, split, users=None):
        return {}

    def ranks(self, scorer, what):
        if isinstance(what, str):
            self.looks.append({k: v.clone() for k, v in scorer.model.state_dict().items()})
            return ranked(np.linspace(21, 60, self.num) + self.shifts.pop(0))
        return ranked(np.linspace(21, 60, len(what)))

    def positions(self, what, users=None):
        return self.real.positions(what, users)

    def queries(self, what, users=None):
        return self.real.queries(what, users)


def scripted(world, folder, shifts, **changes):
    settings = UNLEARNERS["sruga"](world_settings({**SETTINGS, "max_epochs": len(shifts) - 1, **changes}))
    probe = Script(world, shifts)
    return settings.unlearn(world.original, world.request, world.context(folder, probe=probe)), probe


def world_settings(changes):
    from tests.conftest import method_settings

    return method_settings("sruga", **changes)


def test_comparable_events_were_never_trained_on_and_are_alike(learned, tmp_path):
    request = learned.request
    rule, tune = Match(request, learned.context(tmp_path)), request.queries(TUNE)
    events = np.concatenate([queries.event for queries in rule.unseen])
    assert not request.forget[events].any()
    assert not request.retain[events].any()
    assert len(events) == 2 * len(rule.rows) >= 1.6 * len(tune)
    popularity = np.bincount(learned.data.item[request.retain], minlength=learned.data.num_items + 1)
    targets = np.concatenate([queries.target for queries in rule.unseen])
    assert abs(popularity[targets].mean() - popularity[tune.target[rule.rows]].mean()) < 0.7
    length = np.concatenate([queries.stop - queries.start for queries in rule.unseen])
    assert abs(length.mean() - (tune.stop - tune.start)[rule.rows].mean()) < 1


def test_a_validation_event_is_asked_across_the_gap_of_its_partner(small, tmp_path):
    log = small.log_of(np.random.default_rng(0).integers(60, size=(80, 9)).tolist())
    data = small.make_data(log)
    rows = [(f"u{user}", f"i{log[user * 9 + t][1][1:]}", t) for user in range(40) for t in (4, 5, 6)]
    file = small.write_request(tmp_path / "request.csv", rows)
    world = small.make_world(data, small.interactions_request(file=file), tmp_path)
    tune = world.request.queries(TUNE)
    assert _gaps(world.request, tune).tolist() == [0, 1, 2] * (len(tune) // 3)
    rule = Match(world.request, world.context(tmp_path))
    assert not len(rule.unseen[0])
    whole = {
        event: (start, stop) for event, start, stop in zip(*as_lists(world.request.queries(VALIDATION)), strict=True)
    }
    gaps = np.repeat(_gaps(world.request, tune)[rule.rows], 2)
    for event, start, stop, gap in zip(*as_lists(rule.unseen[1]), gaps.tolist(), strict=True):
        assert (start, stop) == (whole[event][0], whole[event][1] - gap)


def as_lists(queries):
    return queries.event.tolist(), queries.start.tolist(), queries.stop.tolist()


def test_a_look_reports_the_statistics_of_its_docstring(learned, tmp_path):
    rule, scorer = Match(learned.request, learned.context(tmp_path)), learned.original.scorer
    row, probe = rule.look(scorer, 0), learned.probe()
    forgotten = probe.ranks(scorer, TUNE).rank[rule.rows]
    others = np.concatenate([probe.ranks(scorer, queries).rank for queries in rule.unseen])
    assert row[f"{TUNE}/match_ks"] == ks_distance(forgotten, others)
    assert row[f"{TUNE}/match_better"] == superiority(forgotten, others)
    assert {k: row[k] for k in (f"{TUNE}/hit_10", f"{TUNE}/ndcg_10")} == probe(scorer, TUNE)


@pytest.mark.parametrize(
    ("shifts", "reason", "stopped_after", "epochs"),
    [
        ([-9, -6, -3, 3, 9], "match", 3, 2),  # the look before the crossing was nearer
        ([-9, -6, -4, 1, 9], "match", 3, 3),
        ([-12, -9, -6, -4, -1.5], "max_epochs", 4, 4),
        ([5, 0, 0, 0], "match", 0, 0),  # nothing is remembered to begin with: the original is the result
    ],
)
def test_stops_where_forgotten_events_rank_no_better_and_returns_the_nearest_look(
    learned, tmp_path, shifts, reason, stopped_after, epochs
):
    result, probe = scripted(learned, tmp_path, shifts)
    assert result.info == {"epochs": epochs, "stop": reason, "stopped_after": stopped_after}
    assert result.cost.epochs == epochs
    assert len(result.history) == stopped_after + 1
    for name, value in result.scorer.model.state_dict().items():
        assert torch.equal(value, probe.looks[epochs][name])


def test_it_ends_nearer_to_never_seen_events_than_the_original_is(learned, tmp_path):
    result = learned.run("sruga", tmp_path, **SETTINGS, max_epochs=30, ascent_weight=1.0)
    first, last = result.history[0], result.history[-1]
    assert result.info["stop"] == "match"
    assert first[f"{TUNE}/match_better"] > 0.6
    assert last[f"{TUNE}/match_better"] <= 0.5
    best = min(row[f"{TUNE}/match_ks"] for row in result.history)
    assert best < first[f"{TUNE}/match_ks"] / 2
    assert result.history[result.cost.epochs][f"{TUNE}/match_ks"] == best


def test_its_looks_are_a_cost_of_the_method(learned, tmp_path):
    probe, rule = learned.probe(), Match(learned.request, learned.context(tmp_path))
    seen = sum(probe.positions(what) for what in (TUNE, *rule.unseen))
    result, _ = scripted(learned, tmp_path / "a", [-9, -6, -4, -2])
    fixed = learned.run("sruga", tmp_path / "b", **{**SETTINGS, "stop": "fixed"}, max_epochs=3)
    assert result.cost.target_gradients - fixed.cost.target_gradients == pytest.approx(4 * seen * FORWARD_SHARE)
    asked = len(learned.request.queries(TUNE)) + sum(map(len, rule.unseen))
    assert result.cost.scored_positions - fixed.cost.scored_positions == 4 * asked
    early, _ = scripted(learned, tmp_path / "c", [-9, -3, -4, 9])
    assert early.cost.epochs == 1
    assert early.cost.seconds_patience > 0
    assert early.cost.target_gradients < fixed.cost.target_gradients


def test_a_killed_run_goes_on_to_the_same_bits(small, learned, tmp_path):
    settings = world_settings({**SETTINGS, "max_epochs": 12, "unlearn_dropout": True, "learning_rate": 0.003})
    method = UNLEARNERS["sruga"](settings)
    whole = method.unlearn(learned.original, learned.request, learned.context(tmp_path / "whole"))
    for kill_at in (2, whole.info["stopped_after"]):

        def kill(row, epoch, cap, at=kill_at):
            if epoch == at:
                raise Killed

        with pytest.raises(Killed):
            method.unlearn(learned.original, learned.request, learned.context(tmp_path / "killed", on_epoch=kill))
    again = method.unlearn(learned.original, learned.request, learned.context(tmp_path / "killed"))
    assert small.weight_bytes(again.scorer) == small.weight_bytes(whole.scorer)
    assert (again.history, again.info, again.cost.exact()) == (whole.history, whole.info, whole.cost.exact())


def test_without_a_tune_half_the_schedule_is_fixed(small, tmp_path):
    data = small.make_data(small.random_events(15, 20))
    world = small.make_world(data, small.interactions_request(), tmp_path)
    result = world.run("sruga", tmp_path, **SETTINGS, max_epochs=3)
    assert result.info == {"epochs": 3, "stop": "max_epochs"}


def test_without_calibration_users_validation_is_compared_with(small, tmp_path):
    data = small.make_data(small.random_events(60, 30))
    world = small.make_world(data, small.interactions_request(), tmp_path)
    rule = make_stop("match", 1, world.request, world.context(tmp_path))
    assert isinstance(rule, Match)
    assert len(rule.unseen[1]) > 0 == len(rule.unseen[0])


def test_events_set_aside_are_compared_with_where_there_are_any(small, tmp_path):
    data = small.make_data(small.random_events(60, 30), calibration_users=0.2, calibration_events=0.5)
    world = small.make_world(data, small.interactions_request(), tmp_path)
    rule = make_stop("match", 1, world.request, world.context(tmp_path))
    (partners,) = rule.unseen
    assert len(partners) == 2 * len(rule.rows) > 0
    assert set(partners.event) <= set(world.request.queries("set_aside").event)
    assert (data.role[partners.event] == Role.SET_ASIDE).all()


def test_affinity_is_the_sum_of_cosines_over_the_last_items(small):
    # users of 2: 0, 1, 2; of 3: 1, 2, 3; of 4: 3; the last two items of each are held out
    lists = [[2, 9, 9, 7, 8], [2, 3, 9, 7, 8], [3, 2, 2, 7, 8], [3, 4, 9, 7, 8], [9, 9, 9, 7, 8]]
    data = small.make_data(small.log_of(lists))
    numbers = {name: number + 1 for number, name in enumerate(data.items["item_id"])}
    file_request = partition(data, "r", small.interactions_request(share_of_users=1e-9))
    request = replace(file_request, removed=np.zeros(data.num_events, dtype=bool))
    item = {n: numbers[f"i{n}"] for n in (2, 3, 4, 9)}
    items = np.array([item[9], item[2], item[4], item[2], item[4]], dtype=np.int32)
    two = np.array([item[3], item[3]], dtype=np.int32)
    queries = Queries(items, np.array([0, 4]), np.array([4, 5]), two, np.array([0, 0]), np.array([0, 0]))
    both, one = 2 / 3, 1 / np.sqrt(3)  # cosines of 3 with 2 (two of three users) and with 4
    np.testing.assert_allclose(_Affinity(request)(queries), [both + one + both, one], rtol=1e-6)


def test_a_category_has_nothing_comparable(world_for, tmp_path):
    world = world_for("sruga", "category")
    with pytest.raises(ConfigError, match=r"unlearn\.sruga\.stop: match"):
        world.run("sruga", tmp_path, **SETTINGS, ascent="ga")
    assert isinstance(make_stop("fixed", 1, world.request, world.context(tmp_path)), StopRule)
