"""Forget event by event: recipes judged by single events and by what their file gives back: by_event.json.

    python benchmarks/by_event.py --out out/beauty --original sasrec-0 --other sasrec-1 --json benchmarks/by_event.json

The folder is one of `srun run --out`: Original, another Original with the same data, three Retrains or more, and the
table of cross-fitted models. Each entry is run once, in this process, on one thread; seconds are of the processor. The
rows of Original and of each Retrain, measured by the other Retrains, stand beside them. Entries that the JSON file has
of this folder's data already are not run again. `passes` lists the parts of a verdict that a row passes,
`passes_by_pooled_rule` the same with hits and ranks by the pooled rule (docs/verdict.md). On data that settings were
chosen on the figures are no evidence for them.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from records import read_rows, write_rows

from srun.config import read_yaml
from srun.evaluation.ranking import RankingTask
from srun.evaluation.recovery import recover
from srun.flow.layout import Layout
from srun.flow.loading import load_dataset, load_original
from srun.flow.params import load
from srun.judging.by_event import Witness, event_figures
from srun.judging.records import ERROR_RATE
from srun.judging.verdict import Figures, parts_of
from srun.metrics.forgetting import ForgetQuality, judge
from srun.metrics.memory import MemoryQuality, memory_limit
from srun.metrics.ranking import ndcg
from srun.metrics.recovered import judge_file
from srun.models.published import load_published
from srun.models.scorer import Scorer
from srun.requests.partition import Partition
from srun.unlearning import UNLEARNERS
from srun.unlearning.base import Context, Original
from srun.unlearning.closed_form.features import RetainedFeatures

CPU = torch.device("cpu")
ENTRIES = Path(__file__).with_suffix(".yaml")
SPLITS = ("forget_report", "test")
BATCH = 512
Ranks = dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Judge:
    """What a model is measured by."""

    original: Original
    request: Partition
    own: Ranks
    """Of the Original that methods start from."""
    other: Ranks
    """Of an Original of another seed."""
    retrains: list[Ranks]
    features: NDArray[np.float64]
    """Of forgotten events of report users, from retained data."""

    def figures(self, ranks: Ranks, retrains: list[Ranks], scorer: Scorer) -> dict[str, float]:
        """Figures of one model by ``retrains``, which a Retrain itself is not among, and what its file gives back."""
        forgotten, recovered = ranks["forget_report"], _recovered(self, scorer)
        others = np.stack([one["forget_report"] for one in retrains])
        users = self.request.queries("forget_report").user
        witness = Witness(self.own["forget_report"], self.other["forget_report"], self.features, users)
        quality = judge(forgotten, others, users, np.random.default_rng(0), _alpha(recovered))
        figures: dict[str, float] = {
            "utility": ndcg(ranks["test"], 10) / float(np.mean([ndcg(one["test"], 10) for one in retrains])),
            **vars(quality),
            **event_figures(forgotten, others, self.original.scorer.num_items, witness, np.random.default_rng(0)),
            **recovered,
        }
        return {name: round(value, 4) for name, value in figures.items()}


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of `srun run --out`")
    parser.add_argument("--original", required=True, help="name of the Original that methods start from")
    parser.add_argument("--other", required=True, help="name of an Original of another seed")
    parser.add_argument("--request", default="interactions", help="name of the request")
    parser.add_argument("--retrains", help="Original beside which its Retrains lie; the one that methods start from")
    parser.add_argument("--params", action="append", default=["presets/by-event.yaml"], help="presets to lay over")
    parser.add_argument("--list", type=Path, default=ENTRIES, help="entries to try")
    parser.add_argument("--only", nargs="*", help="entries; all if not given")
    parser.add_argument("--seed", type=int, default=0, help="of unlearning")
    parser.add_argument("--json", type=Path, required=True, help="file that gets the rows")
    options = parser.parse_args(words)
    torch.set_num_threads(1)
    layout = Layout(options.out, options.out)
    data = load_dataset(layout)
    request = Partition.load(layout.partition(options.request), data)
    rows = read_rows(options.json)
    about = {
        **{"data": data.info["name"], "request": options.request, "original": options.original, "seed": options.seed},
        "calibration_events": data.info["config"]["calibration_events"],
        "partition_seed": request.info["request"]["seed"],
    }
    done = {row["name"] for row in rows if about.items() <= row.items()}
    todo = [name for name in read_yaml(options.list) if not options.only or name in options.only]
    folder = layout.original(options.retrains or options.original).model.parent / options.request
    retrains = sorted(folder.glob("retrain-*"))
    if done >= {*todo, "Original", *(path.name for path in retrains)}:
        return
    judge = _judge(options, layout, request, retrains)
    for name, figures in _references(judge, retrains, done):
        rows.append({**about, "name": name, **figures})
        write_rows(rows, options.json)
    references = [row for row in rows if about.items() <= row.items() and row["name"].startswith("retrain-")]
    for name in todo:
        if name not in done:
            row = _try(options, judge, name)
            rows.append({**about, "name": name, **row, **_passes(row, references)})
            write_rows(rows, options.json)


def _judge(options: argparse.Namespace, layout: Layout, request: Partition, folders: Sequence[Path]) -> Judge:
    """Rank Original, the other one and every Retrain."""
    original = load_original(layout, options.original, request.data, CPU)
    retrains = [_ranks(request, load_published(path)[0]) for path in folders]
    other = load_published(layout.original(options.other).model)[0]
    features = RetainedFeatures(request, 0)(request.queries("forget_report"))
    own, others = _ranks(request, original.scorer), _ranks(request, other)
    return Judge(original, request, own, others, retrains, features)


def _ranks(request: Partition, scorer: Scorer) -> Ranks:
    tasks = {split: RankingTask.make(request.queries(split), scorer.max_length, CPU, BATCH) for split in SPLITS}
    return {split: task.ranks(scorer).rank for split, task in tasks.items()}


def _references(judge: Judge, folders: Sequence[Path], done: set[str]) -> Iterator[tuple[str, dict[str, float]]]:
    """Original, and each Retrain by the others, where they are not done."""
    if "Original" not in done:
        yield "Original", judge.figures(judge.own, judge.retrains, judge.original.scorer)
    for index, folder in enumerate(folders):
        if folder.name not in done:
            others = judge.retrains[:index] + judge.retrains[index + 1 :]
            yield folder.name, judge.figures(judge.retrains[index], others, load_published(folder)[0])


def _recovered(judge: Judge, scorer: Scorer) -> dict[str, float]:
    attacks = recover(scorer.model, judge.request, BATCH, 0, CPU)
    return {f"recover_{attack.attack}": attack.hit_10 for attack in attacks}


def _alpha(attacks: dict[str, float]) -> float:
    """The error rate of each test of a verdict of hits on both sides, ranks, events and these attacks."""
    return ERROR_RATE / (4 + len(attacks))


def _try(options: argparse.Namespace, judge: Judge, name: str) -> dict[str, Any]:
    """Run an entry and measure what comes of it."""
    original, request, changes = judge.original, judge.request, dict(read_yaml(options.list)[name])
    method = changes.pop("method")
    assignments = [f"unlearn.{method}.{key}={'null' if value is None else value}" for key, value in changes.items()]
    presets = [Path(preset) for preset in options.params]
    settings = load(Path("params.yaml"), presets, assignments).method_settings(method)
    result = UNLEARNERS[method](settings).unlearn(original, request, Context.quiet(CPU, options.seed))
    return {
        **judge.figures(_ranks(request, result.scorer), judge.retrains, result.scorer),
        "processor_seconds": round(result.cost.processor_seconds, 2),
        "method": method,
        "settings": {key: _plain(value) for key, value in vars(settings).items()},
    }


def _passes(row: dict[str, Any], retrains: Sequence[dict[str, Any]]) -> dict[str, list[str]]:
    """The parts that a row passes beside rows of Retrains: of a verdict, and with hits and ranks by the pooled rule."""
    attacks, references = _attacks(row), [_attacks(one) for one in retrains]
    limit = memory_limit([one["memory_left_high"] for one in retrains])
    figures = Figures(
        ForgetQuality(**{field.name: row[field.name] for field in fields(ForgetQuality)}),
        file=judge_file(attacks, references, None, _alpha(attacks)),
        memory=MemoryQuality(row["memory_left_low"], row["memory_left_high"], limit),
    )
    quality = figures.quality
    pooled = replace(quality, hit_10_gap_limit=quality.hit_10_gap_bound, ks_d_limit=quality.ks_d_retrain_max)
    return {"passes": _passed(figures), "passes_by_pooled_rule": _passed(replace(figures, quality=pooled))}


def _passed(figures: Figures) -> list[str]:
    return [part.name for part in parts_of(figures) if part.word == "passes"]


def _attacks(row: dict[str, Any]) -> dict[str, float]:
    return {name.removeprefix("recover_"): value for name, value in row.items() if name.startswith("recover_")}


def _plain(value: Any) -> Any:
    return vars(value) if hasattr(value, "__dataclass_fields__") else value


if __name__ == "__main__":
    main()
