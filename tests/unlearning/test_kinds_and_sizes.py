"""Levels by event for every kind of request, from one event to a third of the users, for every recommender."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch

from srun.data.dataset import Role
from srun.models import MODELS
from srun.unlearning.closed_form.levels import predict_level
from srun.unlearning.closed_form.standing import last_states, standing

CPU = torch.device("cpu")
METHODS = {"closed_form": {}, "sruga": {"ascent": "level", "max_steps": 12, "batch_size": 64, "retain_batch_size": 32}}
CATEGORIES = {f"i{item}": "rare" if item == 29 else ["red", "green", ""][item % 3] for item in range(30)}
SIZES = ("one event", "one user", "a third of the users")
CASES = [case for case in product(("interactions", "users", "category"), SIZES) if case != ("users", "one event")]


@pytest.fixture(scope="module", params=list(MODELS))
def world(request, small, tmp_path_factory):
    data = small.make_data(small.random_events(60, 30), CATEGORIES, calibration_events=0.5)
    return small.make_world(data, small.interactions_request(), tmp_path_factory.mktemp("world"), model=request.param)


def carry_out(small, data, kind, size, folder):
    """A request of a kind and a size, given in a file."""
    train = np.flatnonzero(data.role == Role.TRAIN)
    users = data.users["user_id"].to_numpy()
    chosen = {"one event": [3], "one user": [3], "a third of the users": list(range(0, data.num_users, 3))}[size]
    if kind == "category":
        categories = ("rare",) if size == "one event" else ("red",)
        named = [users[user] for user in chosen]
        if size == "one event":
            named = [users[user] for user in single_events(data, "rare")[:1]]
        return small.carry_out(data, small.category_request(named, categories=categories, catalogue="full"))
    if kind == "users":
        file = small.write_request(folder / "r.csv", [(users[user],) for user in chosen], "user_id")
        return small.carry_out(data, small.users_request(file=file))
    events = np.concatenate([train[data.user[train] == user][2 : 3 if size == "one event" else 5] for user in chosen])
    items = data.items["item_id"].to_numpy()[data.item[events] - 1]
    rows = list(zip(users[data.user[events]], items, data.time[events].tolist(), strict=True))
    return small.carry_out(data, small.interactions_request(file=small.write_request(folder / "r.csv", rows)))


def single_events(data, category):
    """Users with one training event in a category, which is not their first."""
    train = data.role == Role.TRAIN
    inside = train & data.categories[category][data.item]
    first = np.unique(data.user[train], return_index=True)[1]
    inside_first = inside[np.flatnonzero(train)[first]]
    return np.flatnonzero((np.bincount(data.user[inside], minlength=data.num_users) == 1) & ~inside_first)


def missed(level, scorer):
    """How far events stand from their levels, in the order in which they stand: mean absolute difference."""
    model = scorer.model
    z = standing(last_states(model, level.items), model.output_weight[1:].detach(), level.items[:, -1])[0]
    return float((z.sort().values - level.wanted.sort().values).abs().mean())


@pytest.mark.parametrize(("kind", "size"), CASES)
@pytest.mark.parametrize("method", METHODS)
def test_every_kind_and_size_is_carried_out(small, world, method, kind, size, tmp_path):
    """Events come nearer to their levels where there are many; a few of a tiny model move with the rows of others."""
    request = carry_out(small, world.data, kind, size, tmp_path)
    world = replace(world, request=request)
    level = predict_level(world.original.model, request, world.original.crossfit, 0, CPU)
    assert len(level.wanted) == len(request.forget_queries()) >= 1
    scorer = world.run(method, tmp_path, **METHODS[method]).scorer
    assert all(torch.isfinite(weight).all() for weight in scorer.model.state_dict().values())
    if size == "a third of the users" or (method == "closed_form" and size == "one event"):
        # no nearer than half of what is not known of the level: a tiny world has 16 events to learn it from
        unknown = level.info["level_standard_error"] / 2
        assert missed(level, scorer) < missed(level, world.original.scorer) + unknown
    moved = (scorer.model.output_weight != world.original.model.output_weight).any(1)
    assert moved[request.forget_queries().target].all()


@pytest.mark.parametrize(("kind", "size"), CASES)
def test_sizes_are_what_they_are_called(small, kind, size, tmp_path):
    request = carry_out(small, small.make_data(small.random_events(60, 30), CATEGORIES), kind, size, tmp_path)
    users = int(request.affected.sum())
    assert users == 1 if size != "a third of the users" else 8 <= users <= 20
    assert (request.forget.sum() == 1) == (size == "one event")
