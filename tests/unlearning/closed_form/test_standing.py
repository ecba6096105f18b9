"""Where events stand, and the score at which they would stand elsewhere, against plain sorting."""

import math

import numpy as np
import pytest
import torch

from srun.metrics.memory import z_rank
from srun.rng import stream
from srun.unlearning.closed_form import standing as module
from srun.unlearning.closed_form.standing import last_states, questions, sampled_items, score_at, standing


@pytest.mark.parametrize("rows", [3, 64])
def test_standing_is_the_z_of_the_rank_among_all_items_with_ties_half(monkeypatch, rows):
    monkeypatch.setattr(module, "ROWS", {"cpu": rows, "other": rows})
    rng = np.random.default_rng(0)
    table = torch.from_numpy(rng.integers(-1, 2, (12, 3))).float()  # few values: many ties
    states = torch.from_numpy(rng.integers(-1, 2, (7, 3))).float()
    targets = torch.from_numpy(rng.integers(1, 13, 7))
    z, own = standing(states, table, targets)
    scores = (states @ table.T).numpy()
    for row, target in enumerate(targets.tolist()):
        score = scores[row, target - 1]
        others = np.delete(scores[row], target - 1)
        rank = 1 + (others > score).sum() + (others == score).sum() / 2
        assert z[row].item() == pytest.approx(z_rank(np.array([rank]), 12)[0], rel=1e-5)
        assert own[row].item() == score


def test_no_event_stands_nowhere():
    z, own = standing(torch.zeros(0, 3), torch.ones(5, 3), torch.zeros(0, dtype=torch.int64))
    assert len(z) == len(own) == 0


@pytest.mark.parametrize("num_items", [40, 500, 3000])
def test_an_item_with_the_score_at_z_stands_there(num_items):
    generator = torch.Generator().manual_seed(0)
    table, states = torch.randn(num_items, 8, generator=generator), torch.randn(50, 8, generator=generator)
    z = torch.linspace(-4, math.log(num_items), 50)
    score = score_at(states, table, z, sampled_items(num_items, stream(0, "sample")))
    above = ((states @ table.T) > score[:, None]).sum(1).double().numpy()
    reached = z_rank(above + 1, num_items)
    wanted = z.double().numpy()
    clear = np.abs(wanted) < math.log(num_items) - 1  # at the ends a rank is a whole number
    assert np.abs(reached - wanted)[clear].max() < 0.4
    assert np.all(np.diff(reached[clear]) > -0.5)


def test_states_are_those_that_predict_the_last_item_whatever_the_padding(small):
    data = small.make_data(small.random_events(20, 30))
    for name in ("sasrec", "bert4rec", "gru4rec", "caser"):
        model = small.random_model(data, name).eval()
        request = small.carry_out(data, small.interactions_request())
        items = questions(request.forget_queries(), data.max_length)
        found = last_states(model, items)
        with torch.no_grad():
            for row in (0, len(items) // 2, len(items) - 1):
                history = items[row : row + 1, :-1]
                history = history[:, history[0] != 0]
                expected = model.last_state(model.prediction_inputs(history))[0]
                torch.testing.assert_close(found[row], expected, rtol=1e-4, atol=1e-5)
