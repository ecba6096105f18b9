"""What a file gives back: each attack against a model in which it must succeed, and one in which it must not."""

import numpy as np
import pytest
import torch

from srun.errors import DataError
from srun.evaluation.recovery import item_tables, recover, softmax_table
from srun.models.scorer import Scorer, clone_model, untied_copy
from srun.rng import stream
from srun.unlearning.fitted import retained_states, ridge_table, scored_by

CPU = torch.device("cpu")


def attacks(model, world):
    return {found.attack: found for found in recover(model, world.request, 64, 0, CPU)}


def test_a_tied_and_an_untied_file_are_attacked_in_every_way(world):
    tied = attacks(world.original.model, world)
    assert list(tied) == ["own", "ridge", "softmax_zero", "softmax_input"]
    untied = attacks(untied_copy(world.original.model).eval(), world)
    assert list(untied) == [
        *("own", "scored_by_input", "swapped"),
        *("ridge", "softmax_zero", "softmax_input", "softmax_output"),
    ]
    assert untied["own"] == tied["own"]
    assert tied["own"].hit_10_low <= tied["own"].hit_10 <= tied["own"].hit_10_high


def test_a_file_that_keeps_the_original_as_its_input_table_gives_it_back(world):
    """An output table of noise hides everything, and nothing is gone."""
    hidden = untied_copy(world.original.model).eval()
    hidden.output.weight.data.normal_(generator=torch.Generator().manual_seed(0))
    found, original = attacks(hidden, world), attacks(world.original.model, world)["own"]
    assert found["scored_by_input"].hit_10 == original.hit_10
    assert found["scored_by_input"].test_ndcg_10 == original.test_ndcg_10
    assert found["own"].test_ndcg_10 < original.test_ndcg_10


def test_swapped_tables_are_exchanged_as_inputs_and_outputs(small, world):
    model = small.random_model(world.data, tie_embeddings=False)
    tables = item_tables(model)
    swapped = untied_copy(model) if model.output is None else clone_model(model)
    swapped.embedding.weight.data[1:-1], swapped.output.weight.data[1:] = tables["output"], tables["input"]
    assert attacks(model, world)["swapped"].hit_10 == attacks(swapped.eval(), world)["own"].hit_10


def test_the_ridge_table_is_the_one_of_its_equation():
    rng = np.random.default_rng(0)
    states, targets = rng.normal(size=(40, 3)), rng.integers(1, 6, 40)
    found = ridge_table(torch.from_numpy(states).float(), torch.from_numpy(targets), 6)
    gram = states.T @ states
    wanted = (targets[:, None] == np.arange(1, 7)).astype(float)
    table = np.linalg.solve(gram + 0.01 * np.diag(gram).mean() * np.eye(3), states.T @ wanted).T
    table /= np.sqrt(np.maximum(wanted.sum(0), 1))[:, None]
    np.testing.assert_allclose(found.numpy(), table, rtol=1e-4, atol=1e-6)
    assert (found[5] == 0).all()  # an item that nobody has


def test_softmax_learns_what_the_states_tell_of_their_targets():
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(1, 21, (6000,), generator=generator)
    states = torch.nn.functional.one_hot(targets - 1, 20).float() * 5
    table = softmax_table(states, targets, torch.zeros(20, 20), 0.05, stream(0, "softmax"))
    assert ((states @ table.T).argmax(1) + 1 == targets).float().mean() > 0.95


def test_frozen_states_are_those_of_training_targets(small, world):
    states, targets = retained_states(world.original.model, world.request, 0, CPU)
    retained = np.bincount(world.data.item[world.request.retain], minlength=world.data.num_items + 1)
    counted = np.bincount(targets.numpy(), minlength=world.data.num_items + 1)
    assert states.shape == (len(targets), world.original.model.settings.hidden)
    assert (counted <= retained).all()
    assert counted[0] == 0
    cloze = small.random_model(world.data, "bert4rec")
    states, targets = retained_states(cloze, world.request, 0, CPU)
    assert 0 < len(targets) < retained.sum()


def test_a_table_of_one_row_scored_leaves_the_model_as_it_is(world):
    model = world.original.model
    before = model.output_weight.detach().clone()
    copy = scored_by(model, torch.zeros_like(before[1:]))
    assert (Scorer([copy]).scores(torch.ones(1, 3, dtype=torch.int64), torch.zeros(1, dtype=torch.int64)) == 0).all()
    assert torch.equal(model.output_weight, before)


def test_without_a_forgotten_event_there_is_nothing_to_recover(small, tmp_path):
    data = small.make_data(small.random_events(30, 20))
    file = small.write_request(tmp_path / "first.csv", [("u0", "x", 0)])
    event = 0
    row = (data.users["user_id"][data.user[event]], data.items["item_id"][data.item[event] - 1], data.time[event])
    file = small.write_request(tmp_path / "first.csv", [row])
    request = small.carry_out(data, small.interactions_request(file=file))  # a first item has no context
    with pytest.raises(DataError, match="nothing can be recovered"):
        recover(small.random_model(data), request, 64, 0, CPU)
