"""Which recipe the row "time to NDCG@10" trains with: validation NDCG@10 of the candidates, recipe.json.

    python benchmarks/recipe.py

Each is trained on Beauty 5-core (SASRec, full CE, L=10) for whole epochs until its processor time is up (one thread)
and ranked by the last but one items, which no training sees. The last, by which the row is measured, choose nothing.
What recipe.json holds already is not computed again.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import engine  # first: torch reads what it sets
import torch
from records import read_rows, write_rows
from timing import processor_seconds
from works import WORKS

from srun.data.dataset import Dataset, Role
from srun.metrics.ranking import ndcg
from srun.models.scorer import Scorer

WORK = WORKS["ndcg-10"]
CANDIDATES = [  # the first one is the peers'
    {"batch_size": 256, "learning_rate": 0.001, "dropout": 0.5},
    {"batch_size": 64, "learning_rate": 0.001, "dropout": 0.5},
    {"batch_size": 64, "learning_rate": 0.002, "dropout": 0.3},
    {"batch_size": 128, "learning_rate": 0.002, "dropout": 0.3},
]


def train(candidate: dict[str, float], data: Dataset, device: torch.device, seconds: float) -> dict[str, Any]:
    """Train with a candidate for so many ``seconds`` and rank the validation items: one entry of recipe.json."""
    sections = {"dropout": f"model.{WORK.model}"}
    overrides = [f"{sections.get(key, 'train')}.{key}={value}" for key, value in candidate.items()]
    setting = engine.setting(WORK, data, device, *overrides)
    optimiser, spent, epochs = setting.optimiser(), 0.0, 0
    setting.model.train()
    while spent < seconds:
        spent, epochs = spent + processor_seconds(lambda: setting.epoch(optimiser)), epochs + 1
    task = engine.ranking(data, device, data.role == Role.TRAIN, Role.VALIDATION)
    figure = ndcg(task.ranks(Scorer([setting.model.eval()])).rank, 10)
    return {**candidate, "epochs": epochs, "seconds": round(spent, 1), "validation_ndcg_10": round(figure, 4)}


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    engine.add_logs(parser)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("recipe.json"), help="file to write")
    parser.add_argument("--seconds", type=float, default=45, help="of processor time for each")
    options = parser.parse_args(words)
    device, rows = engine.one_thread(), read_rows(options.out)
    data = engine.logs(options).prepared(WORK.data, WORK.length)
    for candidate in CANDIDATES:
        if any(candidate.items() <= row.items() for row in rows):
            continue
        rows.append(train(candidate, data, device, options.seconds))
        write_rows(rows, options.out)
        print(json.dumps(rows[-1]), flush=True)


if __name__ == "__main__":
    main()
