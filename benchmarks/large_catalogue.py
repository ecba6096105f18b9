"""Full cross-entropy over catalogues of several sizes: does a training step take longer a score where there are more?

    python benchmarks/large_catalogue.py

Whole steps of SASRec (n = 10, batches of 256, one thread) on drawn logs that differ in their number of items only, with
chunks as they are and with chunks of as many scores at any size, as they were. Both ways and all sizes are measured in
turns, in processor seconds; large_catalogue.json has the medians in ns a score: seconds over targets x items.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import engine  # first: torch reads what it sets
import numpy as np
import pandas as pd
import torch
from engine import BATCH, Setting
from records import write_rows
from works import WORKS

from srun.data.dataset import Dataset
from srun.data.raw import canonical
from srun.training import losses
from srun.training.fit import train_step

FILE = Path(__file__).with_suffix(".json")
LENGTH = 10
SIZES = (6_000, 12_101, 18_357, 23_715)
FLATTEST = 20.0  # added to an item's place before its popularity is the inverse


def as_many_scores(num_items: int, kind: str) -> int:
    """Targets of a chunk that has as many scores at any size of the catalogue."""
    return max(losses.CHUNK[kind] // num_items, 32)


WAYS: dict[str, Callable[[int, str], int]] = {"as many scores": as_many_scores, "as it is": losses._chunk_size}


def log(num_items: int, num_users: int, seed: int) -> Dataset:
    """A log in which users have LENGTH items by popularity, and one user all items, so that none is missing."""
    rng = np.random.default_rng(seed)
    popularity = 1 / (np.arange(num_items) + FLATTEST)
    drawn = rng.choice(num_items, (num_users, LENGTH), p=popularity / popularity.sum())
    item = np.concatenate([drawn.ravel(), np.arange(num_items)])
    user = np.concatenate([np.repeat(np.arange(num_users), LENGTH), np.full(num_items, num_users)])
    table = pd.DataFrame({"user_id": user, "item_id": item, "timestamp": np.arange(len(item))})
    raw = canonical(table.astype({"user_id": str, "item_id": str}), None, name=f"items-{num_items}")
    return engine.prepared(raw, "prepare.filter=none", LENGTH)


def endless(setting: Setting) -> Iterator[torch.Tensor]:
    """Batches, epoch after epoch."""
    while True:
        yield from setting.windows.epoch(BATCH, setting.streams["batches"], setting.recipe.group_by_length)


class Subject:
    """A model in training on one log."""

    def __init__(self, num_items: int, num_users: int, seed: int) -> None:
        data = log(num_items, num_users, seed)
        self.num_items, self.setting = data.num_items, engine.setting(WORKS["ce-50"], data, torch.device("cpu"))
        self.setting.model.train()
        self.optimiser, self.batches = self.setting.optimiser(), endless(self.setting)

    def ns_per_score(self, steps: int) -> float:
        """Processor time of ``steps`` steps."""
        began, targets = time.process_time(), 0
        for _ in range(steps):
            targets += len(train_step(*self.setting, self.optimiser, next(self.batches))[0])
        return (time.process_time() - began) / targets / self.num_items * 1e9


def measure(subjects: Sequence[Subject], steps: int, repeats: int) -> Iterator[dict[str, Any]]:
    """A row for each size and way: the median over ``repeats`` turns."""
    measured: dict[tuple[int, str], list[float]] = {}
    for _ in range(repeats):
        for subject in subjects:
            for way, chunk_size in WAYS.items():
                with patch.object(losses, "_chunk_size", chunk_size):
                    measured.setdefault((subject.num_items, way), []).append(subject.ns_per_score(steps))
    for (num_items, way), values in measured.items():
        targets = WAYS[way](num_items, "cpu")
        figures = {"ns_per_score": round(statistics.median(values), 3), "least": round(min(values), 3)}
        yield {"items": num_items, "chunks": way, "targets_of_a_chunk": targets, **figures}


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="*", type=int, default=list(SIZES), help="numbers of items")
    parser.add_argument("--users", type=int, default=3000)
    parser.add_argument("--steps", type=int, default=4, help="of a turn")
    parser.add_argument("--repeats", type=int, default=9, help="turns, of which the median is taken")
    parser.add_argument(
        "--json", type=Path, default=Path(__file__).with_suffix(".json"), help="file that gets the rows"
    )
    options = parser.parse_args(words)
    engine.one_thread()
    subjects = [Subject(size, options.users, 0) for size in options.sizes]
    command = " ".join(["python benchmarks/large_catalogue.py", *(sys.argv[1:] if words is None else words)])
    about = {"load": round(os.getloadavg()[0], 2), "cores": os.cpu_count(), "command": command}
    write_rows([{**row, **about} for row in measure(subjects, options.steps, options.repeats)], options.json)


if __name__ == "__main__":
    main()
