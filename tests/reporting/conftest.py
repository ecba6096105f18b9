"""Records as the evaluate stage writes them, made up here so that every figure can be worked by hand."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from srun.judging.records import EventRanks, Record

MACHINE = {"python": "3.11", "torch": "2.13", "system": "Linux", "processor": "P", "threads": "2", "gpu": "none"}


def make_record(method: str = "retrain", seed: int = 0, hit: float = 0.2, **changes: Any) -> Record:
    """A row whose forget Hit@10 is ``hit``, in hundredths; everything else is the same for all unless it is given."""
    kind = changes.pop("kind", "interactions")
    request = {"kind": kind, "seed": 7, "catalogue": "full", "file": None, "share_of_users": 0.1}
    if kind == "category":
        request = {"kind": kind, "seed": 7, "catalogue": "retained", "categories": ["War", "Film-Noir"], "users": None}
    partition = {"name": "r", "num_users": 40, "num_forget": 300, "num_retain": 5000, "request": request}
    sizes = {"num_users": 20.0, "num_events": 100.0}
    metrics = {
        "test": {**sizes, "ndcg_10": 0.1, "recall_10": 0.2, "ndcg_10_sampled": 0.4},
        "forget_tune": {**sizes, "hit_10": hit},
        "forget_report": {**sizes, "hit_10": hit, "hit_10_sampled": 0.8, "mrr": float("nan")},
        "never_seen_report": {**sizes, "hit_10": 0.15},
        "validation": {**sizes, "recall_10": 0.2},
        "empty": {"num_users": 0.0, "num_events": 0.0},
    }
    values: dict[str, Any] = {
        "cell": f"{method}-{seed}",
        "request": "r",
        "model": "sasrec",
        "method": method,
        "original": "sasrec-0",
        "seed": seed,
        "dataset": "data",
        "fingerprint": "f" * 64,
        "partition": partition,
        "metrics": metrics,
        "untrained_raw": None,
        "counts": {"epochs": 10, "steps": 100, "target_gradients": 1000.0, "scored_positions": 500},
        "measured": {"seconds": 10.0, "seconds_patience": 0.0, "seconds_evaluation": 1.0, "peak_memory_mb": 64.0},
        "machine": MACHINE,
        "info": {"version": "1", "prepare": {"seed": 0}, "train": {"loss": "ce"}, "settings": {}, "models": []},
        "history": [],
        "events": {"forget_report": make_ranks(hit)},
    }
    return Record(**{**values, **changes})


def make_ranks(hit: float) -> EventRanks:
    """100 events of 20 users, a share ``hit`` of them in the first 10 and the others at the same ranks for all rows."""
    event = np.arange(100)
    return EventRanks(event, event // 5, np.where(event < round(100 * hit), 5.0, 20.0 + event))


@pytest.fixture
def record() -> Callable[..., Record]:
    return make_record


@pytest.fixture
def retrains() -> list[Record]:
    """Three Retrains with forget Hit@10 of 0.20, 0.22 and 0.24: mean 0.22, standard deviation 0.02."""
    return [make_record("retrain", seed, hit) for seed, hit in enumerate((0.20, 0.22, 0.24))]
