"""Try settings of SRUGA on an Original, by what may be looked at: validation, forget_tune and never-seen tune events.

Of every epoch of every entry of sruga.yaml one row of CSV: utility (validation NDCG@10 against Original's), how
the ranks of forgotten events stand to those of comparable never-seen ones (KS distance, P(better)), and the cost so
far. No Retrain, nothing of the report half and no test target is looked at. Entries that are in the file are not run
again.

    python benchmarks/search/sruga.py --out out/beauty --original sasrec-0 --csv reports/sruga/search.csv
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rows import append, done

from srun.config import read_yaml
from srun.evaluation.evaluate import Probe
from srun.flow.layout import Layout
from srun.flow.loading import load_dataset
from srun.flow.params import load
from srun.metrics.forgetting import ks_distance
from srun.metrics.ranking import hit
from srun.models.scorer import load_published
from srun.requests.partition import Partition
from srun.unlearning.base import Context, Original
from srun.unlearning.sruga.method import SRUGA
from srun.unlearning.sruga.stopping import TUNE, Match

KEY = ("data", "original", "name", "seed")
FIGURES = {
    "epoch": "epoch",
    "validation_ndcg_10": "validation/ndcg_10",
    "tune_hit_10": f"{TUNE}/hit_10",
    "match_ks": f"{TUNE}/match_ks",
    "match_better": f"{TUNE}/match_better",
    "level_ks": f"{TUNE}/level_ks",
    "level_hit_gap": f"{TUNE}/level_hit_gap",
    "target_gradients": "unlearn/target_gradients",
    "seconds": "seconds",
}


class Looking(Probe):
    """A probe that tells at each look at forget_tune how its ranks stand to comparable events, and the time."""

    match: Match
    seconds = 0.0
    """Between the looks so far."""
    left: float | None = None
    unseen: NDArray[np.float64] | None = None
    """Ranks of comparable events under the original: what a Retrain's are likely to be, whatever unlearning costs."""

    def __call__(self, scorer: Any, split: str, users: Any = None) -> dict[str, float]:
        if split != TUNE:
            row = super().__call__(scorer, split, users)
            self.left = time.process_time()
            return row
        if self.left is not None:
            self.seconds += time.process_time() - self.left
        forgotten = self.ranks(scorer, TUNE).rank[self.match.rows]
        if self.unseen is None:  # the first look is at the original
            self.unseen = np.concatenate([self.ranks(scorer, queries).rank for queries in self.match.unseen])
        level = {"level_ks": ks_distance(forgotten, self.unseen)}
        level["level_hit_gap"] = hit(forgotten, 10) - hit(self.unseen, 10)
        level = {f"{TUNE}/{name}": value for name, value in level.items()}
        return {**self.match.look(scorer, 0), **level, "seconds": self.seconds}


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of `srun run --out`, with its Original")
    parser.add_argument("--original", required=True)
    parser.add_argument("--list", type=Path, default=Path(__file__).with_suffix(".yaml"))
    parser.add_argument("--csv", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0, help="of unlearning")
    parser.add_argument("--only", nargs="*", help="entries; all if not given")
    options = parser.parse_args(words)
    torch.set_num_threads(1)
    layout = Layout(options.out, options.out)
    data = load_dataset(layout)
    request = Partition.load(layout.partition("interactions"), data)
    scorer, info = load_published(layout.original(options.original).model, torch.device("cpu"))
    for name, changes in read_yaml(options.list).items():
        key = (data.info["name"], options.original, name, str(options.seed))
        if (options.only and name not in options.only) or key in done(options.csv, KEY):
            continue
        print(name, file=sys.stderr, flush=True)
        rows = _try(Original(scorer, info), request, changes or {}, options.seed)
        shown = " ".join(f"{k}={v}" for k, v in (changes or {}).items())
        named = [{**dict(zip(KEY, key, strict=True)), **row, "settings": shown} for row in rows]
        append(options.csv, [*KEY, *FIGURES, "settings"], named)


def _try(original: Original, request: Partition, changes: dict[str, Any], seed: int) -> list[dict[str, Any]]:
    """One row an epoch; the original itself is epoch 0."""
    assignments = [f"unlearn.sruga.{key}={json.dumps(value)}" for key, value in changes.items()]
    settings = load(Path("params.yaml"), [], ["unlearn.sruga.stop=fixed", *assignments]).unlearn.sruga
    probe = Looking(request.splits, request.data.max_length, torch.device("cpu"), 512)
    context = Context.quiet(torch.device("cpu"), seed, probe)
    probe.match = Match(request, context)
    history = SRUGA(settings).unlearn(original, request, context).history
    return [{column: row.get(key) for column, key in FIGURES.items()} for row in history]


if __name__ == "__main__":
    main()
