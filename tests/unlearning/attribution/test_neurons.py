"""Which neurons are shared, and that edits are what they say and can be undone."""

import numpy as np
import pytest
import torch

from srun.errors import CheckpointError, ConfigError
from srun.models.published import load_published, publish
from srun.models.scorer import Scorer, clone_model
from srun.unlearning.attribution import neurons as n
from srun.unlearning.attribution.neurons import Edit, Neuron

NAMES = ("sasrec", "bert4rec")


@pytest.fixture(params=NAMES)
def model(request, small, coloured):
    return small.random_model(coloured, request.param, blocks=2)


def scores(model):
    histories = torch.tensor([[0, 0, 1, 2, 3], [4, 5, 6, 7, 8]])
    return Scorer([model]).scores(histories, torch.arange(2))


def bytes_of(model):
    return [tensor.clone() for tensor in model.state_dict().values()]


def same(one, two):
    return all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_kept_is_relative_to_the_largest_of_all_layers():
    attributions = torch.tensor([[[1.0, 0.3], [0.31, -2.0]], [[-1.0, -0.1], [0.0, -3.0]]])
    assert n.kept(attributions, 0.3).tolist() == [[[True, False], [True, False]], [[False, False], [False, False]]]


def test_counts_are_kept_for_other_thresholds():
    attributions = torch.rand(20, 2, 5, generator=torch.Generator().manual_seed(0))
    shared = n.share(attributions, {*n.THRESHOLDS, 0.33})
    for threshold in (0.1, 0.3, 0.33, 0.95):
        assert shared.at(threshold).tolist() == n.kept(attributions, threshold).sum(0).tolist()
    again = n.Shared.read(shared.describe())
    assert again.thresholds == shared.thresholds
    assert again.num_sequences == 20
    assert np.array_equal(again.counts, shared.counts)
    with pytest.raises(ConfigError, match=r"0\.34"):
        shared.at(0.34)


@pytest.mark.parametrize(
    ("shares", "wanted", "chosen", "number", "within"),
    [
        ([60] * 5 + [10] * 9, 50, 50, 5, True),  # as wished
        ([40] * 5 + [10] * 9, 50, 35, 5, True),  # the nearest below; 40 % is not more than 40 %
        ([71] * 6 + [62] * 4, 50, 65, 6, True),  # the nearest above
        ([90] * 20, 50, 90, 0, False),  # none is nearer to 4 .. 8 than 20
        ([90] * 11, 50, 50, 11, False),  # 11 is nearer than none; of equals the one that was wished
        ([1] * 5, 50, 50, 0, False),
        ([100] * 6, 52, 50, 6, True),
        ([100] * 6, 53, 55, 6, True),
        ([100] * 6, 0, 5, 6, True),
        ([100] * 6, 100, 95, 6, True),
    ],
)
def test_adjust(shares, wanted, chosen, number, within):
    selection = n.select(np.array([shares]), 100, "adjust", wanted)
    assert (selection.privacy_threshold, len(selection.neurons), selection.within) == (chosen, number, within)


def test_fixed_takes_any_number():
    counts = np.array([[50, 51, 10], [52, 0, 0]])
    selection = n.select(counts, 100, "fixed", 50)
    assert selection.neurons == (Neuron(0, 1), Neuron(1, 0))
    assert not selection.within
    assert n.select(counts, 100, "fixed", 99).neurons == ()
    assert n.select(counts, 100, "fixed", 37).privacy_threshold == 37
    assert selection.counts_by_share[5] == 4
    assert set(selection.counts_by_share) == set(range(5, 100, 5))


def test_most_shared_first():
    counts, mean = np.array([[3, 5], [5, 0]]), np.array([[0.9, 0.1], [0.2, 0.5]])
    assert n.most_shared(counts, mean) == [Neuron(1, 0), Neuron(0, 1), Neuron(0, 0), Neuron(1, 1)]


def test_lists_of_several_categories_become_one():
    one = n.as_edits([Neuron(0, 1), Neuron(1, 2)], 0.5)
    two = n.as_edits([Neuron(1, 2), Neuron(0, 3)], 0.0)
    assert n.merge(one, two) == [Edit(0, 1, 0.5), Edit(0, 3, 0.0), Edit(1, 2, 0.0)]
    assert n.merge() == []


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0])
def test_an_edit_is_a_hook(model, scale):
    edits = [Edit(0, 3, scale), Edit(1, 0, scale), Edit(1, 5, scale)]
    clean = scores(model)

    def hook(layer):
        def scaled(_, given):
            values = given[0].clone()
            values[..., [e.unit for e in edits if e.layer == layer]] *= scale
            return (values,)

        return model.neuron_blocks[layer].outer.register_forward_pre_hook(scaled)

    with hook(0), hook(1):
        expected = scores(model)
    with n.edited(model, edits):
        assert torch.allclose(scores(model), expected, atol=1e-6)
    assert torch.equal(scores(model), clean)
    assert torch.equal(expected, clean) == (scale == 1.0)


def test_edits_are_undone_even_after_an_error(model):
    before = bytes_of(model)

    def fail():
        with n.edited(model, [Edit(0, 1, 0.0), Edit(1, 2, 0.3)]):
            assert not same(bytes_of(model), before)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert same(bytes_of(model), before)
    columns = n.apply(model, [Edit(1, 1, 0.0)])
    n.undo(model, [Edit(1, 1, 0.0)], columns)
    assert same(bytes_of(model), before)


def test_a_published_edit_names_what_restores_it(model, tmp_path):
    edits, changed = [Edit(0, 1, 0.0), Edit(1, 2, 0.25)], clone_model(model)
    n.apply(changed, edits)
    publish(tmp_path / "m", Scorer([changed]), {"edits": n.describe_edits(edits)}, [])
    scorer, info = load_published(tmp_path / "m")
    assert same(bytes_of(scorer.model), bytes_of(changed))
    assert n.read_edits(info) == edits
    assert n.read_edits({}) == []
    before = bytes_of(model)
    n.restore(scorer.model, model, n.read_edits(info))
    assert same(bytes_of(scorer.model), before)
    assert same(bytes_of(model), before)


def test_another_original_does_not_restore(model, small, coloured):
    edits, changed = [Edit(0, 1, 0.0)], clone_model(model)
    n.apply(changed, edits)
    other = clone_model(model)
    with torch.no_grad():
        other.embedding.weight[3] += 1
    before = bytes_of(changed)
    with pytest.raises(CheckpointError):
        n.restore(changed, other, edits)
    with pytest.raises(CheckpointError):
        n.restore(changed, model, [Edit(0, 2, 0.0)])
    assert same(bytes_of(changed), before)


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        ([Edit(2, 0, 0.0)], "no neuron"),
        ([Edit(0, 999, 0.0)], "no neuron"),
        ([Edit(0, -1, 0.0)], "no neuron"),
        ([Edit(0, 0, 1.5)], "scale"),
        ([Edit(0, 0, -0.5)], "scale"),
        ([Edit(0, 0, 0.5), Edit(0, 0, 0.1)], "twice"),
    ],
)
def test_impossible_edits_change_nothing(model, edits, message):
    before = bytes_of(model)
    with pytest.raises(ConfigError, match=message):
        n.apply(model, edits)
    assert same(bytes_of(model), before)
