"""The evaluated models that fronts.py compares, and what it tells of them: points, and differences with intervals."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from srun.metrics.bootstrap import CONFIDENCE, user_interval
from srun.metrics.forgetting import ks_to_retrains
from srun.metrics.ranking import gains, hit, hits, ndcg
from srun.rng import numpy_stream

RESAMPLES = 1000
Values = NDArray[np.float64]
Metric = Callable[[Values, int], Values]
"""Ranks (Q,) and a cut-off to values (Q,)."""


@dataclass
class Row:
    """An evaluated model. ``events``: those of its splits, with their ranks."""

    model: str
    seed: int
    name: str
    events: dict[str, pd.DataFrame]
    trial: int | None = None
    settings: str = ""

    def ranks(self, split: str) -> Values:
        ranks: Values = self.events[split]["rank"].to_numpy()
        return ranks

    def users(self, split: str) -> NDArray[np.int64]:
        users: NDArray[np.int64] = self.events[split]["user"].to_numpy()
        return users


@dataclass
class Group:
    """All rows of one model; ``chosen[comparator, way][seed]``."""

    retrains: list[Row]
    others: dict[str, dict[int, Row]]
    chosen: dict[tuple[str, str], dict[int, Row]] = field(default_factory=dict)


def read_row(
    model: str, folder: Path, name: str, seed: int | None = None, trial: int | None = None, settings: str = ""
) -> Row:
    record = json.loads((folder / "report.json").read_text())
    table = pd.read_parquet(folder / "events.parquet").sort_values("event")  # the same order in every row
    events = dict(tuple(table.groupby("split")))
    return Row(model, record["cell"]["seed"] if seed is None else seed, name, events, trial, settings)


def points(group: Group) -> Iterator[dict[str, Any]]:
    """What every row measured, on tune data and on the rest."""
    rows = [*group.retrains, *(row for by_seed in group.others.values() for row in by_seed.values())]
    chosen: dict[tuple[int, int | None], tuple[Row, list[str]]] = {}
    for (against, way), by_seed in group.chosen.items():
        for row in by_seed.values():
            chosen.setdefault((row.seed, row.trial), (row, []))[1].append(f"{way}:{against}")
    for row, ways in [*((row, []) for row in rows), *chosen.values()]:
        yield {
            "model": row.model,
            "seed": row.seed,
            "row": "trial" if ways else row.name,
            "trial": row.trial,
            "chosen": " ".join(ways),
            "validation_ndcg_10": ndcg(row.ranks("validation"), 10),
            "tune_hit_10": hit(row.ranks("forget_tune"), 10),
            "test_ndcg_10": ndcg(row.ranks("test"), 10),
            "report_hit_10": hit(row.ranks("forget_report"), 10),
            "report_ks_d": None if row in group.retrains else _ks(row, group),
            "settings": row.settings,
        }


def _ks(row: Row, group: Group) -> float:
    return ks_to_retrains(row.ranks("forget_report"), np.stack([one.ranks("forget_report") for one in group.retrains]))


def differences(group: Group) -> Iterator[dict[str, Any]]:
    """Chosen less comparator, of each seed and of all: test NDCG@10, forget_report Hit@10 and KS D to the Retrains."""
    for (against, way), by_seed in group.chosen.items():
        pairs = [(row, group.others[against][seed]) for seed, row in sorted(by_seed.items())]
        for chosen in (*([pair] for pair in pairs), pairs):
            line: dict[str, Any] = {"model": pairs[0][0].model, "against": against, "chosen_by": way}
            line["seeds"] = " ".join(str(row.seed) for row, _ in chosen)
            line["trials"] = " ".join(str(row.trial) for row, _ in chosen)
            line |= _interval("test_ndcg_10", *_paired(chosen, "test", gains))
            line |= _interval("report_hit_10", *_paired(chosen, "forget_report", hits))
            line |= _ks_interval(chosen, group)
            line["dominates"] = line["test_ndcg_10"] >= 0 >= line["report_hit_10"]
            line["beyond_noise"] = line["test_ndcg_10_low"] > 0 > line["report_hit_10_high"]
            yield line


def _paired(pairs: list[tuple[Row, Row]], split: str, metric: Metric) -> tuple[Values, NDArray[np.int64]]:
    values = [metric(one.ranks(split), 10) - metric(other.ranks(split), 10) for one, other in pairs]
    return np.concatenate(values), np.concatenate([one.users(split) for one, _ in pairs])


def _interval(name: str, values: Values, users: NDArray[np.int64]) -> dict[str, float]:
    low, high = user_interval(values, users, numpy_stream(0, name))
    return {name: float(values.mean()), f"{name}_low": low, f"{name}_high": high}


def _ks_interval(pairs: list[tuple[Row, Row]], group: Group) -> dict[str, float]:
    """Mean difference of ``ks_to_retrains``, and its interval: the same users are drawn of all rows and Retrains."""
    ranks = [[row.ranks("forget_report") for row in rows] for rows in (group.retrains, *pairs)]
    grid = np.unique(np.concatenate([row for rows in ranks for row in rows]))
    retrains, *placed = [[np.searchsorted(grid, row) for row in rows] for rows in ranks]
    users, owner = np.unique(pairs[0][0].users("forget_report"), return_inverse=True)

    def shares(places: NDArray[np.int64], weight: Values) -> Values:
        sums: Values = np.cumsum(np.bincount(places, weight, len(grid)))
        return np.asarray(sums / sums[-1])

    def difference(weight: Values) -> float:
        own = np.stack([shares(one, weight) for one in retrains])
        others = (own.sum(0) - own) / (len(own) - 1)  # (n, B) of all Retrains but one
        distance = [[np.abs(shares(one, weight) - others).max(1).mean() for one in pair] for pair in placed]
        return float(np.mean([one - other for one, other in distance]))

    drawn = numpy_stream(0, "ks").multinomial(len(users), np.full(len(users), 1 / len(users)), RESAMPLES)
    low, high = np.quantile(
        [difference(weight[owner]) for weight in drawn], [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]
    )
    return {"ks_d": difference(np.ones(len(owner))), "ks_d_low": float(low), "ks_d_high": float(high)}


def half_width(row: Row, split: str, metric: Metric) -> float:
    """Of the 95 % interval of a mean, users drawn again."""
    low, high = user_interval(metric(row.ranks(split), 10), row.users(split), numpy_stream(0, "half_width"))
    return (high - low) / 2
