"""What moving rows costs."""

import torch

from srun.unlearning.closed_form import rows


def test_the_cost_of_rows_is_the_same_one_by_one_and_all_together(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    states, table = torch.randn(300, 8, generator=generator), torch.randn(20, 8, generator=generator)
    normalisers, moving = (states @ table.T).logsumexp(1), torch.tensor([3, 0, 19])
    one_by_one = rows._own_cost(states, table, moving, normalisers)
    monkeypatch.setattr(rows, "FEW", 0)
    torch.testing.assert_close(rows._own_cost(states, table, moving, normalisers), one_by_one)
    p = (states @ table[3] - normalisers).exp()
    by_hand = torch.einsum("r,rd,re->de", (p * (1 - p)).sqrt(), states, states)
    by_hand *= (states**2).mean() / by_hand.diagonal().mean()
    torch.testing.assert_close(one_by_one[0], by_hand)
