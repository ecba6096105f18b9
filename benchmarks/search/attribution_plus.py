"""Try settings of attribution_plus on an Original, by what may be looked at: find users' validation targets.

Every entry and seed becomes a row of CSV: the share of the category that is removed; what is kept elsewhere, against
Original and against Original with the category masked, whose lists have as much room for other items; how well a
linear probe reads the category of the next item from the states (0.5: not at all; directions are estimated on the same
targets, which flatters them); and the cost. The tool looks at no Retrain, no user of the report part and no test
target. It skips rows that the CSV file has already.

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
from subject import CPU, Subject, add_entry_options, as_words, load_subject, read_entries
from tried import append, done

from srun.config import build
from srun.evaluation.linear_probe import auc, last_states, linear_probe_scores
from srun.evaluation.probe import Probe
from srun.flow.params import load
from srun.models.scorer import Scorer
from srun.requests.partition import Partition
from srun.rng import numpy_stream
from srun.unlearning.attribution.plus import INSIDE, OUTSIDE, AttributionPlus, AttributionPlusConfig
from srun.unlearning.base import Context

FIGURES = (
    *("removal_10", "hit_10_kept", "ndcg_10_kept", "hit_10_of_mask", "ndcg_10_of_mask", "linear_probe_auc"),
    *("num_neurons", "target_gradients", "seconds"),
)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of `srun reproduce attribution --out`")
    parser.add_argument("--original", default="bert4rec-0")
    parser.add_argument("--request", default="action")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0], help="of unlearning")
    add_entry_options(parser, Path(__file__).parent / "entries/attribution_plus.yaml")
    options = parser.parse_args(words)
    subject = load_subject(options.out, options.original, options.request)
    for name, changes in read_entries(options):
        for seed in options.seeds:
            key = {"data": subject.data, "original": options.original, "request": options.request}
            key |= {"name": name, "seed": str(seed), "settings": as_words(changes)}
            if tuple(key.values()) in done(options.csv, list(key)):
                continue
            print(f"{name}, seed {seed}", file=sys.stderr, flush=True)
            append(options.csv, [*key, *FIGURES], [{**key, **_try(subject, changes, seed)}])


def _try(subject: Subject, changes: dict[str, Any], seed: int) -> dict[str, float]:
    """The figures of the settings on validation targets of find users."""
    original, request = subject.original, subject.request
    default = load(Path("params.yaml")).unlearn.attribution_plus
    settings = build(AttributionPlusConfig, {**vars(default), **changes}, "unlearn.attribution_plus")
    probe = Probe(request.splits, request.data.max_length, CPU, 512)
    result = AttributionPlus(settings).unlearn(original, request, Context.quiet(CPU, seed, probe))
    masked = Scorer([original.model], masked=torch.from_numpy(request.masked_pairs))
    before, mask, after = (
        {**probe(scorer, INSIDE), **probe(scorer, OUTSIDE)} for scorer in (original.scorer, masked, result.scorer)
    )

    def share(key: str, base: dict[str, float]) -> float:
        return after[key] / base[key] if base[key] else float("nan")

    return {
        "removal_10": 1 - share(f"{INSIDE}/hit_10", before),
        "hit_10_kept": share(f"{OUTSIDE}/hit_10", before),
        "ndcg_10_kept": share(f"{OUTSIDE}/ndcg_10", before),
        "hit_10_of_mask": share(f"{OUTSIDE}/hit_10", mask),
        "ndcg_10_of_mask": share(f"{OUTSIDE}/ndcg_10", mask),
        "linear_probe_auc": _linear_probe_auc(result.scorer, request),
        "num_neurons": len(result.info["edits"]),
        "target_gradients": result.cost.target_gradients,
        "seconds": result.cost.seconds,
    }


def _linear_probe_auc(scorer: Scorer, request: Partition) -> float:
    """How well the category of find users' validation targets can be read, cross-fitted by user."""
    sides = [request.queries(split) for split in (INSIDE, OUTSIDE)]
    states = np.concatenate([last_states(scorer, queries, CPU, 512) for queries in sides])
    inside = np.arange(len(states)) < len(sides[0])
    users = np.concatenate([queries.user for queries in sides])
    return auc(linear_probe_scores(states, inside, users, numpy_stream(0, "probe")), inside)


if __name__ == "__main__":
    main()
