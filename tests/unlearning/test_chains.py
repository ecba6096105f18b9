"""Methods called in sequence: each goes on from the last one's model, and knows nothing of what is forgotten."""

from dataclasses import replace

import numpy as np
import pytest

from srun.data.dataset import Role
from srun.models.scorer import Scorer
from srun.unlearning.closed_form.standing import last_states, questions, standing

SRUGA = {"level": "by_event", "ascent": "level", "update": "all", "max_steps": 4, "retain_sample": None}
METHODS = {"closed_form": {}, "sruga": SRUGA, "retrain": {}, "finetune_only": {}}
KINDS = ("interactions", "users")


@pytest.fixture(scope="module", params=KINDS)
def chain(request, small, tmp_path_factory):
    """An Original, and two requests of which the second comes after the first."""
    data = small.make_data(small.random_events(60, 30), calibration_users=0.2, calibration_events=0.5)
    drawn = {"interactions": small.interactions_request, "users": small.users_request}[request.param]
    world = small.make_world(data, drawn(share_of_users=0.3), tmp_path_factory.mktemp("world"))
    june = small.carry_out(data, drawn(share_of_users=0.3, seed=5), "june", world.request)
    return world, june


def carry_out(world, request, scorer, table, method, folder, **settings):
    """One request by one method, from a model and a table."""
    original = replace(world.original, scorer=scorer, crossfit=table)
    return replace(world, original=original, request=request).run(method, folder, **settings).scorer


@pytest.mark.parametrize("method", METHODS)
def test_the_second_request_does_not_depend_on_what_the_first_erased(small, chain, method, tmp_path):
    """Whatever items the erased events had, the same bits come out; and something else where a retained one had it."""
    world, june = chain
    first = world.run(method, tmp_path / "1", **METHODS[method]).scorer
    table = world.original.crossfit.without(world.request.gone)
    assert np.isnan(table.z[world.request.forget]).all()

    def second(name, events):
        item = june.data.item.copy()
        item[events] = np.roll(item[events], 1)
        request = replace(june, data=replace(june.data, item=item))
        scorer = carry_out(world, request, first, table, method, tmp_path / name, **METHODS[method])
        return small.weight_bytes(scorer)

    as_it_was = second("2", np.zeros(june.data.num_events, dtype=bool))
    assert second("3", june.data.role == Role.FORGOTTEN) == as_it_was
    assert second("4", june.retain) != as_it_was


def test_the_second_request_moves_its_own_events_and_no_row_of_others(chain, tmp_path):
    world, june = chain
    first = world.run("closed_form", tmp_path / "1").scorer
    second = carry_out(world, june, first, world.original.crossfit, "closed_form", tmp_path / "2")
    moved = (second.model.output_weight != first.model.output_weight).any(1).nonzero()[:, 0].tolist()
    assert moved == sorted(set(june.forget_queries().target.tolist()))


def test_old_events_stay_forgotten(small, tmp_path):
    """Where an Original knows its log by heart: a second request brings back nothing of what the first one took."""
    data, drawn = small.chained_data(), small.interactions_request
    world = small.make_world(data, drawn(share_of_users=0.3), tmp_path, max_epochs=30, learning_rate=0.005)
    june = small.carry_out(data, drawn(share_of_users=0.3, seed=5), "june", world.request)
    retained = {"level_from": "retained"}  # there are no cross-fitted models of this log
    first = world.run("closed_form", tmp_path / "1", **retained).scorer
    second = carry_out(world, june, first, None, "closed_form", tmp_path / "2", **retained)
    items = questions(june.queries("forgotten_earlier"), data.max_length)

    def stands(scorer: Scorer) -> float:
        model = scorer.model
        return float(standing(last_states(model, items), model.output_weight[1:].detach(), items[:, -1])[0].mean())

    original, once, twice = (stands(one) for one in (world.original.scorer, first, second))
    assert original - once > 0.5
    assert twice - once < 0.2 * (original - once)


def test_retrain_of_a_chain_is_retrain_of_all_it_forgot_at_once(small, chain, tmp_path):
    """Were both requests one, its Retrain would have the same bits."""
    world, june = chain
    both = world.request.forget | june.forget
    users = world.data.users["user_id"].to_numpy()[world.data.user[both]]
    items = world.data.items["item_id"].to_numpy()[world.data.item[both] - 1]
    rows = list(zip(users, items, world.data.time[both].tolist(), strict=True))
    file = small.write_request(tmp_path / "both.csv", rows)
    given = {"interactions": small.interactions_request, "users": small.users_request}[june.kind]
    at_once = small.carry_out(world.data, given(file=file))
    assert (at_once.retain == june.retain).all()
    one = carry_out(world, june, world.original.scorer, None, "retrain", tmp_path / "1", seed=3)
    two = carry_out(world, at_once, world.original.scorer, None, "retrain", tmp_path / "2", seed=3)
    assert small.weight_bytes(one) == small.weight_bytes(two)
