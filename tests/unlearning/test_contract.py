"""What every way to unlearn must keep, whichever it is."""

import contextlib

import pytest
import torch

from srun.unlearning import UNLEARNERS

CASES = [(name, kind) for name in UNLEARNERS for kind in UNLEARNERS[name].kinds]


def all_scores(scorer, data):
    histories = torch.arange(1, 1 + 4 * data.max_length).reshape(4, -1) % data.num_items + 1
    return scorer.scores(histories, torch.arange(4))


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_the_original_keeps_its_bytes(small, tmp_path, world_for, name, kind):
    world = world_for(name, kind)
    before = small.weight_bytes(world.original.scorer)
    scores = all_scores(world.original.scorer, world.data)
    world.run(name, tmp_path)
    assert small.weight_bytes(world.original.scorer) == before
    assert torch.equal(all_scores(world.original.scorer, world.data), scores)
    assert world.original.scorer.masked is None
    assert world.original.scorer.catalogue is None


@pytest.mark.parametrize("name", UNLEARNERS)
def test_the_same_seed_gives_the_same_result(small, tmp_path, world_for, name):
    world = world_for(name)
    torch.manual_seed(1)
    one = world.run(name, tmp_path / "a")
    torch.manual_seed(2)
    two = world.run(name, tmp_path / "b")
    assert small.weight_bytes(one.scorer) == small.weight_bytes(two.scorer)
    assert one.history == two.history
    assert one.cost.exact() == two.cost.exact()
    assert one.info == two.info


@pytest.mark.parametrize("name", [n for n in UNLEARNERS if UNLEARNERS[n].from_scratch])
def test_another_seed_gives_another_model(small, tmp_path, world_for, name):
    world = world_for(name)
    one, two = (small.weight_bytes(world.run(name, tmp_path / str(s), seed=s).scorer) for s in (0, 1))
    assert one != two


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_scores_are_finite_except_where_nothing_may_be_shown(tmp_path, world_for, name, kind):
    world = world_for(name, kind)
    scorer = world.run(name, tmp_path).scorer
    scores = all_scores(scorer, world.data)[:, 1:]
    assert not scores.isnan().any()
    assert not (scores == float("inf")).any()
    forbidden = torch.zeros_like(scores, dtype=torch.bool)
    if scorer.catalogue is not None:
        forbidden |= ~scorer.catalogue[1:]
    for user, item in [] if scorer.masked is None else scorer.masked.tolist():
        if user < 4:
            forbidden[user if user >= 0 else slice(None), item - 1] = True
    assert torch.equal(torch.isneginf(scores), forbidden)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_only_what_is_trained_from_scratch_has_items_without_a_score(tmp_path, world_for, name, kind):
    world = world_for(name, kind)
    scorer = world.run(name, tmp_path).scorer
    if UNLEARNERS[name].from_scratch and world.request.catalogue is not None:
        assert scorer.catalogue.tolist() == world.request.catalogue.tolist()
    else:
        assert scorer.catalogue is None


@pytest.mark.parametrize("name", UNLEARNERS)
def test_cost_is_counted_in_whole_or_third_positions(tmp_path, world_for, name):
    cost = world_for(name).run(name, tmp_path).cost
    assert cost.target_gradients >= 0
    assert abs(cost.target_gradients * 3 - round(cost.target_gradients * 3)) < 1e-6
    assert cost.target_gradients > 0 or cost.steps == 0  # attribution takes gradients and no step
    assert cost.seconds >= 0


@pytest.mark.parametrize("name", UNLEARNERS)
def test_a_killed_run_goes_on_to_the_same_result(small, tmp_path, world_for, name):
    world = world_for(name)
    expected = world.run(name, tmp_path / "whole")

    class Killed(BaseException):
        pass

    def kill(row, epoch, cap):
        if epoch == 2:
            raise Killed

    method = UNLEARNERS[name](small.method_settings(name))
    context = world.context(tmp_path / "killed", on_epoch=kill)
    with contextlib.suppress(Killed):
        method.unlearn(world.original, world.request, context)
    again = method.unlearn(world.original, world.request, world.context(tmp_path / "killed"))
    assert small.weight_bytes(again.scorer) == small.weight_bytes(expected.scorer)
    assert again.history == expected.history
    assert again.cost.exact() == expected.cost.exact()
