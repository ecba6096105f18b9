"""What a request costs beside a Retrain, in one process and on one thread: unlearning.json and unlearning.md.

    python benchmarks/unlearning.py --out out/beauty --original sasrec-0 --params presets/by-event.yaml

The folder is one of `srun run --out`: prepared data, an Original and, where a method asks for it, its private table of
cross-fitted models. Requests of one user, 1 % and 10 % of the users are drawn here. Of each, Retrain is run and then
every method, the median of ``--repeats``; seconds are of the processor, to the model that is returned. Retrain is run
to its end once, which says where its best epoch is, and after that no further than there.

*Cold*: all that a method does after the request is known. *Prepared*: the same with what all requests have in common at
hand; what it took and how large it is stands beside it. The table of cross-fitted models is at hand for both, as
Original is; its seconds are those of `srun levels`. Operations are counted in a run of their own, which nobody times,
and so are the seconds inside torch's operators; the share of all others is of the median run. Entries that the JSON
file has of as many runs are not run again. The machine should have nothing else to do: its load is written down.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import engine  # first: torch reads what it sets
import torch
from records import markdown_table, read_rows, write_rows
from torch.utils._python_dispatch import TorchDispatchMode

from srun.data.dataset import Dataset
from srun.evaluation.probe import Probe
from srun.flow.layout import Layout
from srun.flow.loading import load_crossfit, load_dataset, load_original
from srun.flow.params import Params, load
from srun.requests.kinds import DrawnInteractions
from srun.requests.partition import Partition, partition
from srun.system.flops import counting_flops
from srun.unlearning import UNLEARNERS
from srun.unlearning.base import Context, Original, Result
from srun.unlearning.closed_form.method import ClosedFormConfig
from srun.unlearning.closed_form.prepared import prepare

CPU = torch.device("cpu")
FILE = Path(__file__).with_suffix(".json")
METHODS = ("closed_form", "sruga", "finetune_only")
SHARES = (0.0, 0.01, 0.1)
KEY = ("data", "model", "method", "share_of_users", "seed")


class TorchSeconds(TorchDispatchMode):
    """Processor seconds inside torch's operators; what Python and other libraries do between them is not counted."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self.seconds = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        began = time.process_time()
        result = func(*args, **(kwargs or {}))
        self.seconds += time.process_time() - began
        return result


@dataclass(frozen=True)
class Measured:
    """What one way to carry out a request costs."""

    seconds: float
    """Of the processor, the median run's."""
    flops: float
    outside: float | None
    """Share of the seconds that were spent outside torch; None where noise is larger than it."""
    best_epoch: int | None
    """Of a Retrain."""


@dataclass(frozen=True)
class Bench:
    """An Original, a request to it, and how runs of it are measured."""

    original: Original
    request: Partition
    params: Params
    seed: int
    repeats: int

    def run(self, method: str, original: Original) -> Result:
        """Carry out the request, by the settings of params.yaml and its presets."""
        request, batch = self.request, self.params.evaluate.batch_size
        context = Context.quiet(CPU, self.seed, Probe(request.splits, request.data.max_length, CPU, batch))
        return UNLEARNERS[method](self.params.method_settings(method)).unlearn(original, request, context)

    def measure(self, method: str, original: Original) -> Measured:
        """Time ``repeats`` runs and count the operations of one more."""
        results = [self.run(method, original)]
        best_epoch = results[0].info.get("best_epoch")
        if best_epoch is not None:
            original = _until(original, best_epoch)
        results += [self.run(method, original) for _ in range(self.repeats - 1)]
        seconds = statistics.median(result.cost.processor_seconds for result in results)
        with ExitStack() as stack:
            inside = stack.enter_context(TorchSeconds())
            stack.enter_context(counting_flops())
            flops = self.run(method, original).cost.flops
        outside = 1 - inside.seconds / seconds if inside.seconds < seconds else None
        return Measured(seconds, flops, outside, best_epoch)


def _until(original: Original, epoch: int) -> Original:
    """The same Original, with a recipe that ends at an epoch."""
    return replace(original, info={**original.info, "train": {**original.info["train"], "max_epochs": epoch}})


def draw(data: Dataset, share: float, params: Params) -> Partition:
    """A request of single events of a share of the users, or of one user where it is 0; the file's other settings."""
    [settings] = [part for part in params.partition.values() if isinstance(part, DrawnInteractions)][:1]
    asked = replace(settings, share_of_users=share or 1e-9)
    return partition(data, f"share-{share:g}", asked, None, _no_raw)


def _no_raw() -> Any:
    raise AssertionError("a drawn request reads no raw log")


def measure_request(
    bench: Bench, methods: Sequence[str], table: dict[str, float], stop_at: float
) -> Iterator[dict[str, Any]]:
    """Rows of Retrain and of ``methods``, one after the other; none begins after ``stop_at`` (``time.monotonic``)."""
    retrain = bench.measure("retrain", bench.original)
    about = _about(bench)
    yield {**about, "method": "retrain", **_figures(retrain, retrain), "best_epoch": retrain.best_epoch}
    for method in methods:
        if time.monotonic() < stop_at:
            row = {**about, "method": method, **_figures(bench.measure(method, bench.original), retrain)}
            yield {**row, **_prepared(bench, method, table, retrain)}


def _about(bench: Bench) -> dict[str, Any]:
    data, request = bench.request.data, bench.request
    return {
        **{"data": data.info["name"], "model": bench.original.description["name"], "request": request.kind},
        **{"share_of_users": _share(request), "users": int(request.affected.sum())},
        **{"events": int(request.forget.sum()), "seed": bench.seed, "repeats": bench.repeats},
        **{"load": round(os.getloadavg()[0], 2), "cores": os.cpu_count(), "torch": torch.__version__},
    }


def _share(request: Partition) -> float:
    """Of the users who forget something, among all."""
    return round(int(request.affected.sum()) / request.data.num_users, 6)


def _figures(measured: Measured, retrain: Measured) -> dict[str, Any]:
    return {
        "cold_seconds": round(measured.seconds, 4),
        "retrain_seconds": round(retrain.seconds, 4),
        "ratio": round(retrain.seconds / measured.seconds, 2),
        "flops": measured.flops,
        "flops_ratio": round(retrain.flops / measured.flops, 2) if measured.flops else None,
        "outside_torch": None if measured.outside is None else round(measured.outside, 3),
        **dict.fromkeys(("prepared_seconds", "prepare_seconds", "prepare_mb", "table_seconds"), None),
    }


def _prepared(bench: Bench, method: str, table: dict[str, float], retrain: Measured) -> dict[str, Any]:
    """Figures with what can be at hand; none for a method that has no use for it."""
    settings = bench.params.method_settings(method)
    figures: dict[str, Any] = {}
    if UNLEARNERS[method](settings).needs_crossfit:
        figures = {"table_seconds": table["seconds"], "prepare_seconds": table["seconds"], "prepare_mb": table["mb"]}
    if not isinstance(settings, ClosedFormConfig):
        return figures
    began = time.process_time()
    at_hand = prepare(bench.original.model, bench.request.data, settings.retained_states, bench.seed, CPU)
    spent = time.process_time() - began
    seconds = [
        bench.run(method, replace(bench.original, prepared=at_hand)).cost.processor_seconds
        for _ in range(bench.repeats)
    ]
    median = statistics.median(seconds)
    return {
        **figures,
        "prepared_seconds": round(median, 4),
        "prepared_ratio": round(retrain.seconds / median, 2),
        "prepare_seconds": round(figures.get("table_seconds", 0.0) + spent, 3),
        "prepare_mb": round(figures.get("prepare_mb", 0.0) + at_hand.num_bytes / 2**20, 3),
    }


HEADER = (
    *("data", "model", "method", "forgotten: users (share), events", "cold, s", "Retrain, s", "times", "prepared, s"),
    *("times", "prepare, s (of the table)", "MB", "FLOPs, times", "outside torch", "runs", "load"),
)


def table_of(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The rows as a Markdown table."""
    return markdown_table(HEADER, (_cells(row) for row in rows))


def _cells(row: dict[str, Any]) -> list[str]:
    prepare_text = _number(row["prepare_seconds"], 1)
    if row["table_seconds"] is not None:
        prepare_text += f" ({_number(row['table_seconds'], 1)})"
    return [
        *(row["data"], row["model"], row["method"]),
        f"{row['users']:,} ({row['share_of_users']:.2%}), {row['events']:,}",
        *(_number(row["cold_seconds"], 3), _number(row["retrain_seconds"], 1), _number(row["ratio"], 1)),
        *(_number(row["prepared_seconds"], 3), _number(row.get("prepared_ratio"), 1)),
        *(prepare_text, _number(row["prepare_mb"], 1), _number(row["flops_ratio"], 1)),
        *(
            "" if row["outside_torch"] is None else f"{row['outside_torch']:.0%}",
            str(row["repeats"]),
            f"{row['load']} of {row['cores']}",
        ),
    ]


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


INTRODUCTION = """# What a request costs

`python benchmarks/unlearning.py` made this of `unlearning.json`; its head says how. Seconds are of the processor, on
one thread, the median of the runs; *times* is Retrain's over the method's, *FLOPs* the same of products, convolutions
and solves. *Cold*: all after the request is known. *Prepared*: with states, ranks and sums that all requests share at
hand. Both have the private table of cross-fitted models, whose seconds `srun levels` spends once. *Outside torch*: the
share of seconds in which no operator of torch ran.
"""


def write(rows: Sequence[dict[str, Any]], file: Path) -> None:
    """Write the JSON list and the table beside it."""
    write_rows(rows, file)
    file.with_suffix(".md").write_text(INTRODUCTION + "\n" + "\n".join(table_of(rows)) + "\n")


def main(words: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(words)
    engine.one_thread()
    layout = Layout(options.out, options.out)
    data = load_dataset(layout)
    params = load(engine.ROOT / "params.yaml", options.params, options.set)
    trained = load_original(layout, options.original, data, CPU)
    original = replace(trained, crossfit=load_crossfit(layout, options.original, data))
    for name in options.methods:
        if UNLEARNERS[name](params.method_settings(name)).needs_crossfit:
            original.require_crossfit()
    table = _table(layout, options.original)
    stop_at = time.monotonic() + options.budget
    rows = read_rows(options.json)
    for share in options.shares:
        bench = Bench(original, draw(data, share, params), params, options.seed, options.repeats)
        done = {tuple(row[name] for name in KEY) for row in rows if row["repeats"] >= options.repeats}
        about = _about(bench)
        todo = [name for name in options.methods if tuple({**about, "method": name}[key] for key in KEY) not in done]
        if not todo or time.monotonic() > stop_at:
            continue
        for row in measure_request(bench, todo, table, stop_at):
            same = [old for old in rows if all(old[name] == row[name] for name in KEY)]
            rows = [old for old in rows if old not in same] + [row]  # a Retrain that is run again takes its place
            write(rows, options.json)


def _table(layout: Layout, name: str) -> dict[str, float]:
    """Seconds and size of an Original's table of cross-fitted models; nothing where it was never made."""
    paths = layout.crossfit(name)
    if not paths.model.is_dir():
        return {}
    seconds = json.loads(paths.run.read_text())["cost"]["processor_seconds"]
    size = sum(file.stat().st_size for file in paths.model.iterdir())
    return {"seconds": round(seconds, 3), "mb": round(size / 2**20, 3)}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of `srun run --out`")
    parser.add_argument("--original", required=True, help="name of the Original that methods start from")
    parser.add_argument("--params", action="append", type=Path, default=[], help="presets to lay over params.yaml")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override one of params.yaml")
    parser.add_argument("--methods", nargs="*", choices=UNLEARNERS, default=list(METHODS), help="beside Retrain")
    parser.add_argument("--shares", nargs="*", type=float, default=list(SHARES), help="of users; 0: one user")
    parser.add_argument("--seed", type=int, default=0, help="of Retrain and of unlearning")
    parser.add_argument("--repeats", type=int, default=3, help="runs of which the median is taken")
    parser.add_argument("--budget", type=float, default=float("inf"), help="seconds after which nothing new begins")
    parser.add_argument("--json", type=Path, default=FILE, help="file that gets the rows")
    return parser


if __name__ == "__main__":
    main()
