"""Try settings of attribution_plus on an Original, by what may be looked at: find users' validation targets.

Of every entry of attribution_plus.yaml and every seed one row of CSV: how much of the category is removed and what is
kept elsewhere, against Original and against Original with the category masked, whose lists have as much room for other
items; how well a linear probe reads the category of the next item from the states (0.5: not
at all; directions are estimated on the same targets, which flatters them); and the cost. No Retrain, no user of the
report part and no test target is looked at. Rows that are in the file are not made again.

    python benchmarks/search/attribution_plus.py --out out/attribution-ml-1m --request action \
        --csv reports/attribution/search.csv
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rows import append, done

from srun.config import build, read_yaml
from srun.evaluation.evaluate import Probe
from srun.evaluation.linear_probe import auc, last_states, probe_scores
from srun.flow.layout import Layout
from srun.flow.loading import load_dataset, load_original
from srun.flow.params import load
from srun.models.scorer import Scorer
from srun.requests.partition import Partition
from srun.rng import numpy_stream
from srun.unlearning.attribution.plus import INSIDE, OUTSIDE, AttributionPlus, AttributionPlusConfig
from srun.unlearning.base import Context, Original

CPU = torch.device("cpu")
KEY = ("data", "original", "request", "name", "seed", "settings")
FIGURES = (
    *("removal_10", "hit_10_kept", "ndcg_10_kept", "hit_10_of_mask", "ndcg_10_of_mask", "probe_auc"),
    *("num_neurons", "target_gradients", "seconds"),
)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of `srun reproduce attribution --out`")
    parser.add_argument("--original", default="bert4rec-0")
    parser.add_argument("--request", default="action")
    parser.add_argument("--list", type=Path, default=Path(__file__).with_suffix(".yaml"))
    parser.add_argument("--csv", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0], help="of unlearning")
    parser.add_argument("--only", nargs="*", help="entries; all if not given")
    options = parser.parse_args(words)
    torch.set_num_threads(1)
    layout = Layout(options.out, options.out)
    data = load_dataset(layout)
    request = Partition.load(layout.partition(options.request), data)
    original = load_original(layout, options.original, data, CPU)
    for name, changes in read_yaml(options.list).items():
        for seed in options.seeds:
            shown = " ".join(f"{k}={v}" for k, v in (changes or {}).items())
            values = (data.info["name"], options.original, options.request, name, str(seed), shown)
            if (options.only and name not in options.only) or values in done(options.csv, KEY):
                continue
            print(f"{name}, seed {seed}", file=sys.stderr, flush=True)
            row = dict(zip(KEY, values, strict=True)) | _try(original, request, changes or {}, seed)
            append(options.csv, [*KEY, *FIGURES], [row])


def _try(original: Original, request: Partition, changes: dict[str, Any], seed: int) -> dict[str, float]:
    """What the settings come to on validation targets of find users."""
    published = load(Path("params.yaml")).method_settings("attribution_plus")
    settings = build(AttributionPlusConfig, {**vars(published), **changes}, "unlearn.attribution_plus")
    probe = Probe(request.splits, request.data.max_length, CPU, 512)
    result = AttributionPlus(settings).unlearn(original, request, Context.quiet(CPU, seed, probe))
    masked = Scorer([original.model], masked=torch.from_numpy(request.masked_pairs))
    scorers = original.scorer, masked, result.scorer
    before, mask, after = ({**probe(s, INSIDE), **probe(s, OUTSIDE)} for s in scorers)

    def share(key: str, of: dict[str, float]) -> float:
        return after[key] / of[key] if of[key] else float("nan")

    return {
        "removal_10": 1 - share(f"{INSIDE}/hit_10", before),
        "hit_10_kept": share(f"{OUTSIDE}/hit_10", before),
        "ndcg_10_kept": share(f"{OUTSIDE}/ndcg_10", before),
        "hit_10_of_mask": share(f"{OUTSIDE}/hit_10", mask),
        "ndcg_10_of_mask": share(f"{OUTSIDE}/ndcg_10", mask),
        "probe_auc": _probe_auc(result.scorer, request),
        "num_neurons": len(result.info["edits"]),
        "target_gradients": result.cost.target_gradients,
        "seconds": result.cost.seconds,
    }


def _probe_auc(scorer: Scorer, request: Partition) -> float:
    """How well the category of find users' validation targets can be read, cross-fitted by user."""
    sides = [request.queries(split) for split in (INSIDE, OUTSIDE)]
    states = np.concatenate([last_states(scorer, queries, CPU, 512) for queries in sides])
    inside = np.arange(len(states)) < len(sides[0])
    users = np.concatenate([queries.user for queries in sides])
    return auc(probe_scores(states, inside, users, numpy_stream(0, "probe")), inside)


if __name__ == "__main__":
    main()
