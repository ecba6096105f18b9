"""What switches of training do to quality: three seeds each, on and off, for one number of epochs: quality.json.

    python benchmarks/quality.py

Test NDCG@10 of SASRec on Beauty 5-core as in benchmarks/run.py (full ranking, history masked), with seconds of
processor time (one thread). What quality.json holds already is not computed again, so a run that was stopped goes on.
"""

import argparse
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import run  # first, for it sets how threads wait, which torch reads when it is imported

STUDIES: dict[str, dict[str, Any]] = {
    "group_by_length": {"work": "ce-50", "epochs": 6},
    "lazy_adam": {"work": "bce-10", "epochs": 40},
}
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
    done = {(row["study"], row["on"], row["seed"]) for row in rows}
    for study, seed, value in ((s, n, v) for s in STUDIES for n in SEEDS for v in (False, True)):
        if (study, value, seed) in done:
            continue
        work = run.WORKS[STUDIES[study]["work"]]
        rows.append(train(study, value, seed, run.load_data(work.data, work.length, arguments.data), device))
        arguments.out.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")
        print(json.dumps(rows[-1]), flush=True)


if __name__ == "__main__":
    main()
