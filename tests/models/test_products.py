"""Products by the other library equal torch's, and the rule that picks it."""

import pytest
import torch
from torch import nn

from srun.models import products
from srun.models.products import LARGE, SIZES, _filled, linear, product


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(("m", "n", "k"), [(90, 1000, 64), (3, 5, 4), (64, 900, 80)])
def test_products_are_those_of_torch(monkeypatch, m, n, k, transposed):
    if torch.backends.mkldnn.is_available():
        monkeypatch.setattr(products, "onednn_pays", lambda: True)
    one, other = torch.randn(m, k), torch.randn(n, k)
    if transposed:
        one, other = one.T.contiguous().T, other.T.contiguous().T
    torch.testing.assert_close(product(one, other), one @ other.T, rtol=1e-4, atol=1e-4)


def test_only_large_float32_products_are_asked_for(monkeypatch):
    asked = []
    monkeypatch.setattr(products, "onednn_pays", lambda: asked.append(True) or False)
    small, large = torch.randn(8, 8), torch.randn(LARGE // 64, 8)
    product(small, small)
    product(large.bfloat16(), small.bfloat16())
    assert not asked
    product(large, small)
    assert asked


@pytest.mark.parametrize(("rows", "k", "n"), [((7, 9), 5, 4), ((33,), 4, 9), ((64,), 3, 3)])
def test_a_layer_and_its_gradients_are_those_of_torch(monkeypatch, rows, k, n):
    asked = []
    monkeypatch.setattr(products, "_onednn", lambda *of: asked.append(of) or nn.functional.linear(*of))
    monkeypatch.setattr(products, "onednn_pays", lambda: True)
    monkeypatch.setattr(products, "LARGE_LAYER", 1)
    given = [torch.randn(*rows, k), torch.randn(n, k), torch.randn(n)]
    results = []
    for layer in (linear, nn.functional.linear):
        tensors = [tensor.clone().requires_grad_() for tensor in given]
        result = layer(*tensors)
        (result * torch.linspace(-1, 2, n)).sum().backward()
        results.append([result, *(tensor.grad for tensor in tensors)])
    assert len(asked) == 3
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_a_layer_is_torch_s_in_float64_under_bf16_under_vmap_and_where_it_is_small(monkeypatch):
    monkeypatch.setattr(products, "onednn_pays", lambda: True)
    monkeypatch.setattr(products, "_onednn", lambda *of: pytest.fail("oneDNN was asked"))
    x, weight, bias = torch.randn(6, 4), torch.randn(3, 4), torch.randn(3)
    plain = nn.functional.linear(x, weight, bias)
    torch.testing.assert_close(linear(x, weight, bias), plain)
    monkeypatch.setattr(products, "LARGE_LAYER", 1)
    torch.testing.assert_close(linear(x.double(), weight.double(), bias.double()).float(), plain)
    torch.testing.assert_close(torch.vmap(linear, (0, None, None))(x[None], weight, bias)[0], plain)
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(x, weight, bias).dtype == torch.bfloat16


def test_rows_are_filled_up_to_few_numbers():
    sizes = {len(_filled(torch.ones(rows, 1))) for rows in range(1024, 4097)}
    assert len(sizes) <= 2 * SIZES + 1
    assert all(rows <= len(_filled(torch.ones(rows, 1))) <= rows * (1 + 1 / SIZES) for rows in range(1024, 4097))
    filled = _filled(torch.ones(1030, 2))
    assert filled.sum() == 2060
    assert (filled[:1030] == 1).all()
