"""Shards trained as one model and one after the other, side by side: where does which pay? (docs/scale.md)

Prints processor seconds of an epoch over K shards of a data set of data/raw, in turns, the median of three; one thread.

    python benchmarks/together.py --shards 2 5
"""

import argparse
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import engine  # first: torch reads what it sets
import torch
from records import markdown_table
from timing import in_turns, processor_seconds
from works import BEAUTY

from srun.data.dataset import Dataset, Role
from srun.data.raw import read_raw
from srun.training.checkpoint import ResumeFolder
from srun.training.fit import STOP_METRIC, Watch
from srun.training.shards import Shards
from srun.training.together import Job, train_all

SHAPES = ((64, 256), (32, 64), (16, 64))  # hidden, batch


def seconds(data: Dataset, hidden: int, batch: int, number: int, loss: str, together: bool) -> float:
    """Processor seconds to train ``number`` shards for an epoch."""
    once = ("train.max_epochs=1", "train.evaluate_every=1", "train.patience=1")
    params = engine.settings(f"model.sasrec.hidden={hidden}", f"train.loss={loss}", f"train.batch_size={batch}", *once)
    about = engine.describe(params, "sasrec", data.num_items, data.max_length)
    shards = Shards.draw(data.num_users, number, 0)
    windows = [shards.data(data, data.role == Role.TRAIN, k, None, torch.device("cpu")) for k in range(number)]
    with tempfile.TemporaryDirectory() as folder:

        def job(shard: int) -> Job:
            resume = ResumeFolder(Path(folder) / str(shard), "k")
            watch = Watch(lambda m: {STOP_METRIC: 0.0}, lambda m: {}, lambda row, epoch, cap: None, resume)
            return Job(about, lambda: windows[shard], shard, watch)

        jobs = [job(shard) for shard in range(number)]
        return processor_seconds(lambda: train_all(jobs, params.train, together))


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=BEAUTY, help="a folder of --raw: see srun data import")
    parser.add_argument("--raw", type=Path, default=engine.ROOT / "data" / "raw", help="default data/raw")
    parser.add_argument("--shards", type=int, nargs="*", default=(2, 5))
    parser.add_argument("--repeats", type=int, default=3, help="of which the median is shown")
    parser.add_argument("--losses", nargs="*", default=("bce",))
    options = parser.parse_args(words)
    engine.one_thread()
    data = engine.prepared(read_raw(options.raw / options.data), "prepare.filter=none", 10)
    rows = []
    for loss in options.losses:
        for hidden, batch in SHAPES:
            for number in options.shards:
                run = partial(seconds, data, hidden, batch, number, loss)
                ways = {"alone": partial(run, together=False), "joint": partial(run, together=True)}
                alone, joint = in_turns(ways, options.repeats).values()
                about = [loss, str(hidden), str(batch), str(number)]
                rows.append([*about, f"{alone:.2f}", f"{joint:.2f}", f"{alone / joint:.2f}"])
    titles = ("loss", "hidden", "batch", "K", "one after the other, s", "as one, s", "ratio")
    print("\n".join(markdown_table(titles, rows)))


if __name__ == "__main__":
    main()
