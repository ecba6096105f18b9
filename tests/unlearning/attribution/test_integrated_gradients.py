"""Integrated gradients: quadrature and a linear model by hand, networks against captum and whole forward passes."""

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients
from hypothesis import given
from hypothesis import strategies as st

from srun.errors import RunError
from srun.models.scorer import new_model
from srun.unlearning.attribution import integrated_gradients as ig

RULES = ("left", "right", "midpoint", "gauss_legendre")
CAPTUM = {
    "left": "riemann_left",
    "right": "riemann_right",
    "midpoint": "riemann_middle",
    "gauss_legendre": "gausslegendre",
}
V, N = 30, 6
MODELS = {
    "sasrec": {"hidden": 8, "blocks": 2, "heads": 2, "dropout": 0.2, "tie_embeddings": True},
    "sasrec, deep": {"hidden": 8, "blocks": 4, "heads": 1, "dropout": 0.2, "tie_embeddings": False},
    "bert4rec": {"hidden": 8, "blocks": 2, "heads": 2, "norm_first": True},
    "bert4rec, authors": {"hidden": 8, "blocks": 2, "heads": 2, "norm_first": False},
    "bert4rec, one block": {"hidden": 8, "blocks": 1, "heads": 2, "norm_first": False},
    "bert4rec, deep": {"hidden": 8, "blocks": 4, "heads": 2, "norm_first": True},
}
BERT = {"dropout": 0.2, "tie_embeddings": True, "mask_probability": 0.3, "gelu": "tanh"}
HISTORIES = torch.tensor([[0, 0, 0, 0, 0, 4], [1, 2, 3, 4, 5, 6], [0, 0, 9, 9, 2, 1], [0, 30, 29, 28, 7, 3]])
TARGETS = torch.tensor([5, 7, 30, 1])


def make(name):
    kind = name.partition(",")[0]
    settings = {**(BERT if kind == "bert4rec" else {}), **MODELS[name]}
    model = new_model({"name": kind, "settings": settings, "num_items": V, "max_length": N})
    model.initialise(torch.Generator().manual_seed(1))
    return model.eval().double()


def whole_network(model, layer):
    """(neurons at the last position (Q, U), P as a function of them): by hooks on whole forward passes."""
    outer, seen = model.neuron_blocks[layer].outer, []
    with torch.no_grad(), outer.register_forward_pre_hook(lambda _, given: seen.append(given[0][:, -1])):
        model.hidden(model.prediction_inputs(HISTORIES))

    def function(neurons):  # (k Q, U) -> (k Q,)
        copies = len(neurons) // len(HISTORIES)
        inputs, targets = model.prediction_inputs(HISTORIES).repeat(copies, 1), TARGETS.repeat(copies)

        def replace(_, given):
            given = given[0].clone()
            given[:, -1] = neurons
            return (given,)

        with outer.register_forward_pre_hook(replace):
            scores = model.scores(model.hidden(inputs)[:, -1])
        return scores[:, 1:].softmax(-1).gather(1, targets[:, None] - 1)[:, 0]

    return seen[0], function


@pytest.mark.parametrize("rule", RULES)
@given(steps=st.integers(1, 40))
def test_weights_sum_to_one_and_nodes_are_inside(rule, steps):
    nodes, weights = ig.quadrature(rule, steps)
    assert len(nodes) == len(weights) == steps
    assert weights.sum().item() == pytest.approx(1)
    assert ((nodes >= 0) & (nodes <= 1)).all()
    assert (nodes.diff() > 0).all()


def test_nodes_by_hand():
    assert ig.quadrature("left", 4)[0].tolist() == [0, 0.25, 0.5, 0.75]
    assert ig.quadrature("right", 4)[0].tolist() == [0.25, 0.5, 0.75, 1]
    assert ig.quadrature("midpoint", 4)[0].tolist() == [0.125, 0.375, 0.625, 0.875]
    nodes, weights = ig.quadrature("gauss_legendre", 2)
    assert nodes.tolist() == pytest.approx([0.5 - 0.5 / 3**0.5, 0.5 + 0.5 / 3**0.5])
    assert weights.tolist() == pytest.approx([0.5, 0.5])


@pytest.mark.parametrize(("rule", "degree"), [("left", 0), ("right", 0), ("midpoint", 1), ("gauss_legendre", 9)])
def test_degree_of_exactness(rule, degree):
    nodes, weights = ig.quadrature(rule, 5)
    errors = [float((weights * nodes**k).sum() - 1 / (k + 1)) for k in range(degree + 2)]
    assert np.allclose(errors[:-1], 0, atol=1e-14)
    assert abs(errors[-1]) > 1e-7


def test_no_steps_are_refused():
    with pytest.raises(ValueError, match="steps 0"):
        ig.quadrature("left", 0)


@pytest.mark.parametrize("path", ig.PATHS)
@pytest.mark.parametrize("rule", RULES)
def test_a_linear_function_by_hand(path, rule):
    """F = 2 a - 3 b + 5: every rule gives 2 a and -3 b on either path, residual 0."""
    values = torch.tensor([[1.0, 2.0], [0.0, -1.0]]).double()
    slopes = torch.tensor([2.0, -3.0]).double()
    attributions, residual = ig.PATHS[path](lambda points: points @ slopes + 5, values, rule, 3)
    assert torch.allclose(attributions, torch.tensor([[2.0, -6.0], [0.0, 3.0]]).double())
    assert residual.abs().max() < 1e-12


def test_a_product_by_hand():
    """F = a b: together each unit gets half of it; alone each gets all of it, which is complete by unit only."""
    values = torch.tensor([[2.0, 3.0]]).double()

    def product(points):
        return points.prod(-1)

    attributions, residual = ig.joint_path(product, values, "midpoint", 4)
    assert attributions.tolist() == [[3.0, 3.0]]
    assert residual.item() == pytest.approx(0)
    attributions, residual = ig.single_path(product, values, "midpoint", 4)
    assert attributions.tolist() == [[6.0, 6.0]]
    assert residual.item() == pytest.approx(0)


@pytest.mark.parametrize("path", ig.PATHS)
def test_the_residual_is_the_error_of_the_quadrature(path):
    """F = a^2 at a = 1, left sum of 4 steps: 2 (0 + .25 + .5 + .75) / 4 = .75 instead of 1."""
    values = torch.ones(1, 1).double()
    attributions, residual = ig.PATHS[path](lambda points: points[..., 0] ** 2, values, "left", 4)
    assert attributions.item() == pytest.approx(0.75)
    assert abs(residual.item()) == pytest.approx(0.25)


def test_more_steps_than_variants_at_once(monkeypatch):
    values = torch.rand(2, 5).double()

    def function(points):
        return (points**3).sum(-1)

    for path in ig.PATHS.values():
        expected = path(function, values, "left", 9)
        monkeypatch.setattr(ig, "MAX_VARIANTS", 4)
        for one, two in zip(path(function, values, "left", 9), expected, strict=True):
            assert torch.allclose(one, two)
        monkeypatch.undo()


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("rule", RULES)
def test_the_joint_path_agrees_with_captum(name, rule):
    model = make(name)
    result = ig.attribute(model, HISTORIES, TARGETS, "joint", rule, 6)
    for layer in range(len(model.neuron_blocks)):
        neurons, function = whole_network(model, layer)
        expected, delta = IntegratedGradients(function).attribute(
            neurons, torch.zeros_like(neurons), n_steps=6, method=CAPTUM[rule], return_convergence_delta=True
        )
        assert torch.allclose(result.values[:, layer], expected, atol=1e-8)
        assert torch.allclose(result.residual[:, layer], delta, atol=1e-8)
        assert torch.allclose(result.probability, function(neurons))


@pytest.mark.parametrize("name", MODELS)
def test_the_single_path_is_the_loss_of_each_unit(name):
    model = make(name)
    result = ig.attribute(model, HISTORIES, TARGETS, "single", "gauss_legendre", 12)
    for layer in range(len(model.neuron_blocks)):
        neurons, function = whole_network(model, layer)
        for unit in range(neurons.shape[1]):
            without = neurons.clone()
            without[:, unit] = 0
            lost = function(neurons) - function(without)
            room = result.residual[:, layer] + 1e-9
            assert ((result.values[:, layer, unit] - lost).abs() <= room).all()
    assert result.residual.max() < 1e-3


@pytest.mark.parametrize("name", MODELS)
def test_completeness(name):
    """With enough steps the sum is P(w) - P(0); more steps come closer (kinks of ReLU make the rest)."""
    model = make(name)
    few, many = (ig.attribute(model, HISTORIES, TARGETS, "joint", "midpoint", s).residual.abs() for s in (2, 200))
    assert many.max() < 1e-5
    assert many.max() < few.max()


def test_the_gradient_of_the_probability():
    model = make("sasrec")
    states = torch.randn(5, 8, dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([1, 2, 3, 30, 30])
    expected = model.scores(states)[:, 1:].softmax(-1).gather(1, targets[:, None] - 1)[:, 0]
    assert torch.allclose(ig.TargetProbability.apply(states, model, targets), expected)
    assert torch.autograd.gradcheck(lambda x: ig.TargetProbability.apply(x, model, targets), states)


@pytest.mark.parametrize("name", ["sasrec, deep", "bert4rec, deep"])
def test_batches_do_not_matter(name, monkeypatch):
    model = make(name)
    expected = ig.attribute(model, HISTORIES, TARGETS, "joint", "left", 5)
    monkeypatch.setattr(ig, "FLOATS", 1)
    result = ig.attribute(model, HISTORIES, TARGETS, "joint", "left", 5)
    assert torch.allclose(result.values, expected.values)
    assert torch.allclose(result.residual, expected.residual)
    assert result.positions == expected.positions


def test_no_hook_stays_and_no_gradient():
    model = make("bert4rec")
    ig.attribute(model, HISTORIES, TARGETS, "joint", "left", 2)
    assert all(not block._forward_pre_hooks for block in model.neuron_blocks)
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("name", ["gru4rec", "caser"])
def test_a_model_without_neurons_is_refused(small, coloured, name):
    with pytest.raises(RunError, match="no feed-forward neurons"):
        ig.require_neurons(small.random_model(coloured, name))
