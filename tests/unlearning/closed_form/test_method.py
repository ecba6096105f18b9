"""The closed form: what moves, what it reaches, and what is left alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from srun.data.dataset import training_windows
from srun.errors import DataError
from srun.evaluation.recovery import item_tables
from srun.models.scorer import Scorer, clone_model, untied_copy
from srun.rng import stream
from srun.unlearning.closed_form.levels import predict_level
from srun.unlearning.closed_form.method import ClosedFormConfig
from srun.unlearning.closed_form.rows import RowsConfig, in_order, move_rows
from srun.unlearning.closed_form.standing import (
    last_states,
    questions,
    sampled_items,
    score_at,
    standing,
)

CPU = torch.device("cpu")
SETTINGS = {"strength": 0.01, "ridge": 1.0, "damping": 0.01, "rounds": 3, "retained_states": 200}
MODELS = ("sasrec", "bert4rec", "gru4rec", "caser")


@pytest.fixture(scope="module", params=MODELS)
def trained(request, small, tmp_path_factory):
    """A world of each recommender, with events set aside."""
    data = small.make_data(small.random_events(60, 30), calibration_users=0.2, calibration_events=0.5)
    folder = tmp_path_factory.mktemp(request.param)
    return small.make_world(data, small.interactions_request(), folder, model=request.param)


def stands(model, items):
    """z_rank of events under a model."""
    return standing(last_states(model, items), model.output_weight[1:].detach(), items[:, -1])[0]


def untied(world):
    """The same world with an Original that scores by a table of its own."""
    return replace(world, original=replace(world.original, scorer=Scorer([untied_copy(world.original.model)])))


@pytest.mark.parametrize("tied", [True, False])
def test_only_rows_of_forgotten_items_move_in_the_one_table(trained, tied, tmp_path):
    world = trained if tied else untied(trained)
    before = {name: value.clone() for name, value in world.original.model.state_dict().items()}
    after = world.run("closed_form", tmp_path, **SETTINGS).scorer.model.state_dict()
    table = "embedding.weight" if tied else "output.weight"
    assert [name for name, value in after.items() if not torch.equal(value, before[name])] == [table]
    rows = (after[table] != before[table]).any(1).nonzero()[:, 0].tolist()
    assert rows == sorted(set(world.request.forget_queries().target.tolist()))


@pytest.mark.parametrize("tied", [True, False])
def test_events_come_near_the_levels_that_are_wanted(trained, tied):
    model = clone_model(trained.original.model) if tied else untied_copy(trained.original.model)
    items = questions(trained.request.forget_queries(), trained.data.max_length)
    windows = torch.from_numpy(training_windows(trained.data, trained.request.retain).items.astype("int64"))
    before = stands(model.eval(), items)
    wanted = before - 1.0
    move_rows(model, items, wanted, windows, RowsConfig(**SETTINGS), stream(0, "sample"))
    missed = (stands(model, items).sort().values - wanted.sort().values).abs().mean()
    assert missed < 0.5


def test_a_row_is_the_one_that_solves_its_equation():
    """One forgotten item, two events, no other cost than the damping: worked with plain matrices."""

    class Table(torch.nn.Module):
        """Its state is the embedding of the last item."""

        def __init__(self):
            super().__init__()
            self.num_items, self.output = 60, torch.nn.Embedding(61, 4)
            self.settings = type("Settings", (), {"hidden": 4})
            self.inputs = torch.randn(61, 4, generator=torch.Generator().manual_seed(1))

        output_table = property(lambda self: self.output.weight)
        output_weight = property(lambda self: self.output.weight)

        def prediction_inputs(self, histories):
            return histories

        def last_state(self, histories):
            return self.inputs[histories[:, -1]]

    model = Table()
    before = model.output_weight.detach().clone()
    items = torch.tensor([[3, 7], [4, 7]])
    wanted = torch.tensor([1.0, -1.0])
    windows = torch.tensor([[5, 6], [8, 9], [10, 11]])
    settings = RowsConfig(strength=0.5, ridge=0.0, damping=1.0, rounds=1, retained_states=3)
    move_rows(model, items, wanted, windows, settings, stream(0, "sample"))
    h, kept = model.inputs[[3, 4]], model.inputs[[5, 8, 10]]
    target = score_at(h, before[1:], wanted, sampled_items(60, stream(0, "sample")))
    p = (kept @ before[1:].T).softmax(1)[:, 6]
    own = (((p * (1 - p)) ** 0.5)[:, None, None] * kept[:, :, None] * kept[:, None]).sum(0)
    size = (kept**2).mean()
    cost = own / own.diagonal().mean() * size + size * torch.eye(4)
    expected = torch.linalg.solve(0.5 * cost + h.T @ h, h.T @ (target - h @ before[7]))
    torch.testing.assert_close(model.output_weight[7] - before[7], expected, rtol=1e-3, atol=1e-4)
    others = torch.arange(61) != 7
    assert torch.equal(model.output_weight[others], before[others])


def test_further_rounds_keep_the_levels_and_take_the_order_that_was_reached():
    found = in_order(torch.tensor([0.3, -1.0, 2.0]), torch.tensor([5.0, 9.0, 7.0]))
    assert found.tolist() == [7.0, 5.0, 9.0]


CHANGES = {
    "level_from": "retained",
    "strength": 10.0,
    "ridge": 5.0,
    "damping": 5.0,
    "rounds": 1,
    "retained_states": 20,
}


@pytest.mark.parametrize("field", list(ClosedFormConfig.__dataclass_fields__))
def test_every_setting_changes_the_result(small, aside_worlds, tmp_path, field):
    world = aside_worlds["interactions"]
    one, two = (
        small.weight_bytes(world.run("closed_form", tmp_path, **changes).scorer)
        for changes in ({}, {field: CHANGES[field]})
    )
    assert one != two


def weight_of(scorer):
    return scorer.model.output_weight.detach()


def test_one_event_is_forgotten_too(small, aside_worlds, tmp_path):
    world = aside_worlds["interactions"]
    queries = world.request.forget_queries()
    event = int(queries.event[0])
    user, item = world.data.user[event], world.data.item[event]
    row = (world.data.users["user_id"][user], world.data.items["item_id"][item - 1], world.data.time[event])
    file = small.write_request(tmp_path / "one.csv", [row])
    request = small.carry_out(world.data, small.interactions_request(file=file))
    assert request.forget.sum() == 1
    model = replace(world, request=request).run("closed_form", tmp_path).scorer.model
    rows = (model.output_weight != world.original.model.output_weight).any(1).nonzero()[:, 0].tolist()
    assert rows == [item]


def test_a_chain_of_requests_forgets_each_and_needs_no_erased_row(small, tmp_path):
    """The second request starts from the first one's model and from a table without the first one's rows."""
    data = small.make_data(small.random_events(60, 30), calibration_users=0.2, calibration_events=0.5)
    world = small.make_world(data, small.interactions_request(share_of_users=0.3), tmp_path)
    first = world.run("closed_form", tmp_path / "1", **SETTINGS).scorer
    forgotten = world.request.forget
    file = tmp_path / "two.csv"
    other = small.carry_out(data, small.interactions_request(share_of_users=0.3, seed=5))
    events = np.flatnonzero(other.forget | forgotten)  # a chain: what was forgotten stays forgotten
    ids = data.users["user_id"].to_numpy()[data.user[events]], data.items["item_id"].to_numpy()[data.item[events] - 1]
    both = small.carry_out(
        data,
        small.interactions_request(
            file=small.write_request(file, list(zip(*ids, data.time[events].tolist(), strict=True)))
        ),
    )
    table = world.original.crossfit
    original = replace(world.original, scorer=Scorer([first.model]), crossfit=table)
    second = replace(world, original=original, request=both).run("closed_form", tmp_path / "2", **SETTINGS).scorer
    gone = table.without(both.forget)
    assert np.isnan(gone.z[both.forget]).all()
    changed = weight_of(second) != weight_of(first)
    assert changed.any(1).nonzero()[:, 0].tolist() == sorted(set(both.forget_queries().target.tolist()))
    third = small.carry_out(data, small.interactions_request(share_of_users=0.3, seed=9))
    with pytest.raises(DataError, match="erased from it"):  # it names events that are gone already
        predict_level(second.model, both, gone, 0, CPU)
    assert np.isfinite(gone.z[third.forget & ~both.forget]).all()


def test_the_unlearned_file_holds_no_row_of_the_original_for_a_forgotten_item(trained, tmp_path):
    """Tied: scored by any table of the file, forgotten items are no longer where Original has them."""
    before = item_tables(trained.original.model)["input"]
    after = item_tables(trained.run("closed_form", tmp_path, **SETTINGS).scorer.model)
    assert list(after) == ["input"]
    rows = np.unique(trained.request.forget_queries().target) - 1
    assert (after["input"][rows] != before[rows]).any(1).all()
