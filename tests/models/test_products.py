"""Products by the other library equal torch's, and the rule that picks it."""

import pytest
import torch

from srun.models import products
from srun.models.products import LARGE, product


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
