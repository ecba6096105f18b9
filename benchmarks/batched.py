"""Are the steps of several trials faster as one? The products that dominate them, one after the other and batched.

A step scores its rows against the item table of its trial, and takes the table's gradient from what it makes of the
scores (here the scores themselves): two products a trial, by parts of rows that the cache holds, as SRUGA does it.
``one after the other`` is what a search does now; ``bmm`` scores the parts of all trials by torch.bmm; ``one table``
scores the rows once against all tables put together, which only trials that draw the same rows could do. Seconds are of
the processor, the median of repeats that alternate between the ways; 1.00 is one after the other.

    python benchmarks/batched.py --csv reports/pareto/together.csv
"""

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from timing import in_turns, processor_seconds
from torch import Tensor

from srun.models.products import product
from srun.training.losses import CHUNK


def one_by_one(state: Tensor, tables: Tensor) -> Tensor:
    """(K, D, V) products of ``state`` (K, R, D) with its scores against ``tables`` (K, V, D), summed over R."""
    return torch.stack([_of_one(rows, table) for rows, table in zip(state, tables, strict=True)])


def _of_one(state: Tensor, table: Tensor) -> Tensor:
    total = table.new_zeros(table.shape[::-1])
    for part in torch.split(state, _size(len(table))):
        scores = product(part, table)
        total += product(part.T, scores.T)
    return total


def batched(state: Tensor, tables: Tensor) -> Tensor:
    total = tables.new_zeros(len(tables), tables.shape[2], tables.shape[1])
    for part in torch.split(state, max(_size(tables.shape[1]) // len(tables), 1), 1):
        scores = torch.bmm(part, tables.transpose(1, 2))
        total.baddbmm_(part.transpose(1, 2), scores)
    return total


def one_table(state: Tensor, tables: Tensor) -> Tensor:
    """The same where all trials have the rows of the first."""
    wide = tables.flatten(0, 1)
    total = wide.new_zeros(wide.shape[::-1])
    for part in torch.split(state[0], max(_size(len(wide)), 1)):
        scores = product(part, wide)
        total += product(part.T, scores.T)
    return total.view(tables.shape[2], len(tables), -1).transpose(0, 1)


def _size(width: int) -> int:
    """Rows of a part."""
    return CHUNK["cpu"] // 2 // width


WAYS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "one after the other": one_by_one,
    "bmm": batched,
    "one table": one_table,
}


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1600, help="1,024 events and the targets of 128 windows")
    parser.add_argument("--items", type=int, default=12_101)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--csv", type=Path, required=True)
    options = parser.parse_args(words)
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    rows = []
    for trials in (1, 2, 4):
        state = torch.randn(1, options.rows, options.hidden, generator=generator).expand(trials, -1, -1).contiguous()
        tables = torch.randn(trials, options.items, options.hidden, generator=generator)
        expected = one_by_one(state, tables)
        for run in WAYS.values():
            torch.testing.assert_close(run(state, tables), expected, rtol=1e-3, atol=1e-1)
        runs = {way: partial(processor_seconds, partial(run, state, tables)) for way, run in WAYS.items()}
        seconds = in_turns(runs, options.repeats)
        for way, median in seconds.items():
            share = median / seconds["one after the other"]
            rows.append({"trials": trials, "way": way, "seconds": f"{median:.4f}", "share": f"{share:.2f}"})
    options.csv.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(options.csv, index=False)


if __name__ == "__main__":
    main()
