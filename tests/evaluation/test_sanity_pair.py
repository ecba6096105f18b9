"""Membership attacks on trained models: one that memorises noise is told by them, one that never saw it is not."""

from itertools import count

import numpy as np
import pytest
import torch

from srun.data.batches import TrainingData
from srun.data.dataset import Role
from srun.evaluation.signals import signals
from srun.metrics.membership import (
    Events,
    Signals,
    attack_scores,
    auc,
    drawn_users,
    membership,
    weighted_aucs,
)
from srun.models.scorer import Scorer
from srun.training.checkpoint import ResumeFolder
from srun.training.fit import Watch, train_new

CPU = torch.device("cpu")
NUM_USERS, NUM_ITEMS, LENGTH = 80, 60, 8


@pytest.fixture(scope="module")
def pair(small, tmp_path_factory):
    """Signals of a model that trained far too long on random sequences, and of four that trained on what is kept."""
    rng = np.random.default_rng(0)
    data = small.make_data(
        small.log_of([rng.integers(0, NUM_ITEMS, LENGTH).tolist() for _ in range(NUM_USERS)]), calibration_events=0.6
    )
    request = small.carry_out(data, small.interactions_request(share_of_users=0.5, max_share_of_items=0.2))
    recipe = small.recipe(max_epochs=80, evaluate_every=80, patience=80, learning_rate=0.01)
    model = small.describe_model(data, hidden=32, dropout=0.0)
    folder = tmp_path_factory.mktemp("pair")

    def trained(mask, seed):
        rising, resume = count(), ResumeFolder(folder / str(seed), "pair")
        watch = Watch(lambda m: {"validation/ndcg_10": float(next(rising))}, lambda m: {}, small.no_telling, resume)
        return Scorer([train_new(model, TrainingData(data, mask, None, CPU), recipe, seed, watch)[0]])

    scorers = [trained(data.has_role(Role.TRAIN), 0), *(trained(request.retain, seed) for seed in (1, 2, 3, 4))]
    forgotten, aside = request.forget_queries(), request.never_trained(audit=True)
    members = np.arange(len(forgotten) + len(aside)) < len(forgotten)
    users = np.concatenate([forgotten.user, aside.user]).astype(np.int64)
    told = []
    for scorer in scorers:
        one, other = signals(scorer, forgotten, 64, CPU), signals(scorer, aside, 64, CPU)
        told.append(Signals(*(np.concatenate([getattr(part, name) for part in (one, other)]) for name in vars(one))))
    return told, Events(members, ~members, ~members, users)


def test_a_model_that_memorises_is_told_and_a_further_retrain_is_not(pair):
    (original, retrain, *others), events = pair
    told = membership(original, others, events, np.random.default_rng(0))
    unseen = membership(retrain, others, events, np.random.default_rng(0))
    assert told["lira"].auc >= 0.9
    assert told["rmia"].auc >= 0.9
    assert min(attack.low for attack in told.values()) > 0
    assert all(attack.low <= 0 <= attack.high for attack in unseen.values())


def test_never_seen_events_are_not_told_from_never_seen_ones_even_by_a_model_that_memorises(pair):
    """Nothing but membership is told: between two halves of what nobody saw the AUC is 1/2 within its interval."""
    (original, *retrains), events = pair
    rng = np.random.default_rng(0)
    aside = np.unique(events.users[events.other])
    half = np.isin(events.users, rng.permutation(aside)[: len(aside) // 2])
    one, other = events.other & half, events.other & ~half
    weights = drawn_users(np.concatenate([events.users[one], events.users[other]]), rng)
    for attack, scores in attack_scores(original, retrains, Events(one, other, other, events.users)).items():
        low, high = np.quantile(weighted_aucs(scores[one], scores[other], weights), [0.025, 0.975])
        assert low <= 0.5 <= high, attack
        assert low < auc(scores[one], scores[other]) < high
