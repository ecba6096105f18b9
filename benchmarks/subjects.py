"""Subjects of an audit in memory: models measured, mixed with Original, and judged by the verdict of `srun audit`.

Shapes: Q forgotten events of report users, S events that membership attacks look at (the Q first), X features, V items.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import t

from srun.data.sequences import Queries
from srun.evaluation.ranking import RankingTask
from srun.evaluation.recovery import recover, recovered_figures
from srun.evaluation.signals import signals
from srun.judging.records import (
    BY_EVENT,
    METRIC,
    RECOVERED,
    SPLIT,
    Group,
    Metrics,
    Record,
    Trained,
    group_records,
)
from srun.judging.styles import ORIGINAL, REFERENCE
from srun.judging.verdict import Verdict, verdict
from srun.metrics.forgetting import MIN_RETRAINS
from srun.metrics.membership import ATTACKS, Events, Membership, Signals, attack_scores, auc
from srun.metrics.memory import z_rank
from srun.metrics.ranking import EventRanks, hit, mean_and_spread, ndcg
from srun.metrics.recovered import of_retrain
from srun.models.published import load_published
from srun.models.scorer import Scorer, clone_model
from srun.requests.partition import Partition
from srun.rng import numpy_stream
from srun.unlearning.closed_form.features import RetainedFeatures

CPU = torch.device("cpu")
BATCH = 512
SUBJECT = "subject"
"""Method of a subject's row: none that is registered, so that it is judged as any method is."""
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Measures:
    """What a verdict needs of one model."""

    told: Signals  # (S,)
    ndcg_10: float
    """Of test targets."""
    recovered: Mapping[str, float]
    """Figures of attacks on its file; empty where there is no file, as of ranks that were mixed."""


@dataclass(frozen=True)
class Subject:
    """What is judged, and the place of the Original that it came from in the list of these."""

    measures: Measures
    original: int = 0


@dataclass(frozen=True)
class Judged:
    """The verdict of a subject, and how small the chance is of its farthest figure."""

    verdict: Verdict
    p_values: Mapping[str, float]
    """By test: the chance that one more Retrain is as far from the Retrains."""
    num_tests: int

    @property
    def parts(self) -> dict[str, str]:
        """Part -> its word; of a part that fails, how."""
        return {part.name: part.how if part.word == "fails" else part.word for part in self.verdict.parts}

    @property
    def failed(self) -> set[str]:
        """The parts that fail."""
        return {part.name for part in self.verdict.parts if part.word == "fails"}

    @property
    def min_p(self) -> float:
        """The smallest of the p-values times their number; above 1 where nothing is far, so that it still orders."""
        return min(self.p_values.values()) * self.num_tests


class Bench:
    """Asks models of one request for what a verdict needs."""

    def __init__(self, request: Partition, num_items: int, max_length: int, most: int | None = None) -> None:
        """``most``: of never-seen events of either sort, and of test targets, so many are drawn; None takes all."""
        self.request, self.num_items = request, num_items
        forgotten = request.queries(SPLIT)
        self.num_forgotten = len(forgotten)
        self.features: Floats = RetainedFeatures(request, 0)(forgotten)
        population = [request.queries(f"never_seen_{half}") for half in ("tune", "report")]
        asides = [_some(queries, most) for queries in (request.never_trained(audit=True), *population)]
        self.queries = (forgotten, *asides)
        self.events = _events(self.queries)
        self.attacked = replace(request)  # its splits are its own
        self.attacked.splits["test"] = _some(request.queries("test"), most)
        self.test = RankingTask.make(self.attacked.queries("test"), max_length, CPU, BATCH)

    @property
    def users(self) -> NDArray[np.int64]:
        """(Q,) whose the forgotten events are."""
        return self.events.users[: self.num_forgotten]

    def measure(self, scorer: Scorer) -> Measures:
        """Ask a model, and attack its file in every way."""
        recovered = recovered_figures(recover(scorer.model, self.attacked, BATCH, 0, CPU))
        return Measures(self.signals(scorer), ndcg(self.test.ranks(scorer).rank, 10), recovered)

    def measure_folder(self, folder: Path) -> Measures:
        """The same of a published model; what `srun evaluate` measured of it already is read."""
        scorer, known = load_published(folder)[0], evaluated(folder)
        if known is None or RECOVERED not in known:
            return self.measure(scorer)
        return Measures(self.signals(scorer), known["test"]["ndcg_10"], known[RECOVERED])

    def signals(self, scorer: Scorer) -> Signals:
        """(S,) what a model says of all events that are looked at."""
        parts = [signals(scorer, queries, BATCH, CPU) for queries in self.queries]
        return Signals(*(np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0])))

    def ranks(self, told: Signals) -> EventRanks:
        """Ranks of the forgotten events."""
        forgotten = self.queries[0]
        return EventRanks(forgotten.event, forgotten.user, told.rank[: self.num_forgotten])


def evaluated(folder: Path) -> dict[str, dict[str, float]] | None:
    """What `srun evaluate` measured of a model's folder, by split; None where it did not."""
    *root, _, original, request, cell = folder.resolve().parts
    file = Path(*root, "evaluations", original, request, cell, "report.json")
    if not file.is_file():
        return None
    metrics: dict[str, dict[str, float]] = json.loads(file.read_text())["metrics"]
    return metrics


def _some(queries: Queries, number: int | None) -> Queries:
    if number is None or len(queries) <= number:
        return queries
    return queries.select(np.sort(numpy_stream(0, "asides").permutation(len(queries))[:number]))


def _events(queries: Sequence[Queries]) -> Events:
    """As `srun audit` has them: the population is never-seen events of calibration users, else the non-members."""
    forgotten, asides, *population = map(len, queries)
    member, other, apart = (np.repeat(np.arange(3), [forgotten, asides, sum(population)]) == sort for sort in range(3))
    users = np.concatenate([part.user for part in queries])
    return Events(member, other, apart if apart.any() else other, users.astype(np.int64))


def users_put_back(
    retrain: Measures, original: Measures, bench: Bench, share: float, rng: np.random.Generator
) -> Measures:
    """A Retrain of which a share of the users with forgotten events are answered by Original."""
    users = np.unique(bench.users)
    chosen = rng.permutation(users)[: round(share * len(users))]
    inside = np.isin(bench.events.users, chosen)
    pairs = zip(vars(retrain.told).values(), vars(original.told).values(), strict=True)
    return Measures(Signals(*(np.where(inside, theirs, own) for own, theirs in pairs)), retrain.ndcg_10, {})


def z_mixed(retrain: Measures, original: Measures, bench: Bench, share: float) -> Measures:
    """A Retrain of which z_rank and z_logit of every event lie a share of the way to Original's.

    Ranks are rounded to halves, as ranks of models are, so that ties are those of ranks and not of rounding.
    """
    own, theirs = retrain.told, original.told
    z = (1 - share) * z_rank(own.rank, bench.num_items) + share * z_rank(theirs.rank, bench.num_items)
    rank = np.round(2 * ((bench.num_items + 0.5 + 0.5 * np.exp(z)) / (1 + np.exp(z)))) / 2
    z_logit = (1 - share) * own.z_logit + share * theirs.z_logit
    return Measures(Signals(-np.logaddexp(0, -z_logit), z_logit, rank), retrain.ndcg_10, {})


def weights_mixed(retrain: Scorer, original: Scorer, share: float) -> Scorer:
    """A Retrain whose weights lie a share of the way to Original's."""
    model, ends = clone_model(retrain.model), original.model.state_dict()
    mixed = {name: torch.lerp(value, ends[name], share) for name, value in retrain.model.state_dict().items()}
    model.load_state_dict(mixed)
    return Scorer([model], retrain.catalogue)


def noisy(scorer: Scorer, scale: float, seed: int) -> Scorer:
    """A model whose every weight is off by noise, ``scale`` times the spread of its tensor."""
    generator, model = torch.Generator().manual_seed(seed), clone_model(scorer.model)
    with torch.no_grad():
        for weight in model.parameters():
            noise = torch.randn(weight.shape, generator=generator)
            weight.add_(scale * weight.std(correction=0) * noise)
    return Scorer([model], scorer.catalogue)


def judge(
    bench: Bench, subjects: Mapping[str, Subject], retrains: Sequence[Measures], originals: Sequence[Measures]
) -> dict[str, Judged]:
    """Name -> verdict of every subject by Retrains that it is not among; the Originals, of different seeds, too.

    The latter are called ``original-0`` and so on. ValueError with fewer than three Retrains.
    """
    if len(retrains) < MIN_RETRAINS:
        raise ValueError(f"a verdict needs {MIN_RETRAINS} Retrains, found {len(retrains)}")
    rows = [
        *(_record(bench, f"original-{i}", ORIGINAL, i, one) for i, one in enumerate(originals)),
        *(_record(bench, f"retrain-{i}", REFERENCE, 0, one, seed=i) for i, one in enumerate(retrains)),
        *(_record(bench, name, SUBJECT, one.original, one.measures) for name, one in subjects.items()),
    ]
    trained = [Trained(f"original-{i}", {"seed": i, "shards": 1}) for i in range(len(originals))]
    [group] = group_records(rows, trained)
    measured = {f"original-{i}": one for i, one in enumerate(originals)}
    measured |= {name: one.measures for name, one in subjects.items()}
    attacked = attacks({name: one.told for name, one in measured.items()}, [one.told for one in retrains], bench.events)
    group = replace(group, memberships=attacked)
    return {row.cell: _judged(group, row) for row in group.records if row.cell in measured}


def attacks(
    models: Mapping[str, Signals], retrains: Sequence[Signals], events: Events
) -> dict[str, dict[str, Membership]]:
    """Name -> attack -> what ``membership`` gives, without its interval, which decides nothing and takes long."""

    def without(place: int) -> list[Signals]:
        return [other for index, other in enumerate(retrains) if index != place]

    outs = [without(place) for place in range(len(retrains))]
    of = [attack_aucs(retrain, out, events) for retrain, out in zip(retrains, outs, strict=True)]
    told: dict[str, dict[str, Membership]] = {}
    for name, model in models.items():
        own = [attack_aucs(model, out, events) for out in outs]
        told[name] = {}
        for attack in ATTACKS:
            value, retrained = (float(np.mean([side[attack] for side in sides])) for sides in (own, of))
            alike = tuple(side[attack] for side in of)
            told[name][attack] = Membership(value, value - retrained, math.nan, math.nan, alike, {})
    return told


def attack_aucs(model: Signals, out: Sequence[Signals], events: Events) -> dict[str, float]:
    """Attack -> AUC of forgotten events among never-seen ones, by references ``out`` that the model is not among."""
    scores = attack_scores(model, out, events)
    return {attack: auc(scores[attack][events.member], scores[attack][events.other]) for attack in ATTACKS}


def _record(bench: Bench, cell: str, method: str, original: int, measures: Measures, seed: int = 0) -> Record:
    ranks, data = bench.ranks(measures.told), bench.request.data
    metrics: dict[str, Mapping[str, float]] = {SPLIT: {METRIC: hit(ranks.rank, 10)}}
    metrics |= {"test": {"ndcg_10": measures.ndcg_10}}
    metrics |= {RECOVERED: measures.recovered} if measures.recovered else {}
    return Record(
        cell=cell,
        request=str(bench.request.info["name"]),
        model="audited",
        method=method,
        original=f"original-{original}",
        seed=seed,
        dataset=str(data.info["name"]),
        fingerprint=data.fingerprint,
        partition=bench.request.info,
        metrics=metrics,
        untrained_raw=None,
        counts={},
        measured=None,
        machine=None,
        info={"models": [{"num_items": bench.num_items}]},
        events={SPLIT: ranks},
        features=bench.features if method == ORIGINAL else None,
    )


def _judged(group: Group, record: Record) -> Judged:
    said = verdict(group, record)
    assert said is not None, "no subject is raw scores"
    return Judged(said, dict(_p_values(group, record)), group.num_tests(record))


def _p_values(group: Group, record: Record) -> Iterator[tuple[str, float]]:
    """(test, one-sided p-value towards Original) of every test that the verdict joins; hits on both sides."""
    hits = [_value(row.metrics, SPLIT, METRIC) for row in group.retrains]
    above = chance_of_more(_value(record.metrics, SPLIT, METRIC), hits)
    yield "hits above", above
    yield "hits below", 1 - above
    distances = [group.qualities[row.cell].ks_d for row in group.retrains]
    yield "ranks", chance_of_more(group.qualities[record.cell].ks_d, distances)
    for attack, value in record.recovered.items():
        yield f"file {attack}", chance_of_more(value, [of_retrain(attack, row.recovered) for row in group.retrains])
    if record.value(BY_EVENT, "memory_left") is not None:
        left = [_value(row.metrics, BY_EVENT, "memory_left") for row in group.retrains]
        yield "events", chance_of_more(_value(record.metrics, BY_EVENT, "memory_left"), left)
    for attack, told in group.memberships.get(record.cell, {}).items():
        yield f"membership {attack}", chance_of_more(told.auc, told.retrains)


def _value(metrics: Metrics, split: str, metric: str) -> float:
    return metrics[split][metric]


def chance_of_more(value: float, retrains: Sequence[float]) -> float:
    """1 - T_{n-1}((value - mean) / (s sqrt(1 + 1/n))): the chance that one more of n Retrains is at ``value`` or above.

    The distribution of the verdict's limits. Where Retrains agree to the bit it is 0 above them, 1 below, 1/2 there.
    """
    number = len(retrains)
    mean, spread = mean_and_spread(retrains)
    scale = spread * (1 + 1 / number) ** 0.5
    if scale == 0:
        return 0.5 if value == mean else float(value < mean)
    return float(t.sf((value - mean) / scale, number - 1))
