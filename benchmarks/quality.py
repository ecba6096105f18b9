"""What switches of training do to quality: three seeds each, on and off: quality.json.

    python benchmarks/quality.py

Test NDCG@10 of SASRec on Beauty 5-core (full ranking, history masked). Grouping by length: the base model of
presets/base-beauty-sasrec.yaml, trained until its validation stops rising. Lazy Adam: as in benchmarks/run.py for
one number of epochs, with seconds of processor time (one thread). What is done already is not computed again, so a run
that was stopped goes on.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import engine  # first: torch reads what it sets
import torch
from bases import Base, add_base_options, base, collect, train_all
from records import read_rows, write_rows
from timing import processor_seconds
from works import WORKS

from srun.data.dataset import Dataset
from srun.metrics.ranking import ndcg
from srun.models.scorer import Scorer

BASE = "beauty-sasrec"
WORK, EPOCHS = "bce-10", 40
SWITCH = "lazy_adam"  # in quality.json the column of switches is called "study"
SEEDS = (0, 1, 2)


def train(value: bool, seed: int, epochs: int, data: Dataset, device: torch.device) -> dict[str, Any]:
    """Train a model with or without lazy Adam and rank the test items: one entry of quality.json."""
    work = WORKS[WORK]
    setting = engine.setting(work, data, device, f"train.{SWITCH}={str(value).lower()}", seed=seed)
    optimiser = setting.optimiser()
    setting.model.train()
    steps: list[int] = []
    seconds = processor_seconds(lambda: steps.extend(setting.epoch(optimiser) for _ in range(epochs)))
    figure = ndcg(engine.test_task(data, device).ranks(Scorer([setting.model.eval()])).rank, 10)
    return {"study": SWITCH, "on": value, "seed": seed} | {
        **{"work": work.title, "length": work.length, "epochs": epochs, "steps": sum(steps)},
        **{"ndcg_10": round(figure, 5), "seconds": round(seconds, 1)},
    }


def group_by_length(grouped: Base) -> list[dict[str, Any]]:
    """Entries of quality.json of the base model with groups and without, of as many seeds as are trained."""
    rows = []
    for value in (True, False):
        one = grouped if value else replace(grouped, variant=("train.group_by_length=false",))
        train_all(one, None)
        for row in collect(one):
            about = {"study": "group_by_length", "on": value, "seed": row["seed"], "work": "SASRec full CE"}
            rows.append({**about, "length": 50, "epochs": row["best_epoch"], "ndcg_10": round(row["test/ndcg_10"], 5)})
    return rows


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    engine.add_logs(parser)
    add_base_options(parser)
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="of lazy Adam's models")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("quality.json"), help="file to write")
    options = parser.parse_args(words)
    device = engine.one_thread()
    rows = [row for row in read_rows(options.out) if row["study"] == SWITCH]
    done = {(row["on"], row["seed"]) for row in rows}
    for seed, value in ((seed, value) for seed in SEEDS for value in (False, True)):
        if (value, seed) not in done:
            data = engine.logs(options).prepared(WORKS[WORK].data, WORKS[WORK].length)
            rows.append(train(value, seed, options.epochs, data, device))
            write_rows(rows, options.out)
    write_rows(rows + group_by_length(base(BASE, options)), options.out)


if __name__ == "__main__":
    main()
