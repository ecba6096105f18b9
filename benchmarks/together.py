"""Shards trained as one model and one after the other, side by side: where does which pay? (docs/scale.md)

Prints processor seconds of an epoch over K shards of a data set of data/raw, in turns, the median of three; one thread.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is imported

ROOT = Path(__file__).parents[1]
SHAPES = ((64, 256), (32, 64), (16, 64))  # hidden, batch


def seconds(data: Any, hidden: int, batch: int, number: int, loss: str, together: bool) -> float:
    """Processor seconds to train ``number`` shards for an epoch."""
    import torch

    from srun.config import read_yaml
    from srun.data.interactions import Role
    from srun.training.checkpoint import ResumeFolder
    from srun.training.fit import STOP_METRIC, TrainConfig, Watch
    from srun.training.shards import Shards
    from srun.training.together import Job, train_all

    values = read_yaml(ROOT / "params.yaml")
    changes = {"loss": loss, "batch_size": batch, "max_epochs": 1, "evaluate_every": 1, "patience": 1}
    settings = {**values["model"]["sasrec"], "hidden": hidden}
    about = {"name": "sasrec", "settings": settings, "num_items": data.num_items, "max_length": data.max_length}
    shards = Shards.draw(data.num_users, number, 0)
    windows = [shards.data(data, data.role == Role.TRAIN, k, None, torch.device("cpu")) for k in range(number)]
    with tempfile.TemporaryDirectory() as folder:

        def job(shard: int) -> Job:
            resume = ResumeFolder(Path(folder) / str(shard), "k")
            watch = Watch(lambda m: {STOP_METRIC: 0.0}, lambda m: {}, lambda row, epoch, cap: None, resume)
            return Job(about, lambda: windows[shard], shard, watch)

        jobs = [job(shard) for shard in range(number)]
        began = time.process_time()
        train_all(jobs, TrainConfig(**{**values["train"], **changes}), together)
        return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="amazon-beauty-5core", help="a folder of data/raw: see srun data import")
    parser.add_argument("--shards", type=int, nargs="*", default=(2, 5))
    parser.add_argument("--losses", nargs="*", default=("bce",))
    arguments = parser.parse_args()

    from srun.data.interactions import PrepareConfig, prepare
    from srun.data.raw import read_raw
    from srun.devices import RuntimeConfig, start

    start(RuntimeConfig(device="cpu", threads=1, together="off", tracking=False, progress=False))
    settings = {"filter": "none", "min_interactions": 5, "max_length": 10, "holdout": "user", "drop_short": False}
    data = prepare(
        read_raw(ROOT / "data" / "raw" / arguments.data),
        PrepareConfig(**settings, calibration_users=0.0, calibration_events=0.0, seed=0),
    )
    print("| loss | hidden | batch | K | one after the other, s | as one, s | ratio |\n|" + "---|" * 7)
    for loss in arguments.losses:
        for hidden, batch in SHAPES:
            for number in arguments.shards:
                pairs = [
                    [seconds(data, hidden, batch, number, loss, together) for together in (False, True)]
                    for _ in range(3)
                ]
                alone, joint = (statistics.median(values) for values in zip(*pairs, strict=True))
                print(f"| {loss} | {hidden} | {batch} | {number} | {alone:.2f} | {joint:.2f} | {alone / joint:.2f} |")


if __name__ == "__main__":
    main()
