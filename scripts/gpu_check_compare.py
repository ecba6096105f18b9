"""Parts of gpu_check.py that compare a device with the CPU: the same numbers, up to the rounding of float32.

Random streams draw other numbers on a GPU. So what is compared draws nothing (whole passes as one batch, no dropout),
is given its draws, or is compared by figures that draws hardly move. A trained model that both are given was trained on
the device, where it takes less time. Shapes: B batch, L length, T targets, F events.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from gpu_check_bench import CPU, QUIET, Bench, Figure, Scale, apart, jobs, methods, moved
from torch import Tensor

from srun.data.dataset import training_windows
from srun.evaluation.ranking import RankingTask
from srun.evaluation.recovery import recover
from srun.metrics.ranking import hit, ndcg
from srun.models import MODELS
from srun.models.base import SequenceModel
from srun.models.scorer import Scorer, clone_model
from srun.rng import stream
from srun.training import losses
from srun.training.fit import train_new
from srun.training.together import train_all
from srun.unlearning.base import Context, Original, Unlearner
from srun.unlearning.closed_form.levels import predict_level
from srun.unlearning.closed_form.rows import move_rows
from srun.unlearning.sruga.method import SRUGA

ALL = 10**7  # rows of a batch: all of them
STEPS = 5
LEAST = 0.01  # nats, below which a loss, such as KL before the first step, is itself of the size of its rounding
ROUNDING = "sums of float32 in another order (among CPU libraries they differ by 1e-7)"
AMPLIFIED = "Adam divides by the size of a gradient, all rounding for some weights (among CPU libraries 1e-5)"
DRAWS = "other draws on another device"
Loss = Callable[[SequenceModel, Tensor, Tensor, Tensor], Tensor]
LOSSES: dict[str, Loss] = {
    "ce": lambda model, state, targets, negatives: losses.ce(model, state, targets, None),
    "bce": losses.bce,
    "gbce": lambda model, state, targets, negatives: losses.gbce(model, state, targets, negatives, 0.5),
}


def compare_losses(bench: Bench, scale: Scale, device: torch.device) -> Iterator[Figure]:
    """Losses and gradients of one fixed batch, without dropout."""
    windows = bench.windows(CPU)
    for name in MODELS:
        model = bench.model(bench.description(name), CPU).eval()
        rows = torch.arange(min(len(windows), 256))
        inputs, targets = model.training_pairs(windows.batch(rows)[0], stream(0, "cloze"))
        negatives = windows.negatives(windows.user[rows].repeat_interleave((targets != 0).sum(1)), 4, stream(0, "n"))
        batch = inputs, targets, negatives
        for loss in LOSSES:
            expected, gradient = _loss(model, loss, batch, CPU)
            value, own = _loss(model, loss, batch, device)
            yield Figure(f"{name}, {loss}: loss of each target", apart(value, expected), "", 1e-5, ROUNDING)
            yield Figure(f"{name}, {loss}: gradient", apart(own, gradient), "", 1e-4, ROUNDING)
        with torch.autocast(device.type, torch.bfloat16):
            low, _ = _loss(model, "ce", batch, device)
        expected, _ = _loss(model, "ce", batch, CPU)
        yield Figure(
            f"{name}, ce in bf16: mean loss",
            apart(low.mean(), expected.mean()),
            "",
            0.01,
            "bfloat16 keeps 8 bits of a product",
        )


def _loss(
    model: SequenceModel, loss: str, batch: tuple[Tensor, Tensor, Tensor], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Losses (T,) and the gradient of their mean by all weights, on a device."""
    inputs, targets, negatives = (part.to(device) for part in batch)
    copy = clone_model(model).to(device).eval()
    values = LOSSES[loss](copy, copy.hidden(inputs)[targets != 0], targets[targets != 0], negatives)
    values.mean().backward()
    return values, torch.cat([p.grad.flatten() for p in copy.parameters() if p.grad is not None])


def compare_ranks(bench: Bench, scale: Scale, device: torch.device) -> Iterator[Figure]:
    """Ranks of test targets by one trained model."""
    queries = bench.request.queries("test")
    for name in MODELS:
        model = bench.original(bench.description(name), scale.epochs, device).model
        ranks = [
            RankingTask.make(queries, bench.data.max_length, place, 512).ranks(Scorer([clone_model(model).to(place)]))
            for place in (CPU, device)
        ]
        change = abs(ranks[1].rank - ranks[0].rank)
        ties = "items whose scores differ by less than rounding change places"
        yield Figure(f"{name}: share of ranks that differ", float((change > 0).mean()), "", 0.02, ties)
        yield Figure(f"{name}: places by which the furthest moved", float(change.max()), "", 3, ties)
        yield Figure(f"{name}: NDCG@10", abs(ndcg(ranks[1].rank, 10) - ndcg(ranks[0].rank, 10)), "", 1e-3, ties)


def compare_training(bench: Bench, scale: Scale, device: torch.device) -> Iterator[Figure]:
    """Models after a few steps, each on all windows at once, without dropout."""
    recipe = bench.recipe(STEPS, batch_size=ALL, group_by_length=False)
    for name in (name for name in MODELS if MODELS[name].next_item):  # a cloze model draws what it masks
        description = bench.description(name, dropout=0.0)
        (expected, fit), (own, own_fit) = (
            train_new(description, bench.windows(place), recipe, 0, QUIET) for place in (CPU, device)
        )
        yield Figure(
            f"{name}: losses of {STEPS} steps", _curves_apart(own_fit.history, fit.history), "", 1e-4, ROUNDING
        )
        start = bench.model(description, CPU)
        yield Figure(f"{name}: weights, of how far they moved", moved(own, expected, start), "", 0.01, AMPLIFIED)


def _curves_apart(own: list[dict[str, float]], expected: list[dict[str, float]]) -> float:
    """The largest difference of a loss in two histories, as a share of the loss."""
    pairs = [
        (row[key], other[key])
        for row, other in zip(own, expected, strict=True)
        for key in other
        if key.endswith("loss")
    ]
    return max(abs(one - other) / max(abs(other), LEAST) for one, other in pairs)


def compare_closed_form(bench: Bench, scale: Scale, device: torch.device) -> Iterator[Figure]:
    """Levels by event and solved rows of one trained model, with the same retained states and sampled items."""
    for name in ("sasrec", "bert4rec"):
        original = bench.original(bench.description(name), scale.epochs, device).model
        level, own = (
            predict_level(clone_model(original).to(place).eval(), bench.request, None, 0, place)
            for place in (CPU, device)
        )
        yield Figure(f"{name}: levels", apart(own.wanted, level.wanted), "", 1e-2, "a rank that moved by a place")
        windows = torch.from_numpy(training_windows(bench.data, bench.request.retain).items.astype("int64"))[:2048]
        models = [clone_model(original).to(place).eval() for place in (CPU, device)]
        for model, place in zip(models, (CPU, device), strict=True):
            given = (level.items.to(place), level.wanted.to(place), windows.to(place))
            move_rows(model, *given, bench.closed_form(), stream(0, "sample"))
        yield Figure(
            f"{name}: rows, of how far they moved",
            moved(models[1], models[0], original),
            "",
            0.005,
            "events that stand alike may swap their levels between rounds",
        )


def compare_sruga(bench: Bench, scale: Scale, device: torch.device) -> Iterator[Figure]:
    """A trained model after a few of SRUGA's steps, each on all events at once, without dropout."""
    original = bench.original(bench.description("sasrec"), scale.epochs, device)
    for name, settings in (("by event", bench.sruga_by_event()), ("output layer", bench.sruga_output_layer())):
        whole = replace(
            settings,
            batch_size=ALL,
            retain_batch_size=ALL,
            unlearn_dropout=False,
            max_steps=STEPS,
            rows=None,
            finetune_items="all",
        )
        expected, own = (
            SRUGA(whole).unlearn(_on(original, place), bench.request, Context.quiet(place, 0))
            for place in (CPU, device)
        )
        curves = _curves_apart(own.history[1:], expected.history[1:])
        yield Figure(f"{name}: losses of {STEPS} steps", curves, "", 1e-3, ROUNDING)
        start = SRUGA(replace(whole, learning_rate=1e-30)).unlearn(
            _on(original, CPU), bench.request, Context.quiet(CPU, 0)
        )
        apart_by = moved(own.scorer.model, expected.scorer.model, start.scorer.model)
        yield Figure(f"{name}: weights, of how far they moved", apart_by, "", 0.01, AMPLIFIED)


def _on(original: Original, device: torch.device) -> Original:
    """The same Original with a copy of its model on a device."""
    return replace(original, scorer=Scorer([clone_model(original.model).to(device)]))


def compare_together(bench: Bench, scale: Scale, device: torch.device) -> Iterator[Figure]:
    """Shards trained as one on the device beside the same one after the other."""
    for name in ("sasrec", "bert4rec"):
        training = jobs(bench, bench.description(name), scale.shards, device)
        alone, joint = (train_all(training, bench.recipe(2), together) for together in (False, True))
        difference = max(
            _curves_apart(one.history, other.history) for (_, one), (_, other) in zip(joint, alone, strict=True)
        )
        yield Figure(f"{name}: losses of {scale.shards} shards as one, 2 epochs", difference, "", 1e-3, AMPLIFIED)


def compare_bits(bench: Bench, scale: Scale, device: torch.device) -> Iterator[Figure]:
    """The same seed twice on the device: weights that differ in any bit."""
    same = "the same seed on the same device gives the same bits"
    for name in MODELS:
        for loss in ("ce", "bce"):
            recipe = bench.recipe(1, loss=loss)
            description = bench.description(name)
            once, again = (train_new(description, bench.windows(device), recipe, 0, QUIET)[0] for _ in range(2))
            yield Figure(f"{name}, {loss}: weights after an epoch", _differing(once, again), "weights", 0, same)
    original = bench.original(bench.description("sasrec"), 1, device)
    for name, method in methods(bench).items():
        once, again = (method.unlearn(original, bench.request, Context.quiet(device, 0)).scorer.model for _ in range(2))
        yield Figure(f"{name}: weights after unlearning", _differing(once, again), "weights", 0, same)


def _differing(one: SequenceModel, other: SequenceModel) -> float:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return float(sum(int((a != b).sum()) for a, b in pairs))


def compare_unlearned(bench: Bench, scale: Scale, device: torch.device) -> Iterator[Figure]:
    """One Original, unlearned and measured on both devices, as in a flow."""
    original = bench.original(bench.description("sasrec"), scale.epochs, device)
    for name, method in methods(bench).items():
        expected, own = (_measured(bench, method, _on(original, place), place) for place in (CPU, device))
        for key, value in expected.items():
            yield Figure(f"{name}: {key} ({value:.4f} on the CPU)", abs(own[key] - value), "", 0.03, DRAWS)


def _measured(bench: Bench, method: Unlearner[Any], original: Original, device: torch.device) -> dict[str, float]:
    scorer = method.unlearn(original, bench.request, Context.quiet(device, 0)).scorer
    figures = {}
    for split, metric in (("forget_report", hit), ("test", ndcg)):
        task = RankingTask.make(bench.request.queries(split), bench.data.max_length, device, 512)
        figures[f"{split}/{metric.__name__}_10"] = metric(task.ranks(scorer).rank, 10)
    attacks = recover(scorer.model, bench.request, 512, 0, device)
    return figures | {f"recover_{attack.attack}": attack.hit_10 for attack in attacks if attack.attack != "own"}
