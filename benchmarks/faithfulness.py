"""Which figure tells models that saw the forgotten events from models that did not? faithfulness.json and a table.

    O=runs/oracle/KEY; python benchmarks/faithfulness.py --data . --request core --json benchmarks/faithfulness.json \\
        --originals $O/models/original-*/core/original-* --retrains $O/models/original-*/core/retrain-*

The data folder is one of a flow; Originals and Retrains are folders of cells, as `srun oracle` or `srun run` leaves
them. The first Original plays the one that every model came from, the second the one of another seed; neither is
measured. Each Retrain is measured by the others, and each other model by as many. Then --relearned models of either
sort are trained --steps steps more on retained data and measured again by the same Retrains, which are left as they
were. A row is a model; models that the JSON file has already are not measured again.

Faithfulness: the AUC of a figure between the two sorts of models. Robustness: the same after relearning.
"""

import argparse
from collections.abc import Iterator, Sequence
from itertools import chain, count, islice
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from records import markdown_table, read_rows, write_rows
from subjects import BATCH, CPU, Bench, Measures, attack_aucs

from srun.config import build
from srun.data.batches import TrainingData
from srun.evaluation.held_contexts import held_contexts, measure_contexts
from srun.evaluation.way_back import alike, barrier, distance, retained_windows
from srun.flow.layout import Layout
from srun.flow.loading import load_dataset
from srun.metrics.forgetting import ks_to_retrains
from srun.metrics.membership import Signals, auc, weighted_aucs
from srun.metrics.memory import fidelity, memory_left, z_rank
from srun.metrics.ranking import hit
from srun.models.published import load_published
from srun.models.scorer import Scorer, clone_model
from srun.requests.partition import Partition
from srun.rng import Streams, numpy_stream
from srun.training.fit import TrainConfig, make_optimiser, train_step
from srun.unlearning.closed_form.features import RetainedFeatures

LOWER = ("event_corr", "distance", "barrier")
"""Figures that are lower of a model that saw the events; all others are higher."""
DRAWS = 1000


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that has data/prepared and data/partition")
    parser.add_argument("--request", required=True, help="name of the request")
    parser.add_argument("--originals", type=Path, nargs="+", required=True, help="folders of Originals, three or more")
    parser.add_argument("--retrains", type=Path, nargs="+", required=True, help="folders of Retrains, four or more")
    parser.add_argument("--relearned", type=int, default=12, help="models of either sort that are trained on")
    parser.add_argument("--steps", type=int, default=20, help="gradient steps of these, by the training recipe")
    parser.add_argument("--windows", type=int, default=256, help="retained windows on which the barrier is taken")
    parser.add_argument(
        "--most", type=int, help="of never-seen events of either sort, and test targets; all by default"
    )
    parser.add_argument("--json", type=Path, required=True, help="file that gets the rows")
    options = parser.parse_args(words)
    torch.set_num_threads(1)
    began = process_time()
    rows = read_rows(options.json)
    for row in Faithfulness(options).rows(rows):
        rows.append(row)
        write_rows(rows, options.json)
    print("\n".join(table(rows)))
    print(f"{process_time() - began:.0f} s of the processor")


class Faithfulness:
    """Models of one request, and what figures say of them."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        layout = Layout(options.data, options.data)
        data = load_dataset(layout)
        self.request = Partition.load(layout.partition(options.request), data)
        self.about = {"data": data.info["name"], "request": options.request}
        self.bench = Bench(self.request, data.num_items, data.max_length, options.most)
        self.contexts = held_contexts(self.request, RetainedFeatures(self.request, 0), numpy_stream(0, "held_contexts"))
        self.windows = retained_windows(self.request, 0, CPU)[: options.windows]
        self.start = load_published(options.originals[0])[0]
        self.retained = TrainingData(self.request.data, self.request.retain, self.request.catalogue, CPU)

    def rows(self, rows: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """A row for every model that has none yet: those as they are, then those that relearned."""
        steps = self.options.steps
        done = {(row["model"], row["steps"]) for row in rows if self.about.items() <= row.items()}
        sorts = [self.options.originals[2:], self.options.retrains]
        wanted = [(path, 0) for path in chain(*sorts)]
        wanted += [(path, steps) for paths in sorts for path in paths[: self.options.relearned]]
        todo = [(path, taken) for path, taken in wanted if (path.name, taken) not in done]
        if not todo:
            return
        self.told = [self.bench.signals(load_published(path)[0]) for path in self.options.retrains]
        own, other = (self.bench.signals(load_published(path)[0]) for path in self.options.originals[:2])
        self.z_originals = self._z(own), self._z(other)
        for path, taken in todo:
            scorer, info = load_published(path)
            saw = path in sorts[0]
            place = sorts[0 if saw else 1].index(path) % len(self.told)
            if taken:
                scorer = self._relearned(scorer, build(TrainConfig, info["train"], "train"))
            measures = self.bench.measure(scorer) if taken else self.bench.measure_folder(path)
            figures = self._figures(scorer, measures, place)
            shown = {name: float(f"{value:.5g}") for name, value in figures.items()}
            yield {**self.about, "model": path.name, "saw": saw, "steps": taken, "figures": shown}

    def _relearned(self, scorer: Scorer, recipe: TrainConfig) -> Scorer:
        """A copy that was trained a few steps more on retained data."""
        model, streams = clone_model(scorer.model), Streams(0, CPU)
        model.use_generator(streams["dropout"])
        optimiser = make_optimiser(model, recipe)
        size, by_length = recipe.batch_size, recipe.group_by_length
        epochs = (self.retained.epoch(size, streams["batches"], by_length) for _ in count())
        for rows in islice(chain.from_iterable(epochs), self.options.steps):
            train_step(model, self.retained, recipe, streams, optimiser, rows)
        return Scorer([model], scorer.catalogue)

    def _figures(self, scorer: Scorer, measures: Measures, place: int) -> dict[str, float]:
        """Of one model, by all Retrains but the one at ``place``: itself, if it is one."""
        bench, told = self.bench, measures.told
        others = [retrain for index, retrain in enumerate(self.told) if index != place]
        ranks, retrains = bench.ranks(told).rank, np.stack([bench.ranks(one).rank for one in others])
        z, z_retrains = self._z(told), z_rank(retrains, bench.num_items)
        near, rng = fidelity(z, z_retrains), np.random.default_rng(0)
        left = memory_left(z, *self.z_originals, z_retrains, bench.features, bench.users, rng, number=1)
        membership = attack_aucs(told, others, bench.events)
        recovered = {name: value for name, value in measures.recovered.items() if name.endswith("_hit_10")}
        contexts = measure_contexts(scorer, self.contexts, BATCH, CPU, rng)
        model, start = alike([scorer.model, self.start.model])
        return {
            "hit_10": hit(ranks, 10),
            "ks_d": ks_to_retrains(ranks, retrains),
            "event_corr": near.event_corr,
            "event_mae": near.event_mae,
            "memory_left": left.value,
            **{f"membership {attack}": value for attack, value in membership.items()},
            **{f"recovered {name.removesuffix('_hit_10')}": value for name, value in recovered.items()},
            **{f"contexts {name}": bounded.value for name, bounded in contexts.items()},
            "distance": distance(model, start),
            "barrier": barrier(model, start, self.windows, 0),
            "test ndcg_10": measures.ndcg_10,
        }

    def _z(self, told: Signals) -> NDArray[np.float64]:
        return z_rank(self.bench.ranks(told).rank, self.bench.num_items)


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Lines of a Markdown table: a figure's AUC between the two sorts, before and after relearning."""
    after = [row for row in rows if row["steps"]]
    again = {row["model"] for row in after}
    parts = [
        [row for row in rows if not row["steps"]],
        [row for row in rows if not row["steps"] and row["model"] in again],
        after,
    ]
    counts = [f"{sum(row['saw'] for row in part)} + {sum(not row['saw'] for row in part)} models" for part in parts]
    header = ("figure", f"AUC, {counts[0]}", f"of these {counts[1]}", "after relearning")
    lines = [(name, *(_auc(name, part) for part in parts)) for name in parts[0][0]["figures"]]
    return markdown_table(header, lines)


def _auc(name: str, rows: Sequence[dict[str, Any]]) -> str:
    """The AUC with which a figure tells the sorts apart, and its 95 % interval when models are drawn again."""
    sign = -1 if name in LOWER else 1
    saw, not_saw = (
        np.array([sign * row["figures"][name] for row in rows if row["saw"] is sort]) for sort in (True, False)
    )
    if not len(saw) or not len(not_saw):
        return "-"
    rng = np.random.default_rng(0)
    sizes = (len(saw), len(not_saw))
    weights = np.hstack([rng.multinomial(size, np.full(size, 1 / size), DRAWS) for size in sizes]).astype(np.float64)
    low, high = np.quantile(weighted_aucs(saw, not_saw, weights), [0.025, 0.975])
    return f"{auc(saw, not_saw):.2f} ({low:.2f} to {high:.2f})"


if __name__ == "__main__":
    main()
