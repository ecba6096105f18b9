"""Signals of events against torch's softmax, on an Original, an ensemble and a mask."""

import numpy as np
import pytest
import torch

from srun.evaluation.ranking import RankingTask
from srun.evaluation.signals import FAR, signals
from srun.models.scorer import Scorer

CPU = torch.device("cpu")


def test_signals_are_those_of_a_softmax_over_the_items(world):
    queries = world.request.queries("forget_report")
    told = signals(world.original.scorer, queries, 7, CPU)
    histories = torch.from_numpy(queries.histories(world.data.max_length).astype("int64"))
    scores = world.original.scorer.scores(histories, torch.from_numpy(queries.user.astype("int64")))[:, 1:]
    p = (
        scores.double()
        .softmax(1)
        .gather(1, torch.from_numpy(queries.target.astype("int64"))[:, None] - 1)[:, 0]
        .numpy()
    )
    np.testing.assert_allclose(told.log_p, np.log(p), rtol=1e-5)
    np.testing.assert_allclose(told.z_logit, np.log(p) - np.log1p(-p), rtol=1e-5)
    task = RankingTask.make(queries, world.data.max_length, CPU, 64)
    assert told.rank.tolist() == task.ranks(world.original.scorer).rank.tolist()


def test_an_item_that_is_never_shown_has_the_lowest_signal_not_an_infinite_one(world):
    queries = world.request.queries("forget_report")
    masked = torch.tensor([[-1, int(queries.target[0])]])
    told = signals(Scorer(world.original.scorer.models, masked=masked), queries, 64, CPU)
    assert told.z_logit[0] == -FAR
    assert told.log_p[0] == pytest.approx(-FAR)
    assert np.isfinite(told.z_logit).all()
    alone = torch.zeros(world.data.num_items + 1, dtype=torch.bool)
    alone[queries.target[0]] = True
    assert signals(Scorer(world.original.scorer.models, alone), queries, 64, CPU).z_logit[0] == FAR
