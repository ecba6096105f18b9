"""Which recipe the row "time to NDCG@10" trains with: validation NDCG@10 of the candidates, recipe.json.

    python benchmarks/recipe.py

Each is trained on Beauty 5-core (SASRec, full CE, L=10) for whole epochs until its processor time is up (one thread)
and ranked by the last but one items, which no training sees. The last, by which the row is measured, choose nothing.
What recipe.json holds already is not computed again.
"""

import argparse
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import run  # first, for it sets how threads wait, which torch reads when it is imported

CANDIDATES = [  # the first one is the peers'
    {"batch_size": 256, "learning_rate": 0.001, "dropout": 0.5},
    {"batch_size": 64, "learning_rate": 0.001, "dropout": 0.5},
    {"batch_size": 64, "learning_rate": 0.002, "dropout": 0.3},
    {"batch_size": 128, "learning_rate": 0.002, "dropout": 0.3},
]


def train(candidate: dict[str, Any], data: Any, device: Any, seconds: float) -> dict[str, Any]:
    """Train with a candidate for so many ``seconds`` and rank the validation items: one entry of recipe.json."""
    from srun.data.interactions import Role
    from srun.data.sequences import make_queries
    from srun.evaluation.ranking import RankingTask
    from srun.metrics.ranking import ndcg
    from srun.models.scorer import Scorer
    from srun.training.fit import make_optimiser, train_step

    own = dict(candidate)
    run.QUALITY_DROPOUT = own.pop("dropout")
    model, windows, recipe, streams = run.setting(run.WORKS["ndcg-10"], data, device)
    recipe = dataclasses.replace(recipe, **own)
    optimiser, spent, epochs = make_optimiser(model, recipe), 0.0, 0
    model.train()
    while spent < seconds:
        began = time.process_time()
        for rows in windows.epoch(recipe.batch_size, streams["batches"], recipe.group_by_length):
            train_step(model, windows, recipe, streams, optimiser, rows)
        spent, epochs = spent + time.process_time() - began, epochs + 1
    known, wanted = data.role == Role.TRAIN, data.role == Role.VALIDATION
    queries = make_queries(data.item, data.user, data.offsets, known, wanted)
    ranks = RankingTask.make(queries, data.max_length, device, 512).ranks(Scorer([model.eval()]))[0]
    return {**candidate, "epochs": epochs, "seconds": round(spent, 1), "validation_ndcg_10": round(ndcg(ranks, 10), 4)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, default=run.ROOT.parent / "shared" / "data", help="where Beauty's folder is"
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("recipe.json"))
    parser.add_argument("--seconds", type=float, default=45, help="of processor time for each")
    arguments = parser.parse_args()
    from srun.devices import RuntimeConfig, start

    device = start(RuntimeConfig(device="cpu", threads=1, together="off", tracking=False, progress=False))
    rows = json.loads(arguments.out.read_text()) if arguments.out.exists() else []
    data = run.load_data(run.BEAUTY, run.WORKS["ndcg-10"].length, arguments.data)
    for candidate in CANDIDATES:
        if any(candidate.items() <= row.items() for row in rows):
            continue
        rows.append(train(candidate, data, device, arguments.seconds))
        arguments.out.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")
        print(json.dumps(rows[-1]), flush=True)


if __name__ == "__main__":
    main()
