"""The output mask: the forgotten items are never shown, nothing else changes."""

import numpy as np
import torch


def every_score(scorer, data):
    histories = torch.ones(data.num_users, data.max_length, dtype=torch.int64)
    return scorer.scores(histories, torch.arange(data.num_users))[:, 1:].numpy()


def test_of_interactions_a_users_forgotten_items_for_that_user(tmp_path, world):
    data, request = world.data, world.request
    result = world.run("output_mask", tmp_path)
    masked = np.isneginf(every_score(result.scorer, data))
    expected = np.zeros_like(masked)
    expected[data.user[request.forget], data.item[request.forget] - 1] = True
    assert (masked == expected).all()
    plain = every_score(world.original.scorer, data)
    assert (every_score(result.scorer, data)[~expected] == plain[~expected]).all()
    assert result.cost.exact() == {"epochs": 0, "steps": 0, "target_gradients": 0.0, "scored_positions": 0}


def test_of_a_category_its_items_for_everybody(tmp_path, worlds):
    world = worlds["category", False]
    masked = np.isneginf(every_score(world.run("output_mask", tmp_path).scorer, world.data))
    red = world.data.categories["red"][1:]
    assert red.any()
    assert (masked == red[None, :]).all()


def test_of_a_category_of_some_users_all_its_items_for_those(small, tmp_path, coloured, worlds):
    named = (3, 10)
    request = small.category_request(users=tuple(coloured.users["user_id"][list(named)]))
    made = small.carry_out(coloured, request)
    world = worlds["category", False].__class__(coloured, made, worlds["category", False].original)
    masked = np.isneginf(every_score(world.run("output_mask", tmp_path).scorer, coloured))
    red = coloured.categories["red"][1:]
    assert (masked[list(named)] == red).all()


def test_hit_on_the_forget_set_is_nothing(tmp_path, world):
    scorer = world.run("output_mask", tmp_path).scorer
    assert world.probe()(scorer, "forget_tune")["forget_tune/hit_10"] == 0.0
