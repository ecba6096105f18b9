"""What someone who has a model's file can have back of forgotten events, with retained data at hand and in seconds.

Own tables: the file may hold Original beside what is shown. Ridge and sampled softmax: a new table fitted to the states
that the file's network gives, which are frozen; states that were never unlearned then tell again what rows no longer
say. Shapes: T positions with a target, D hidden, V catalogue, N negatives.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from srun.errors import DataError
from srun.evaluation.ranking import RankingTask
from srun.metrics.bootstrap import Bounded
from srun.metrics.ranking import hits, ndcg
from srun.models.base import SequenceModel
from srun.models.scorer import Scorer
from srun.requests.partition import Partition
from srun.rng import numpy_stream, stream
from srun.training.fit import make_adam
from srun.training.losses import sampled_ce
from srun.unlearning.fitted import retained_states, ridge_table, scored_by

NEGATIVES, BATCH, PASSES = 512, 1024, 2
FROM_ZERO, FROM_TABLE = 5e-3, 1e-3  # Adam's rates


@dataclass(frozen=True)
class Recovered:
    """What one attack has back."""

    attack: str
    """``own``: the model as it is, without masks; ``scored_by_input``; ``swapped``; ``ridge``; ``softmax_zero``;
    ``softmax_<table>``. Tables are ``input`` and, where embeddings are not tied, ``output``."""
    hit_10: float
    """Of the forgotten events of report users."""
    hit_10_low: float
    hit_10_high: float
    """Ends of its 95 % interval over users."""
    test_ndcg_10: float
    """What the recovered model is worth otherwise: one that finds nothing finds no forgotten event either."""


def recover(
    model: SequenceModel, request: Partition, batch_size: int, seed: int, device: torch.device
) -> list[Recovered]:
    """Attack ``model`` in every way; raises DataError for a request without forgotten events of report users."""
    if not len(request.queries("forget_report")):
        raise DataError("no forgotten event of a report user has a context, so nothing can be recovered")
    tasks = [
        RankingTask.make(request.queries(split), model.max_length, device, batch_size)
        for split in ("forget_report", "test")
    ]
    recovered = []
    for attack, attacked in _attacked(model, request, seed, device):
        scorer = Scorer([attacked])
        forgotten, test = (task.ranks(scorer).rank for task in tasks)
        rng = numpy_stream(seed, f"recovery/{attack}")
        back = Bounded.mean(hits(forgotten, 10), tasks[0].queries.user, rng)
        recovered.append(Recovered(attack, back.value, back.low, back.high, ndcg(test, 10)))
    return recovered


def recovered_figures(recovered: Sequence[Recovered]) -> dict[str, float]:
    """The split ``recovered``: ``<attack>_hit_10``, the ends of its interval, and ``<attack>_test_ndcg_10``."""
    figures: dict[str, float] = {}
    for one in recovered:
        values = {name: value for name, value in vars(one).items() if name != "attack"}
        figures |= {f"{one.attack}_{name}": value for name, value in values.items()}
    return figures


def item_tables(model: SequenceModel) -> dict[str, Tensor]:
    """(V, D) rows of the items in every table of a model's file, by name."""
    tables = {"input": model.embedding} | ({} if model.output is None else {"output": model.output})
    return {name: table.weight[1 : model.num_items + 1].detach().clone() for name, table in tables.items()}


def softmax_table(states: Tensor, targets: Tensor, start: Tensor, rate: float, generator: torch.Generator) -> Tensor:
    """(V, D) a table trained from ``start`` (V, D) by sampled softmax: negatives shared by a batch, with log q."""
    table = torch.nn.Parameter(start.clone())
    optimiser = make_adam(torch.nn.ParameterList([table]), rate)
    for _ in range(PASSES):
        order = torch.randperm(len(states), generator=generator, device=generator.device)
        for rows in order.split(BATCH):
            drawn = torch.randint(len(table), (NEGATIVES,), generator=generator, device=generator.device)
            loss = sampled_ce(states[rows], table, targets[rows] - 1, drawn, len(table)).mean()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
    return table.detach()


def _attacked(
    model: SequenceModel, request: Partition, seed: int, device: torch.device
) -> Iterator[tuple[str, SequenceModel]]:
    """Every attack's name and the model that it makes."""
    yield "own", model
    tables = item_tables(model)
    if model.output is not None:
        yield "scored_by_input", scored_by(model, tables["input"])  # by the output table: the model as it is
        swapped = scored_by(model, tables["input"])
        swapped.embedding.weight.data[1 : model.num_items + 1] = tables["output"]
        yield "swapped", swapped
    states, targets = retained_states(model, request, seed, device)
    yield "ridge", scored_by(model, ridge_table(states, targets, model.num_items))
    starts = {"zero": (torch.zeros_like(tables["input"]), FROM_ZERO)}
    starts |= {name: (table, FROM_TABLE) for name, table in tables.items()}
    for name, (start, rate) in starts.items():
        generator = stream(seed, f"recovery-{name}", device)
        yield f"softmax_{name}", scored_by(model, softmax_table(states, targets, start, rate, generator))
