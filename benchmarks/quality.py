"""What switches of training do to quality: three seeds each, on and off: quality.json.

    python benchmarks/quality.py

Test NDCG@10 of SASRec on Beauty 5-core (full ranking, history masked). Grouping by length: the base model of
experiments/base-beauty-sasrec.yaml, trained until its validation stops rising. Lazy Adam: as in benchmarks/run.py for
one number of epochs, with seconds of processor time (one thread). What is done already is not computed again, so a run
that was stopped goes on.
"""

import argparse
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import base_models
import run  # first, for it sets how threads wait, which torch reads when it is imported

BASE = "beauty-sasrec"
STUDIES: dict[str, dict[str, Any]] = {"lazy_adam": {"work": "bce-10", "epochs": 40}}
SEEDS = (0, 1, 2)


def train(study: str, value: bool, seed: int, data: Any, device: Any) -> dict[str, Any]:
    """Train a model with the switch ``study`` at ``value`` and rank the test items: one entry of quality.json."""
    from srun.metrics.ranking import ndcg
    from srun.models.scorer import Scorer
    from srun.training.fit import make_optimiser, train_step

    work, epochs = run.WORKS[STUDIES[study]["work"]], STUDIES[study]["epochs"]
    model, windows, recipe, streams = run.setting(work, data, device, seed)
    recipe = dataclasses.replace(recipe, **{study: value})
    optimiser = make_optimiser(model, recipe)
    model.train()
    began, steps = time.process_time(), 0
    for _ in range(epochs):
        for rows in windows.epoch(recipe.batch_size, streams["batches"], recipe.group_by_length):
            train_step(model, windows, recipe, streams, optimiser, rows)
            steps += 1
    seconds = time.process_time() - began
    found = ndcg(run.test_task(data, device).ranks(Scorer([model.eval()]))[0], 10)
    return {"study": study, "on": value, "seed": seed} | {
        **{"work": work.title, "length": work.length, "epochs": epochs, "steps": steps},
        **{"ndcg_10": round(found, 5), "seconds": round(seconds, 1)},
    }


def group_by_length() -> list[dict[str, Any]]:
    """Entries of quality.json of the base model with groups and without, of as many seeds as are trained."""
    rows = []
    for value, overrides in ((True, ()), (False, ("train.group_by_length=false",))):
        base_models.train(BASE, 1, None, overrides)
        for row in base_models.collect(BASE, overrides):
            found = {"study": "group_by_length", "on": value, "seed": row["seed"], "work": "SASRec full CE"}
            rows.append({**found, "length": 50, "epochs": row["best_epoch"], "ndcg_10": round(row["test/ndcg_10"], 5)})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, default=run.ROOT.parent / "shared" / "data", help="where Beauty's folder is"
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("quality.json"))
    arguments = parser.parse_args()
    from srun.devices import RuntimeConfig, start

    device = start(RuntimeConfig(device="cpu", threads=1, together="off", tracking=False, progress=False))
    rows = json.loads(arguments.out.read_text()) if arguments.out.exists() else []
    rows = [row for row in rows if row["study"] in STUDIES]
    done = {(row["study"], row["on"], row["seed"]) for row in rows}
    for study, seed, value in ((s, n, v) for s in STUDIES for n in SEEDS for v in (False, True)):
        if (study, value, seed) not in done:
            work = run.WORKS[STUDIES[study]["work"]]
            rows.append(train(study, value, seed, run.load_data(work.data, work.length, arguments.data), device))
            write(rows, arguments.out)
    write(rows + group_by_length(), arguments.out)


def write(rows: list[dict[str, Any]], path: Path) -> None:
    """One line of quality.json for each entry."""
    path.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")


if __name__ == "__main__":
    main()
