"""What is at hand before a request changes what it costs, and nothing that comes of it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from srun.data.dataset import Role
from srun.rng import Streams
from srun.unlearning import UNLEARNERS
from srun.unlearning.closed_form.prepared import prepare
from srun.unlearning.closed_form.retained import draw_windows, filled
from srun.unlearning.prepared import Known

CPU = torch.device("cpu")


@pytest.fixture
def world(aside_worlds):
    return aside_worlds["interactions"]


@pytest.fixture
def of_one_user(small, world):
    """The same world with a request of one user: most of what is prepared stays as it is."""
    data = world.data
    events = np.flatnonzero(data.has_role(Role.TRAIN))
    user = data.user[events[0]]
    removed = np.zeros(data.num_events, dtype=bool)
    removed[events[data.user[events] == user][2:4]] = True
    return replace(world, request=replace(world.request, removed=removed))


def carry_out(small, world, original, tmp_path, **settings):
    method = UNLEARNERS["closed_form"](small.method_settings("closed_form", retained_states=20, **settings))
    return method.unlearn(original, world.request, world.context(tmp_path))


@pytest.mark.parametrize("which", ["world", "of_one_user"])
def test_prepared_or_not_the_model_is_the_same(small, request, which, tmp_path):
    world = request.getfixturevalue(which)
    prepared = prepare(world.original.model, world.data, 20, 0, CPU)
    cold = carry_out(small, world, world.original, tmp_path)
    warm = carry_out(small, world, replace(world.original, prepared=prepared), tmp_path)
    for name, weight in warm.scorer.model.state_dict().items():
        torch.testing.assert_close(weight, cold.scorer.model.state_dict()[name], atol=1e-5, rtol=1e-4)
    assert warm.info == pytest.approx(cold.info, abs=1e-4)
    assert warm.cost.scored_positions < cold.cost.scored_positions
    assert warm.cost.target_gradients < cold.cost.target_gradients


def test_what_is_prepared_is_used(small, world, tmp_path):
    """Numbers that no model gave lead elsewhere: else the test above would compare one path with itself."""
    prepared = prepare(world.original.model, world.data, 20, 0, CPU)
    other = replace(prepared, aside=replace(prepared.aside, values=prepared.aside.values + 3))
    one, two = (
        carry_out(small, world, replace(world.original, prepared=given), tmp_path) for given in (prepared, other)
    )
    assert not torch.allclose(one.scorer.model.output_weight, two.scorer.model.output_weight, atol=1e-3)


def test_nothing_of_the_audit_half_is_prepared(world):
    prepared = prepare(world.original.model, world.data, 20, 0, CPU)
    mine = world.request.never_trained(audit=False).event
    assert set(prepared.aside.event.tolist()) >= set(mine.tolist())
    assert not set(prepared.aside.event.tolist()) & set(world.request.never_trained(audit=True).event.tolist())


def test_two_requests_draw_the_windows_that_they_share(world):
    data, training = world.data, world.data.has_role(Role.TRAIN)
    gone = np.flatnonzero(training)[5]
    retained = training & (np.arange(data.num_events) != gone)
    draws = [draw_windows(data, events, 20, Streams(0)["retained"]) for events in (training, retained)]
    assert [len(items) for items, _ in draws] == [20, 20]
    other = data.user != data.user[gone]
    kept = [{int(event) for event in last if other[event]} for _, last in draws]
    assert len(kept[0] & kept[1]) >= 18, "only windows of one user are others"
    for items, last in draws:
        assert (items[:, -1].numpy() == data.item[last.numpy()]).all()


def test_rows_are_known_by_their_event_and_all_of_their_items():
    known = Known.of(torch.tensor([7, 3]), torch.tensor([[1, 2], [3, 4]]), torch.tensor([0.7, 0.3]))
    values, asked = filled(
        torch.tensor([[3, 4], [9, 2], [1, 2], [1, 2]]),
        torch.tensor([3, 7, 7, 8]),
        known,
        lambda items: items.sum(1) * 10.0,
    )
    assert values.tolist() == pytest.approx([0.3, 110.0, 0.7, 30.0])
    assert asked.tolist() == [False, True, False, True]
