"""SRUGA: the signs of its terms, its gradients, its options, its cost and its stop."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from srun.data.batches import TrainingData
from srun.errors import ConfigError, DataError, RunError, SrunError
from srun.models import MODELS
from srun.models.scorer import Scorer, clone_model
from srun.rng import Streams, numpy_stream
from srun.system.meter import Meter
from srun.training.checkpoint import ResumeFolder
from srun.unlearning import UNLEARNERS
from srun.unlearning.closed_form.levels import predict_level
from srun.unlearning.fitted import fitted_table, scored_by
from srun.unlearning.sruga.ascent import Ascent, ascent_loss, level_loss, npo_loss, reversed_negatives
from srun.unlearning.sruga.catalogue import Scratch, kl, rank_logit
from srun.unlearning.sruga.comparable import comparable
from srun.unlearning.sruga.retain import kl_loss
from srun.unlearning.sruga.settings import SRUGAConfig

BASE = {
    **{"ascent_weight": 0.5, "kl_weight": 1.0, "finetune_weight": 0.5, "kl_items": "all", "unlearn_dropout": False},
    **{"learning_rate": 0.003, "batch_size": 16, "clip_norm": 1.0, "max_epochs": 3, "evaluate_every": 1},
    **{"stop": "fixed", "patience": 2, "anneal": "none", "anneal_what": "learning_rate"},
    **{"anneal_epochs": 2, "anneal_floor": 0.1, "weighting": "fixed", "weighting_rate": 0.1},
    **{"update": "all", "retain_batch_size": 16, "retain_sample": None, "max_steps": None, "kl_positions": "last"},
    **{"ascent": "ga", "npo_beta": 0.5, "ascent_negatives": False, "mask_all_forgotten": False},
    **{"level": "pooled", "level_from": "crossfit", "rows": None, "finetune_items": "all"},
    **{"states_weight": 0.0},
}
BY_EVENT = {"ascent": "level", "level": "by_event"}
ROWS = {"strength": 0.1, "ridge": 1.0, "damping": 1.0, "rounds": 2, "retained_states": 200}
ONLY = {
    "ascent": {"kl_weight": 0.0, "finetune_weight": 0.0},
    "kl": {"ascent_weight": 0.0, "finetune_weight": 0.0},
    "finetune": {"ascent_weight": 0.0, "kl_weight": 0.0},
}


class Killed(BaseException):
    """Stands for the death of the process."""


def run(world, folder, **changes):
    return world.run("sruga", folder, **{**BASE, **changes})


@pytest.fixture(scope="module")
def bce_world(small, coloured, tmp_path_factory):
    return small.make_world(coloured, small.interactions_request(), tmp_path_factory.mktemp("bce"), loss="bce")


def mean_log_p(scorer, request, loss):
    """Mean log probability of the forgotten items after their contexts, by the model's own likelihood."""
    queries = request.forget_queries()
    histories = torch.from_numpy(queries.histories(request.data.max_length).astype(np.int64))
    scores = scorer.scores(histories, torch.from_numpy(queries.user.astype(np.int64))).clone()
    scores[:, 0] = -math.inf
    log_p = scores.sigmoid().log() if loss == "bce" else scores.log_softmax(-1)
    return float(log_p.gather(1, torch.from_numpy(queries.target.astype(np.int64))[:, None]).mean())


class Table:
    """A model that is nothing but its items, whose rows start at 1."""

    def __init__(self, rows):
        self.num_items = len(rows)
        self.output_weight = torch.cat([torch.zeros_like(rows[:1]), rows])


def standings(scorer, queries):
    """Of every query, log((V - r) / r) for the soft rank r of its target, one item at a time."""
    histories = torch.from_numpy(queries.histories(scorer.max_length).astype(np.int64))
    scores = scorer.scores(histories, torch.from_numpy(queries.user.astype(np.int64))).double().numpy()
    found = []
    for row, target in zip(scores, queries.target, strict=True):
        better = sum(1 / (1 + math.exp(-(score - row[target]) / 0.3)) for score in row[1:])
        found.append(math.log((scorer.num_items - better) / better))
    return np.array(found)


@pytest.mark.parametrize("loss", ["ce", "bce"])
def test_ascent_lowers_the_probability_of_forgotten_items(world, bce_world, tmp_path, loss):
    used = world if loss == "ce" else bce_world
    result = run(used, tmp_path, **ONLY["ascent"])
    before, after = (mean_log_p(s, used.request, loss) for s in (used.original.scorer, result.scorer))
    assert after < before - 0.05
    losses = [row["unlearn/ascent_loss"] for row in result.history[1:]]
    assert losses == sorted(losses, reverse=True)


def test_the_reported_ascent_loss_is_the_mean_log_probability(world, bce_world, tmp_path):
    for used, loss in ((world, "ce"), (bce_world, "bce")):
        row = run(used, tmp_path / loss, **ONLY["ascent"], batch_size=10_000, max_epochs=1).history[1]
        assert row["unlearn/ascent_loss"] == pytest.approx(
            mean_log_p(used.original.scorer, used.request, loss), rel=1e-4
        )


@pytest.mark.parametrize("loss", ["ce", "bce"])
def test_fine_tuning_lowers_the_training_loss(world, bce_world, tmp_path, loss):
    used = world if loss == "ce" else bce_world
    history = run(used, tmp_path, **ONLY["finetune"], max_epochs=8).history
    assert history[-1]["unlearn/finetune_loss"] < history[1]["unlearn/finetune_loss"]


@pytest.mark.parametrize("kl_items", ["all", "targets"])
@pytest.mark.parametrize("model", MODELS)
def test_kl_is_zero_at_the_start_without_dropout(small, coloured, tmp_path, model, kl_items):
    world = small.make_world(coloured, small.interactions_request(), tmp_path, model=model)
    settings = {**ONLY["kl"], "kl_items": kl_items, "batch_size": 10_000, "max_epochs": 1}
    assert run(world, tmp_path, **settings).history[1]["unlearn/kl_loss"] == 0.0


def test_kl_keeps_the_model_near_the_original(coloured, world, tmp_path):
    def distance(**changes):
        scorer = run(world, tmp_path / str(changes), **{**ONLY["ascent"], **changes}, max_epochs=4).scorer
        histories = torch.from_numpy(world.request.queries("test").histories(coloured.max_length).astype(np.int64))
        users = torch.zeros(len(histories), dtype=torch.int64)
        p, q = (s.scores(histories, users)[:, 1:].softmax(-1) for s in (world.original.scorer, scorer))
        return float((p * (p / q).log()).sum(-1).mean())

    assert distance(kl_weight=20.0) < distance(kl_weight=1.0) < distance()


@pytest.mark.parametrize("loss", ["ce", "bce"])
def test_gradients_of_the_ascent_loss(small, coloured, loss):
    model = small.random_model(coloured).double()
    targets = torch.tensor([3, 1, 7])
    generator = torch.Generator().manual_seed(0)
    state = torch.randn(3, 8, dtype=torch.float64, generator=generator, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s: ascent_loss(model, s, targets, loss), (state,))
    scores = state.detach() @ model.output_weight.T
    expected = scores.sigmoid().log() if loss == "bce" else scores[:, 1:].log_softmax(-1)
    column = targets if loss == "bce" else targets - 1
    torch.testing.assert_close(ascent_loss(model, state, targets, loss), expected.gather(1, column[:, None])[:, 0])


def test_gradients_and_value_of_the_reversed_negatives(small, coloured):
    model = small.random_model(coloured).double()
    generator = torch.Generator().manual_seed(0)
    state = torch.randn(3, 8, dtype=torch.float64, generator=generator, requires_grad=True)
    negatives = torch.tensor([[1, 2], [3, 4], [5, 5]])
    assert torch.autograd.gradcheck(lambda s: reversed_negatives(model, s, negatives), (state,))
    p = (state.detach() @ model.output_weight.T).sigmoid().gather(1, negatives)
    torch.testing.assert_close(reversed_negatives(model, state, negatives), (1 - p).log().sum(1))


@pytest.mark.parametrize("beta", [0.1, 1.0, 3.0])
def test_gradients_and_value_of_npo(beta):
    log_p = torch.tensor([-0.1, -2.0, -9.0], dtype=torch.float64, requires_grad=True)
    original = torch.tensor([-0.1, -1.0, -0.5], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: npo_loss(x, original, beta), (log_p,))
    ratio = (log_p - original).exp() ** beta
    torch.testing.assert_close(npo_loss(log_p, original, beta), 2 / beta * (1 + ratio).log())
    (gradient,) = torch.autograd.grad(npo_loss(log_p, original, beta).sum(), log_p)
    torch.testing.assert_close(gradient, (2 * ratio / (1 + ratio)).detach())  # ascent's gradient is 1; it fades
    (flat,) = torch.autograd.grad(npo_loss(log_p, original, 1e-6).sum(), log_p)
    torch.testing.assert_close(flat, torch.ones(3, dtype=torch.float64), atol=1e-4, rtol=0)


def test_gradients_and_value_of_the_level_loss():
    log_p = torch.randn(6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    never_seen = torch.tensor([-3.0, -1.0, -2.0], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: level_loss(x, never_seen), log_p)
    same = level_loss(never_seen[[2, 0, 1]], never_seen)
    torch.testing.assert_close(same, torch.tensor([1 / 3, 0.0, 1 / 3], dtype=torch.float64))  # levels -8/3, -2, -4/3


def test_gradients_and_value_of_the_kl_loss():
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(4, 6, dtype=torch.float64, generator=generator) for _ in range(2))
    student[:, 0] = teacher[:, 0] = -math.inf
    fixed = teacher.log_softmax(-1)
    free = student[:, 1:].clone().requires_grad_()

    def loss(free):
        return kl_loss(torch.cat([student[:, :1], free], 1).log_softmax(-1), fixed)

    assert torch.autograd.gradcheck(loss, (free,))
    p, q = fixed[:, 1:].exp(), student[:, 1:].log_softmax(-1)
    torch.testing.assert_close(loss(free), (p * (p.log() - q)).sum(-1))
    assert (kl_loss(fixed, fixed) == 0).all()
    assert torch.isfinite(torch.autograd.grad(loss(free).sum(), free)[0]).all()


FIELDS = {
    "ascent_weight": (0.1, {}),
    "kl_weight": (0.1, {}),
    "finetune_weight": (0.1, {}),
    "ascent": ("npo", {}),
    "npo_beta": (2.0, {"ascent": "npo"}),
    "level": ("by_event", {"ascent": "level"}),
    "level_from": ("retained", BY_EVENT),
    "states_weight": (1.0, BY_EVENT),
    "rows": (ROWS, BY_EVENT),
    "ascent_negatives": (True, {}),
    "mask_all_forgotten": (True, {}),
    "kl_items": ("targets", {}),
    "finetune_items": (5, {}),
    "unlearn_dropout": (True, {}),
    "update": ("embeddings", {}),
    "kl_positions": ("targets", {}),
    "retain_batch_size": (7, {}),
    "retain_sample": (20, {}),
    "learning_rate": (0.001, {}),
    "batch_size": (7, {}),
    "clip_norm": (0.01, {"learning_rate": 0.01}),
    "max_epochs": (2, {}),
    "max_steps": (2, {}),
    "evaluate_every": (2, {}),
    "stop": ("plateau", {"patience": 1, "max_epochs": 6, "ascent_weight": 0.0}),
    "patience": (1, {"stop": "plateau", "max_epochs": 6, "ascent_weight": 0.0}),
    "anneal": ("linear", {}),
    "anneal_what": ("ascent_weight", {"anneal": "linear"}),
    "anneal_epochs": (3, {"anneal": "linear"}),
    "anneal_floor": (0.6, {"anneal": "linear"}),
    "weighting": ("pcgrad", {}),
    "weighting_rate": (0.5, {"weighting": "uncertainty", "ascent": "npo"}),
}
WORLDS = {
    **{"ascent_negatives": "bce_world", "mask_all_forgotten": "cloze_world"},
    **dict.fromkeys(("level", "level_from", "states_weight", "rows"), "aside_world"),
}


@pytest.fixture(scope="module")
def aside_world(aside_worlds):
    return aside_worlds["interactions"]


@pytest.fixture(scope="module")
def cloze_world(small, coloured, tmp_path_factory):
    return small.make_world(
        coloured, small.interactions_request(), tmp_path_factory.mktemp("cloze"), model="bert4rec", loss="bce"
    )


def differ(small, world, folder, base, changes):
    one, two = run(world, folder / "a", **base), run(world, folder / "b", **{**base, **changes})
    return (small.weight_bytes(one.scorer), one.history) != (small.weight_bytes(two.scorer), two.history)


@pytest.mark.parametrize("field", list(SRUGAConfig.__dataclass_fields__))
def test_every_setting_changes_the_result(small, request, tmp_path, field):
    assert field in FIELDS, f"{field}: give it another value here"
    value, base = FIELDS[field]
    world = request.getfixturevalue(WORLDS.get(field, "world"))
    assert differ(small, world, tmp_path, {"batch_size": 40, **base}, {field: value})


CHOICES = [
    ("ascent", "level", {}),
    ("ascent", "level", {"ascent": "npo"}),
    ("update", "blocks", {}),
    ("update", "blocks", {"update": "embeddings"}),
    *(("update", "output_layer", {"update": other}) for other in ("all", "embeddings", "blocks")),
    *(("kl_items", value, {}) for value in (2, 10)),
    *(("anneal", value, {"anneal": "linear", "anneal_epochs": 3}) for value in ("cosine", "exponential")),
    *(("anneal_what", value, {"anneal": "linear"}) for value in ("unlearning_rate", "ascent_weight")),
    ("anneal_what", "unlearning_rate", {"anneal": "linear", "anneal_what": "ascent_weight"}),
    *(("weighting", value, {"ascent": "npo"}) for value in ("uncertainty", "pcgrad", "mgda")),
    ("weighting", "mgda", {"weighting": "pcgrad"}),
    ("stop", "match", {"max_epochs": 8, "learning_rate": 0.03}),
    ("stop", "match", {"max_epochs": 8, "learning_rate": 0.03, "stop": "plateau"}),
]


@pytest.mark.parametrize(("field", "value", "base"), CHOICES)
def test_every_choice_is_one_of_its_own(small, world, tmp_path, field, value, base):
    assert differ(small, world, tmp_path, {"batch_size": 40, **base}, {field: value})


def positions(world):
    """Real input positions of the forget histories, and of all retained windows."""
    data, request = world.data, world.request
    forget = int((request.forget_queries().histories(data.max_length) != 0).sum())
    windows = TrainingData(data, request.retain, request.catalogue, torch.device("cpu")).windows
    return forget, int(sum((row != 0).sum() - 1 for row in windows))


@pytest.mark.parametrize(
    ("changes", "forget_share", "retain_share"),
    [
        (ONLY["ascent"], 1, 0),
        (ONLY["finetune"], 0, 1),
        (ONLY["kl"], 0, 1 + 1 / 3),
        ({"ascent_weight": 0.0}, 0, 1 + 1 / 3),  # fine-tuning and KL share a pass
        ({"kl_weight": 0.0}, 1, 1),
        ({}, 1, 1 + 1 / 3),
    ],
)
def test_target_gradients(world, tmp_path, changes, forget_share, retain_share):
    forget, retain = positions(world)
    cost = run(world, tmp_path, **changes, batch_size=10_000, retain_batch_size=10_000).cost
    assert cost.target_gradients == pytest.approx(3 * (forget_share * forget + retain_share * retain))
    assert cost.steps == cost.epochs == 3


def test_an_epoch_is_one_pass_over_the_forget_set(world, tmp_path):
    cost = run(world, tmp_path, batch_size=16).cost
    assert cost.steps == 3 * math.ceil(len(world.request.forget_queries()) / 16)


def test_a_forward_pass_of_the_stop_rule_counts_a_third(world, tmp_path):
    data, tune = world.data, world.request.queries("forget_tune")
    looks = int((tune.histories(data.max_length) != 0).sum())
    fixed, plateau = (run(world, tmp_path / s, stop=s, patience=99).cost for s in ("fixed", "plateau"))
    assert fixed.epochs == plateau.epochs == 3
    assert plateau.target_gradients - fixed.target_gradients > 3 * looks / 3 - 1e-6


def scripted(world, hits):
    """A probe whose forget_tune hits are given, from the one before the first epoch on."""
    left = list(hits)

    def probe(scorer, split, users=None):
        if split == "forget_tune":
            return {"forget_tune/hit_10": left.pop(0), "forget_tune/ndcg_10": 0.0}
        return {"validation/recall_10": 0.0, "validation/ndcg_10": 0.0}

    probe.positions = probe.queries = lambda split, users=None: 0
    return probe


@pytest.mark.parametrize(
    ("hits", "patience", "every", "epochs"),
    [
        ([0.9, 0.5, 0.4, 0.4, 0.4, 0.4, 0.1], 3, 1, 5),  # fell last in epoch 2
        ([0.9, 0.5, 0.6, 0.4, 0.5, 0.5, 0.1], 2, 1, 5),
        ([0.9, 0.5, 0.6, 0.6, 0.6], 4, 2, 6),
        ([0.5, 0.5, 0.5, 0.5, 0.5], 3, 1, 3),  # never falls
        ([0.5, 0.6, 0.5, 0.5, 0.5], 3, 1, 3),
        ([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1], 2, 1, 8),
    ],
)
def test_plateau_stops_after_patience_epochs_without_a_fall(world, tmp_path, hits, patience, every, epochs):
    settings = {**BASE, "stop": "plateau", "patience": patience, "evaluate_every": every, "max_epochs": 8}
    method = UNLEARNERS["sruga"](SRUGAConfig(**settings))
    context = world.context(tmp_path, probe=scripted(world, hits))
    result = method.unlearn(world.original, world.request, context)
    assert result.cost.epochs == epochs
    assert result.info["stop"] == ("plateau" if epochs < 8 else "max_epochs")


def test_without_a_tune_half_the_schedule_is_fixed(small, tmp_path):
    data = small.make_data(small.random_events(15, 20))
    world = small.make_world(data, small.interactions_request(), tmp_path)
    assert "no_tune_half" in world.request.info
    result = run(world, tmp_path, stop="plateau", patience=2, max_epochs=5)
    assert result.cost.epochs == 5
    assert result.info["stop"] != "plateau"


def test_the_result_is_the_model_at_the_stop(small, world, tmp_path):
    looks = []
    probe = world.probe()

    def remember(scorer, split, users=None):
        looks.append(small.weight_bytes(scorer))
        return probe(scorer, split, users)

    result = UNLEARNERS["sruga"](SRUGAConfig(**BASE)).unlearn(
        world.original, world.request, world.context(tmp_path, probe=remember)
    )
    assert small.weight_bytes(result.scorer) == looks[-1]
    assert [row["epoch"] for row in result.history] == [0, 1, 2, 3]
    assert all({"forget_tune/hit_10", "validation/recall_10"} <= set(row) for row in result.history)


@pytest.mark.parametrize("model", MODELS)
def test_a_killed_run_goes_on_to_the_same_bits(small, coloured, tmp_path, model):
    world = small.make_world(coloured, small.interactions_request(), tmp_path, model=model, loss="bce")
    settings = SRUGAConfig(**{**BASE, "unlearn_dropout": True, "anneal": "linear", "stop": "plateau", "patience": 9})
    method = UNLEARNERS["sruga"](settings)
    whole = method.unlearn(world.original, world.request, world.context(tmp_path / "whole"))
    for kill_at in (2, 3):

        def kill(row, epoch, cap, at=kill_at):
            if epoch == at:
                raise Killed

        with pytest.raises(Killed):
            method.unlearn(world.original, world.request, world.context(tmp_path / "killed", on_epoch=kill))
    again = method.unlearn(world.original, world.request, world.context(tmp_path / "killed"))
    assert small.weight_bytes(again.scorer) == small.weight_bytes(whole.scorer)
    assert again.history == whole.history
    assert again.cost.exact() == whole.cost.exact()
    assert again.info == whole.info


def test_the_state_of_another_key_is_not_resumed(small, world, tmp_path):
    method = UNLEARNERS["sruga"](SRUGAConfig(**BASE))

    def kill(row, epoch, cap):
        if epoch == 3:
            raise Killed

    other = ResumeFolder(tmp_path / "resume", "another")
    with pytest.raises(Killed):
        method.unlearn(world.original, world.request, world.context(tmp_path, seed=5, on_epoch=kill, resume=other))
    told = []
    context = world.context(tmp_path, on_epoch=lambda row, epoch, cap: told.append(epoch))
    result = method.unlearn(world.original, world.request, context)
    assert told == [1, 2, 3]
    assert small.weight_bytes(result.scorer) == small.weight_bytes(run(world, tmp_path / "fresh").scorer)


@pytest.mark.parametrize(
    "changes",
    [
        {"ascent_weight": 0.0, "kl_weight": 0.0, "finetune_weight": 0.0},
        {**ONLY["ascent"], "anneal": "linear", "anneal_what": "ascent_weight", "anneal_floor": 0.0, "anneal_epochs": 1},
    ],
)
def test_no_active_term_is_no_crash(world, tmp_path, changes):
    """Nothing is left to do: either the model stays as it is, or the settings are refused in one line."""
    try:
        result = run(world, tmp_path, **changes)
    except SrunError:
        return
    assert result.cost.epochs <= 3


def test_numbers_that_break_down_are_an_error_that_says_what_to_do(world, tmp_path):
    with pytest.raises(RunError, match="learning_rate"):
        run(world, tmp_path, learning_rate=1e30, max_epochs=8)


def test_the_teacher_is_the_original_in_eval_mode(world, tmp_path):
    result = run(world, tmp_path, unlearn_dropout=True)
    assert not world.original.model.training
    assert not any(m.training for m in result.scorer.models)
    assert isinstance(result.scorer, Scorer)
    assert result.scorer.model is not world.original.model


def test_the_retain_terms_never_see_a_forgotten_item(small, world, tmp_path):
    """Without ascent the result does not depend on which items were forgotten."""
    item = world.data.item.copy()
    item[world.request.forget] = item[world.request.forget] % world.data.num_items + 1
    data = replace(world.data, item=item)
    other = replace(world, data=data, request=replace(world.request, data=data))
    for name, same in (("finetune_only", True), ("sruga", False)):
        one, two = (
            w.run(name, tmp_path / f"{name}{k}", **({} if same else BASE)) for k, w in enumerate((world, other))
        )
        assert (small.weight_bytes(one.scorer) == small.weight_bytes(two.scorer)) is same


def test_npo_hardly_moves_what_is_already_forgotten(world, tmp_path):
    ga, npo = (run(world, tmp_path / a, **ONLY["ascent"], ascent=a, max_epochs=20, npo_beta=2.0) for a in ("ga", "npo"))
    after = [mean_log_p(result.scorer, world.request, "ce") for result in (ga, npo)]
    assert after[0] < after[1] < mean_log_p(world.original.scorer, world.request, "ce")


@pytest.mark.parametrize("loss", ["ce", "bce"])
def test_ascent_to_a_level_ends_there(world, bce_world, tmp_path, loss):
    its = world if loss == "ce" else bce_world
    steps = {**ONLY["ascent"], "batch_size": 10_000, "max_epochs": 48, "learning_rate": 0.01}
    samples = (
        its.request.forget_queries(),
        *comparable(its.request, its.request.forget_queries(), 2, numpy_stream(0, "level"))[1],
    )

    def lead(**changes):
        """Of forgotten events over never-seen ones."""
        scorer = run(its, tmp_path / str(changes), **steps, **changes).scorer
        forgotten, *unseen = (standings(scorer, queries) for queries in samples)
        return forgotten.mean() - np.concatenate(unseen).mean()

    assert abs(lead(ascent="level")) < 0.1
    assert lead() < -0.4


def test_the_level_is_that_of_events_never_trained_on(world, tmp_path):
    ascent = ascent_of(world, tmp_path, ascent="level")
    rng = numpy_stream(0, "level")
    unseen = comparable(world.request, world.request.forget_queries(), 2, rng)[1]
    expected = np.concatenate([standings(world.original.scorer, queries) for queries in unseen])
    np.testing.assert_allclose(np.sort(ascent.level.next()), np.sort(expected), rtol=1e-4, atol=1e-5)


def test_the_level_follows_the_model(world, tmp_path):
    ascent = ascent_of(world, tmp_path, ascent="level")
    ascent.model = clone_model(world.original.model)
    first = ascent.level.next().clone()
    with torch.no_grad():
        ascent.model.output_table.mul_(-1)
    values = [ascent.level.next() for _ in range(32)]
    assert all(value.equal(first) for value in values[:-1])
    assert not values[-1].allclose(first)


def test_where_scores_lie_far_apart_the_soft_rank_is_the_rank():
    scores = torch.tensor([[100.0, 400.0, 300.0, 200.0]]).repeat(4, 1)
    found = rank_logit(torch.eye(4), scores, torch.arange(1, 5), Scratch())
    ranks = torch.tensor([4.0, 1.0, 2.0, 3.0]) - 0.5
    torch.testing.assert_close(found, ((4 - ranks) / ranks).log())


@pytest.mark.parametrize("items", [7, 5000])  # one part of rows and several
def test_what_is_asked_of_the_catalogue_is_what_plain_operations_say(items):
    generator = torch.Generator().manual_seed(0)
    state, table, other_state, other_table = (
        torch.randn(size, 3, generator=generator, dtype=torch.float64) for size in (400, items, 400, items)
    )
    targets = torch.randint(items, (400,), generator=generator) + 1
    weight = torch.rand(400, generator=generator, dtype=torch.float64)

    def standing(state, table):
        scores = state @ table.T
        own = scores.gather(1, targets[:, None] - 1)
        better = ((scores - own) / 0.3).sigmoid().sum(1)
        return ((items - better) / better).log()

    def divergence(state, table):
        return kl_loss((state @ table.T).log_softmax(-1), (other_state @ other_table.T).log_softmax(-1))

    pairs = [
        (
            lambda s, t: (weight * rank_logit(t, s, targets, Scratch())).sum(),
            lambda s, t: (weight * standing(s, t)).sum(),
        ),
        (
            lambda s, t: 3 * kl(Table(t), s, Table(other_table), other_state),
            lambda s, t: 3 * divergence(s, t).mean(),
        ),
    ]
    for one, other in pairs:
        values, gradients = [], []
        for loss in (one, other):
            leaves = [part.clone().requires_grad_() for part in (state, table)]
            values.append(loss(*leaves))
            gradients.append(torch.autograd.grad(values[-1], leaves))
        torch.testing.assert_close(*values)
        torch.testing.assert_close(*gradients)


def test_memory_that_is_used_again_changes_no_gradient_and_is_nobody_elses():
    generator, scratch = torch.Generator().manual_seed(0), Scratch()

    def loss_of(rows, items, dtype=torch.float32, scratch=scratch):
        state, table = (torch.randn(size, 3, generator=generator).to(dtype) for size in (rows, items))
        targets = torch.randint(items, (rows,), generator=generator) + 1
        table.requires_grad_()
        return rank_logit(table, state, targets, scratch).sum(), table

    def fresh(case):
        generator.manual_seed(1)
        loss, table = loss_of(*case, scratch=Scratch())
        return torch.autograd.grad(loss, table)[0]

    cases = [(40, 300), (7, 300), (40, 300), (40, 200), (60, 200), (60, 200, torch.float64)]
    expected = [fresh(case) for case in cases]
    for case, gradient in zip(cases, expected, strict=True):
        generator.manual_seed(1)
        loss, table = loss_of(*case)
        assert torch.autograd.grad(loss, table)[0].equal(gradient)

    generator.manual_seed(1)
    pairs = [loss_of(*cases[0]), loss_of(*cases[0])]  # two at a time
    assert torch.autograd.grad(*pairs[0])[0].equal(expected[0])
    assert not torch.autograd.grad(*pairs[1])[0].equal(expected[0])

    loss, table = loss_of(*cases[0])
    loss.backward(retain_graph=True)
    loss_of(*cases[0])
    with pytest.raises(RuntimeError, match="inplace operation"):
        loss.backward()


def test_without_gradients_none_are_taken(monkeypatch):
    table = torch.nn.Parameter(torch.eye(4))
    state, targets = torch.eye(4), torch.arange(1, 5)
    scratch = Scratch()
    expected = rank_logit(table, state, targets, scratch)
    monkeypatch.setattr(scratch, "take", lambda *_: pytest.fail("memory for gradients"))
    rows = Table(table).output_weight[1:]
    assert rows.requires_grad
    with torch.no_grad():
        assert rank_logit(rows, state, targets, scratch).equal(expected.detach())


def test_no_target_has_no_divergence():
    table = torch.ones(3, 2, requires_grad=True)
    loss = kl(Table(table), torch.zeros(0, 2), Table(table), torch.zeros(0, 2))
    loss.backward()
    assert loss == 0
    assert (table.grad == 0).all()


def test_a_level_without_never_seen_events_is_an_error_that_says_what_to_do(small, tmp_path):
    data = small.make_data(small.log_of([[0, 1, 2, 3, 4 + user, 60 + user] for user in range(30)]))
    file = small.write_request(tmp_path / "r.csv", [(f"u{user}", "i2", 2) for user in range(30)])
    world = small.make_world(data, small.interactions_request(file=file), tmp_path)
    with pytest.raises(DataError, match=r"ascent: level needs never-seen events.*use ga"):
        run(world, tmp_path, ascent="level")


def test_what_may_not_move_keeps_its_bytes(world, tmp_path):
    before = world.original.model.state_dict()
    for update in ("embeddings", "blocks"):
        after = run(world, tmp_path / update, update=update).scorer.model.state_dict()
        same = {name for name, value in after.items() if torch.equal(value, before[name])}
        idle = {name for name in before if name.endswith("attention.key.bias")}  # of one head: it has no gradient
        moved = set(before) - {"embedding.weight"} - idle if update == "blocks" else {"embedding.weight"}
        assert same == set(before) - moved


@pytest.mark.parametrize("ascent", ["ga", "npo", "level"])
def test_output_layer_moves_what_scores_an_item_by_the_states_of_the_original(world, tmp_path, ascent):
    changes = {"ascent": ascent, "kl_weight": 1.0, "finetune_weight": 0.0, "kl_positions": "targets"}
    one_step = {"batch_size": 10_000, "retain_batch_size": 10_000, "max_epochs": 1, "learning_rate": 1e-3}
    model = run(world, tmp_path, update="output_layer", **changes, **one_step).scorer.model
    original = world.original.model
    kept = {name: value for name, value in model.state_dict().items() if name != "output.weight"}
    assert kept.keys() == original.state_dict().keys()
    assert all(value.equal(original.state_dict()[name]) for name, value in kept.items())
    after = torch.cat([model.output_table, original.embedding.weight[-1:]])  # there is no row for the mask
    table = original.embedding.weight.detach().clone().requires_grad_()
    queries = world.request.forget_queries()
    histories = torch.from_numpy(queries.histories(world.data.max_length).astype(np.int64))
    targets = torch.from_numpy(queries.target.astype(np.int64))
    with torch.no_grad():
        states = original.hidden(histories)[:, -1]
    scores = states @ table[1 : world.data.num_items + 1].T
    log_p = scores.log_softmax(-1).gather(1, targets[:, None] - 1)[:, 0]
    own = scores.gather(1, targets[:, None] - 1)
    better = ((scores - own) / 0.3).sigmoid().sum(1)
    standing = ((world.data.num_items - better) / better).log()
    loss = {
        "ga": lambda: log_p,
        "npo": lambda: npo_loss(log_p, log_p.detach(), 0.5),
        "level": lambda: level_loss(standing, ascent_of(world, tmp_path / "level", ascent="level").level.next()),
    }[ascent]().mean()
    (gradient,) = torch.autograd.grad(loss, table)  # KL has none at the start
    moved = (after - original.embedding.weight).abs() > 5e-4  # a first step of Adam is the rate, by the sign
    assert moved.any()
    large = gradient.abs() > 1e-6
    assert (moved == large)[large].all()
    agree = (after < original.embedding.weight)[large] == (gradient > 0)[large]
    assert agree.float().mean() > (0.95 if ascent == "level" else 0.999)  # a distance of about 0 may have either sign


def test_output_layer_passes_forward_only_and_once_over_the_forget_set(world, tmp_path):
    forget, retain = positions(world)
    whole = {"batch_size": 10_000, "retain_batch_size": 10_000, "update": "output_layer"}
    cost = run(world, tmp_path / "a", **whole).cost
    assert cost.target_gradients == pytest.approx(forget / 3 + 3 * retain / 3)
    pcgrad = run(world, tmp_path / "b", **whole, weighting="pcgrad").cost
    assert pcgrad.target_gradients == pytest.approx(cost.target_gradients)
    npo = run(world, tmp_path / "c", **whole, **ONLY["ascent"], ascent="npo").cost
    assert npo.target_gradients == pytest.approx(forget / 3)


def test_a_sample_of_the_retain_set_is_passed_once_under_output_layer(world, tmp_path):
    forget, retain = positions(world)
    settings = {"batch_size": 10_000, "retain_batch_size": 10_000, "update": "output_layer", **ONLY["kl"]}
    settings |= {"ascent_weight": 0.5}
    for folder, where in (("last", "last"), ("targets", "targets")):
        kept = run(world, tmp_path / folder, **settings, kl_positions=where, retain_sample=10_000)
        assert kept.cost.target_gradients == pytest.approx((forget + retain) / 3)
    few = run(world, tmp_path / "few", **settings, retain_sample=5)
    assert few.cost.target_gradients < (forget + retain) / 3
    again = run(world, tmp_path / "again", **settings, kl_positions="targets")  # every time anew, by the same batches
    assert [row["unlearn/kl_loss"] for row in kept.history[1:]] == pytest.approx(
        [row["unlearn/kl_loss"] for row in again.history[1:]], rel=1e-3
    )


def test_steps_end_what_epochs_would_go_on_with(world, tmp_path):
    def run_of(**changes):
        result = run(world, tmp_path / str(changes), batch_size=16, **changes)
        return result.cost.epochs, result.history

    num_batches = ascent_of(world, tmp_path, batch_size=16).num_batches
    assert num_batches > 2
    steps = {num_batches: 1, num_batches + 1: 2, 10 * num_batches: 3}  # an epoch that has begun is ended
    for number, epochs in steps.items():
        assert run_of(max_epochs=3, max_steps=number)[0] == epochs
    annealed = run_of(max_epochs=9, max_steps=2 * num_batches, anneal="linear", anneal_epochs=None)
    assert annealed == run_of(max_epochs=2, anneal="linear", anneal_epochs=2)


def test_kl_over_a_sample_of_all_items_is_kl_over_the_catalogue(world, tmp_path):
    settings = {**ONLY["kl"], "unlearn_dropout": True, "batch_size": 10_000, "max_epochs": 1}
    values = [
        run(world, tmp_path / str(items), **settings, kl_items=items).history[1]["unlearn/kl_loss"]
        for items in ("all", world.data.num_items, 3)
    ]
    assert values[0] == pytest.approx(values[1], rel=1e-4)
    assert values[0] != pytest.approx(values[2], rel=1e-2)


def test_kl_at_the_targets_of_a_cloze_model_shares_the_pass_of_fine_tuning(cloze_world, tmp_path):
    costs = [run(cloze_world, tmp_path / where, kl_positions=where).cost for where in ("last", "targets")]
    assert costs[1].target_gradients < costs[0].target_gradients
    assert costs[1].steps == costs[0].steps


def test_kl_at_all_targets_counts_each_as_scored(world, tmp_path):
    def scored(**changes):
        return run(world, tmp_path / str(changes), **ONLY["kl"], batch_size=10_000, retain_batch_size=10_000, **changes)

    windows = TrainingData(world.data, world.request.retain, None, torch.device("cpu")).windows
    num_targets = int((windows[:, :-1] != 0).sum())
    assert scored(kl_positions="last").cost.scored_positions == 3 * 2 * len(windows)  # by both models
    assert scored(kl_positions="targets").cost.scored_positions == 3 * 2 * num_targets


def test_a_sample_counts_no_position_scored_over_the_catalogue(world, tmp_path):
    for term in ("kl", "finetune"):
        settings = [{**ONLY[term], f"{term}_items": items} for items in (5, "all")]
        sampled, whole = (run(world, tmp_path / f"{term}-{i}", **one).cost for i, one in enumerate(settings))
        assert sampled.scored_positions == 0 < whole.scored_positions
        assert sampled.target_gradients == whole.target_gradients


def test_the_original_passes_forward_once_more_for_npo(world, tmp_path):
    forget, _ = positions(world)
    cost = run(world, tmp_path, **ONLY["ascent"], ascent="npo", batch_size=10_000, retain_batch_size=10_000).cost
    assert cost.target_gradients == pytest.approx(3 * forget * (1 + 1 / 3))


@pytest.mark.parametrize("weighting", ["pcgrad", "mgda"])
def test_a_pass_gone_back_through_twice_counts_so(world, tmp_path, weighting):
    forget, retain = positions(world)
    cost = run(world, tmp_path, weighting=weighting, batch_size=10_000, retain_batch_size=10_000).cost
    assert cost.target_gradients == pytest.approx(3 * (forget + retain * (1 + 2 / 3 + 1 / 3)))


def ascent_of(world, folder, **changes):
    settings = SRUGAConfig(**{**BASE, "batch_size": 10_000, **changes})
    model = world.original.model
    return Ascent(settings, model, model, world.request, world.original.recipe, Streams(0), Meter())


def test_all_forgotten_items_of_a_window_are_masked_and_are_the_only_targets(cloze_world, tmp_path):
    data, request = cloze_world.data, cloze_world.request
    ascent = ascent_of(cloze_world, tmp_path, mask_all_forgotten=True)
    inputs, place, targets = ascent._batch(torch.arange(len(ascent.items)))
    assert torch.equal(place, inputs == data.num_items + 1)
    assert place.any(1).all()
    forgotten = set(zip(data.user[request.forget].tolist(), data.item[request.forget].tolist(), strict=True))
    found = set(zip(ascent.users[:, None].expand_as(place)[place].tolist(), targets.tolist(), strict=True))
    assert found == forgotten
    retained = set(zip(data.user[request.retain].tolist(), data.item[request.retain].tolist(), strict=True))
    shown = (inputs > 0) & ~place
    assert (
        set(zip(ascent.users[:, None].expand_as(place)[shown].tolist(), inputs[shown].tolist(), strict=True))
        <= retained
    )


def test_masked_together_they_are_forgotten_too(cloze_world, tmp_path):
    result = run(cloze_world, tmp_path, **ONLY["ascent"], mask_all_forgotten=True, learning_rate=0.01)
    before, after = (mean_log_p(s, cloze_world.request, "bce") for s in (cloze_world.original.scorer, result.scorer))
    assert after < before


def test_reversed_negatives_rise(bce_world, tmp_path):
    with_them, without = (
        run(bce_world, tmp_path / str(on), **ONLY["ascent"], ascent_negatives=on, max_epochs=6) for on in (True, False)
    )
    queries = bce_world.request.forget_queries()
    histories = torch.from_numpy(queries.histories(bce_world.data.max_length).astype(np.int64))
    users = torch.from_numpy(queries.user.astype(np.int64))
    high, low = (r.scorer.scores(histories, users)[:, 1:].mean() for r in (with_them, without))
    assert high > low


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ascent_negatives": True}, "ascent_negatives: train.loss ce has no negatives"),
        ({"mask_all_forgotten": True}, "mask_all_forgotten: only a cloze model"),
    ],
)
def test_options_without_an_effect_are_refused_with_their_key(world, tmp_path, changes, words):
    with pytest.raises(ConfigError, match=f"unlearn.sruga.{words}"):
        run(world, tmp_path, **changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"weighting": "mgda", **ONLY["ascent"]}, "needs two weights"),
        ({"ascent": "level", "mask_all_forgotten": True}, "one event at a time"),
        ({"update": "output_layer", "mask_all_forgotten": True}, "one event at a time"),
        ({"update": "output_layer", "unlearn_dropout": True}, "set unlearn_dropout to false"),
        ({"ascent": "level", "ascent_negatives": True}, "level has no negatives"),
        ({"weighting": "uncertainty"}, "no lower bound"),
        ({"ascent": "npo", "ascent_negatives": True}, "has no negatives"),
        ({"anneal": "exponential", "anneal_floor": 0.0}, "anneal_floor"),
        ({"kl_items": 1}, "kl_items"),
        ({"finetune_items": 1}, "finetune_items"),
        ({"kl_items": "some"}, "kl_items"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(small, changes, words):
    with pytest.raises(ConfigError, match=words):
        small.method_settings("sruga", **{**BASE, **changes})


def test_what_is_annealed():
    def at_the_end(what):
        settings = SRUGAConfig(**{**BASE, "anneal": "linear", "anneal_floor": 0.0, "anneal_what": what})
        return (*settings.weights(9).values(), settings.rate(9))

    assert at_the_end("learning_rate") == (0.5, 1.0, 0.5, 0.0)
    assert at_the_end("ascent_weight") == (0.0, 1.0, 0.5, 0.003)
    assert at_the_end("unlearning_rate") == (0.0, 0.0, 0.5, 0.003)


@pytest.mark.parametrize(
    "changes",
    [
        {"weighting": "uncertainty", "ascent": "npo", "weighting_rate": 0.1},
        {"weighting": "pcgrad", "kl_items": 7, "finetune_items": 9},
        {"weighting": "mgda", "anneal": "cosine", "anneal_what": "unlearning_rate"},
        {"mask_all_forgotten": True, "ascent_negatives": True},
        {"update": "output_layer", "unlearn_dropout": False, "ascent": "npo"},
        {"update": "output_layer", "unlearn_dropout": False, "ascent": "level", "retain_sample": 20},
    ],
)
def test_a_killed_run_with_other_options_goes_on_to_the_same_bits(small, cloze_world, tmp_path, changes):
    method = UNLEARNERS["sruga"](SRUGAConfig(**{**BASE, "unlearn_dropout": True, **changes}))

    def kill(row, epoch, cap):
        if epoch == 2:
            raise Killed

    whole = method.unlearn(cloze_world.original, cloze_world.request, cloze_world.context(tmp_path / "whole"))
    with pytest.raises(Killed):
        method.unlearn(cloze_world.original, cloze_world.request, cloze_world.context(tmp_path / "a", on_epoch=kill))
    again = method.unlearn(cloze_world.original, cloze_world.request, cloze_world.context(tmp_path / "a"))
    assert small.weight_bytes(again.scorer) == small.weight_bytes(whole.scorer)
    assert (again.history, again.cost.exact()) == (whole.history, whole.cost.exact())


@pytest.mark.parametrize("weighting", ["fixed", "uncertainty", "pcgrad", "mgda"])
def test_the_seven_combinations_of_terms(world, tmp_path, weighting):
    names = ("ascent", "kl", "finetune")
    for chosen in range(1, 8):
        active = [name for index, name in enumerate(names) if chosen >> index & 1]
        if len(active) < 2 and weighting in ("pcgrad", "mgda"):
            continue
        weights = {f"{name}_weight": float(name in active) for name in names}
        result = run(world, tmp_path / str(chosen), ascent="npo", weighting=weighting, max_epochs=1, **weights)
        assert {name for name in names if f"unlearn/{name}_loss" in result.history[1]} == set(active)


def test_a_level_is_refused_for_a_category(worlds, tmp_path):
    world = worlds["category", False]
    with pytest.raises(ConfigError, match=r"level is not defined for a category.*use ga"):
        run(world, tmp_path, ascent="level")


def test_a_level_by_event_brings_each_event_near_its_own(aside_world, tmp_path):
    """From where Original has them to their levels, which are as far from each other as the events themselves."""
    level = predict_level(
        aside_world.original.model, aside_world.request, aside_world.original.crossfit, 0, torch.device("cpu")
    )
    only = {**ONLY["ascent"], **BY_EVENT, "batch_size": 10_000, "learning_rate": 0.02, "max_epochs": 60}

    def missed(scorer):
        z = standings(scorer, aside_world.request.forget_queries())
        return np.abs(z - level.wanted.numpy()).mean()

    after = run(aside_world, tmp_path, **only)
    assert missed(after.scorer) < 0.4 * missed(aside_world.original.scorer)
    assert after.info["level_events"] == level.info["level_events"]


def test_states_are_brought_to_their_levels_by_tables_fitted_to_them(aside_world, tmp_path):
    """By a table that is fitted to what comes of it, events stand nearer to their levels than where rows alone did."""
    original, request, cpu = aside_world.original.model, aside_world.request, torch.device("cpu")
    fitted = scored_by(original, fitted_table(original, request, 0, cpu)[0])
    wanted = predict_level(fitted, request, aside_world.original.crossfit, 0, cpu).wanted.numpy()
    only = {**ONLY["ascent"], **BY_EVENT, "batch_size": 10_000, "learning_rate": 0.02, "max_epochs": 60}

    def missed(model):
        scorer = Scorer([scored_by(model, fitted_table(model, request, 0, cpu)[0])])
        return np.abs(standings(scorer, request.forget_queries()) - wanted).mean()

    without, with_states = (
        missed(run(aside_world, tmp_path / str(weight), **only, states_weight=weight).scorer.model)
        for weight in (0.0, 2.0)
    )
    assert with_states < 0.8 * min(without, missed(original))


def test_states_cannot_be_asked_where_they_stay_as_they_are(small):
    with pytest.raises(ConfigError, match="set states_weight to 0"):
        small.method_settings("sruga", **{**BASE, **BY_EVENT, "update": "output_layer", "states_weight": 0.5})


def test_a_level_by_event_is_measured_without_dropout(aside_world, tmp_path):
    """What one step says of the distance does not depend on masks, and the model goes on with dropout."""
    losses = [
        run(aside_world, tmp_path / str(on), **ONLY["ascent"], **BY_EVENT, unlearn_dropout=on, max_epochs=1).history[1]
        for on in (True, False)
    ]
    assert losses[0]["unlearn/ascent_loss"] == losses[1]["unlearn/ascent_loss"]


def test_a_level_by_event_goes_on_after_a_kill(small, aside_world, tmp_path):
    changes = {**BY_EVENT, "rows": ROWS, "states_weight": 0.5, "max_epochs": 3}

    def kill(row, epoch, cap):
        if epoch == 2:
            raise Killed

    method = UNLEARNERS["sruga"](small.method_settings("sruga", **{**BASE, **changes}))
    with pytest.raises(Killed):
        method.unlearn(
            aside_world.original, aside_world.request, aside_world.context(tmp_path / "killed", on_epoch=kill)
        )
    again = method.unlearn(aside_world.original, aside_world.request, aside_world.context(tmp_path / "killed"))
    whole = run(aside_world, tmp_path / "whole", **changes)
    assert small.weight_bytes(again.scorer) == small.weight_bytes(whole.scorer)
    assert again.cost.exact() == whole.cost.exact()


@pytest.mark.parametrize("kind", ["users", "category"])
def test_a_level_by_event_is_for_every_kind_of_request(small, aside_worlds, tmp_path, kind):
    world = aside_worlds[kind]
    after = run(world, tmp_path, **BY_EVENT, max_epochs=1).scorer
    assert small.weight_bytes(after) != small.weight_bytes(world.original.scorer)
