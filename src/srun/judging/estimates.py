"""Figures of a method over its seeds, and Retrain's intervals."""

import math
from collections.abc import Iterable, Sequence

import numpy as np

from srun.judging.judgement import Band, Bounds, Estimate
from srun.judging.records import Group, Record
from srun.metrics.bootstrap import user_interval
from srun.metrics.forgetting import Interval
from srun.metrics.ranking import gains, hits, mean_and_spread
from srun.rng import numpy_stream


def over_seeds(pairs: Iterable[tuple[int, float]]) -> Estimate | None:
    """The estimate from (seed, value) of every row that has the figure; None where no row has it."""
    by_seed = dict(pairs)
    values = list(by_seed.values())
    if not values:
        return None
    finite = {seed: value if math.isfinite(value) else None for seed, value in by_seed.items()}
    if any(map(math.isnan, values)):
        return Estimate(mean=None, spread=None, by_seed=finite, lacks="undefined")
    if any(map(math.isinf, values)):
        return Estimate(mean=None, spread=None, by_seed=finite, lacks="infinite")
    mean, spread = mean_and_spread(values)
    return Estimate(mean=mean, spread=None if math.isnan(spread) else spread, by_seed=finite)


def estimates(group: Group, method: str) -> dict[str, dict[str, Estimate]]:
    """Every figure of a method's rows, by split and metric."""
    rows = group.of(method)
    names: dict[str, dict[str, None]] = {}
    for record in rows:
        for split, part in record.metrics.items():
            names.setdefault(split, {}).update(dict.fromkeys(part))
    by_split: dict[str, dict[str, Estimate]] = {}
    for split, metrics in names.items():
        for metric in metrics:
            values = ((record.seed, record.value(split, metric)) for record in rows)
            estimate = over_seeds((seed, value) for seed, value in values if value is not None)
            if estimate is not None:
                by_split.setdefault(split, {})[metric] = estimate
    return by_split


def retrain_band(values: Sequence[float]) -> Band | None:
    """Retrain's interval from the figures of the Retrains; None with too few of them, or where one is no number."""
    interval = Interval.of(values)
    if interval is None or not math.isfinite(interval.mean):
        return None
    return Band(mean=interval.mean, bound=interval.bound, low=interval.low, high=interval.high)


def user_bounds(group: Group, method: str, split: str) -> dict[str, Bounds]:
    """Intervals of Hit@10 (Recall@10) and NDCG@10, of the mean over seeds: with another draw of users, the same models.

    Empty where the ranks of single events are not known, or of fewer than two users.
    """
    ranked = [record.events[split] for record in group.of(method) if split in record.events]
    bounds = {}
    for metric, measure in ((shown_hit(group.first, split), hits), ("ndcg_10", gains)):
        if ranked:
            values = np.mean([measure(events.rank, 10) for events in ranked], axis=0)
            rng = numpy_stream(0, f"bootstrap/{group.model}/{method}/{split}")
            low, high = user_interval(values, ranked[0].user, rng)
            if not math.isnan(low):
                bounds[metric] = Bounds(low=low, high=high)
    return bounds


def shown_hit(record: Record, split: str) -> str:
    """What Hit@10 is called in a split: of test and validation targets it is the recall."""
    return "hit_10" if "hit_10" in record.metrics[split] else "recall_10"
