"""Try settings of SRUGA on an Original, by what may be looked at: validation, forget_tune and never-seen tune events.

Every epoch of every entry becomes a row of CSV: utility (validation NDCG@10), how the ranks of forgotten events stand
to those of comparable never-seen events (KS distance, P(better)), and the cost so far. The tool looks at no Retrain, no
event of the report half and no test target. It skips entries that the CSV file has already.

    python benchmarks/search/sruga.py --out out/beauty --original sasrec-0 --csv reports/sruga/round_1.csv
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from subject import CPU, Subject, add_entry_options, as_words, load_subject, read_entries
from tried import append, done

from srun.evaluation.probe import Probe
from srun.flow.params import load
from srun.metrics.forgetting import ks_distance
from srun.metrics.ranking import hit
from srun.unlearning.base import Context
from srun.unlearning.sruga.method import SRUGA
from srun.unlearning.sruga.stopping import TUNE, Match

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
    parser.add_argument("--seed", type=int, default=0, help="of unlearning")
    add_entry_options(parser, Path(__file__).parent / "entries/sruga_round_1.yaml")
    options = parser.parse_args(words)
    subject = load_subject(options.out, options.original, "interactions")
    for name, changes in read_entries(options):
        key = {"data": subject.data, "original": options.original, "name": name, "seed": str(options.seed)}
        if tuple(key.values()) in done(options.csv, list(key)):
            continue
        print(name, file=sys.stderr, flush=True)
        rows = [{**key, **row, "settings": as_words(changes)} for row in _try(subject, changes, options.seed)]
        append(options.csv, [*key, *FIGURES, "settings"], rows)


def _try(subject: Subject, changes: dict[str, Any], seed: int) -> list[dict[str, Any]]:
    """One row an epoch; the Original itself is epoch 0."""
    original, request = subject.original, subject.request
    assignments = [f"unlearn.sruga.{key}={json.dumps(value)}" for key, value in changes.items()]
    settings = load(Path("params.yaml"), [], ["unlearn.sruga.stop=fixed", *assignments]).unlearn.sruga
    probe = Looking(request.splits, request.data.max_length, CPU, 512)
    context = Context.quiet(CPU, seed, probe)
    probe.match = Match(request, context)
    history = SRUGA(settings).unlearn(original, request, context).history
    return [{column: row.get(key) for column, key in FIGURES.items()} for row in history]


if __name__ == "__main__":
    main()
