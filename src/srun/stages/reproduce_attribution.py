"""Not a stage of the flow: the attribution paper's tables and figures, what its neurons are worth, and what is beyond.

Everything is measured on report users' test targets; doses are chosen on validation targets of find users.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from srun.config import build
from srun.data.partition import REPORT, Partition, category_items
from srun.data.sequences import Queries
from srun.devices import RuntimeConfig, start
from srun.errors import ConfigError
from srun.evaluation.controls import Draw, Tasks, compare, dose_at_loss, measure
from srun.evaluation.dose import dose_response
from srun.evaluation.evaluate import EvaluateConfig, Probe
from srun.evaluation.linear_probe import auc, last_states, probe_scores
from srun.evaluation.ranking import RankingTask
from srun.evaluation.relearning import RelearningConfig, relearn
from srun.files import write_folder, write_text
from srun.metrics.ranking import Ranks, hit, hits, ndcg
from srun.models.base import SequenceModel
from srun.models.scorer import Scorer, load_published
from srun.reporting.records import Record, group_records
from srun.reporting.results import Row, long_form, rows_of, to_csv
from srun.rng import numpy_stream
from srun.stages.cells import Cell
from srun.stages.common import load_dataset, load_original, resume_folder, stage_key
from srun.stages.layout import Layout
from srun.stages.report import read_original, read_record
from srun.training.fit import Cost, TrainConfig
from srun.unlearning import UNLEARNERS
from srun.unlearning.attribution_plus import AttributionPlusConfig, contrast
from srun.unlearning.base import Context, Original
from srun.unlearning.integrated_gradients import require_neurons
from srun.unlearning.largest_neurons import most_active
from srun.unlearning.neurons import Edit, Neuron, as_edits, edited, most_shared, read_edits
from srun.unlearning.privacy import AttributionConfig, attribute_queries, find_neurons

METHODS = ("original", "retrain", "attribution", "attribution_plus", "output_mask", "random_neurons", "largest_neurons")
NUM_DRAWS = 20
DOSES = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256)
MAX_CHOOSE = 1000  # validation targets that a dose of equal loss is chosen by
VARIANTS: dict[str, dict[str, Any]] = {
    "as it stands": {},
    "without items": {"items": "keep"},
    "without directions": {"directions": 0},
    "without repair": {"finetune_steps": 0},
    "with shared neurons": {"neurons": "shared"},
    "with joint neurons": {"neurons": "joint"},
    "items only": {"directions": 0, "finetune_steps": 0},
    "directions only": {"items": "keep", "finetune_steps": 0},
    "repair only": {"items": "keep", "directions": 0},
    "joint neurons only": {"neurons": "joint", "items": "keep", "directions": 0, "finetune_steps": 0},
    "joint neurons only, halved": {
        **{"neurons": "joint", "items": "keep", "directions": 0, "finetune_steps": 0},
        **{"scale": 0.5, "max_neurons": 128},
    },
    "joint neurons only, 8 of a layer": {
        **{"neurons": "joint", "items": "keep", "directions": 0, "finetune_steps": 0, "max_neurons_per_layer": 8}
    },
}
"""attribution_plus with some of its settings changed: the ablation."""


def request_name(category: str) -> str:
    """The request of params.yaml that forgets a category of Table 3."""
    known = {"Action": "action", "Drama": "drama", "Comedy": "comedy"}
    if category not in known:
        raise ConfigError(f'unknown category "{category}": the paper has {", ".join(known)}')
    return known[category]


def assignments(categories: Sequence[str], others: bool) -> list[str]:
    """Requests, Originals and cells as overrides of the preset; ``others``: GRU4Rec and Caser too."""
    requests = [request_name(category) for category in categories]
    models = ["bert4rec", *(["gru4rec", "caser"] if others else [])]
    originals = {f"{model}-0": {"model": model, "seed": 0, "shards": 1} for model in models}
    cells: dict[str, Any] = {
        f"{request}-{method}": {"request": request, "original": "bert4rec-0", "method": method, "seed": 0}
        for request in requests
        for method in METHODS
    }
    for model in models[1:]:
        cells[model] = {"request": requests[0], "original": f"{model}-0", "method": "original", "seed": 0}
    return [
        f"{name}={json.dumps(part)}"
        for name, part in zip(("requests", "originals", "cells"), (requests, originals, cells), strict=True)
    ]


def study_file(layout: Layout, request: str) -> Path:
    return layout.root / "studies" / f"{request}.json"


def study_key(layout: Layout, request: str, seed: int, *settings: Any) -> str:
    """What a study is made of: the partition, Original, the paper's edit, and every setting."""
    cell = Cell(request=request, original="bert4rec-0", method="attribution", seed=0)
    folders = layout.original(cell.original).model, layout.cell(cell).model
    inputs = [layout.partition(request) / "info.json", *(folder / "weights.safetensors" for folder in folders)]
    return stage_key(
        "study", inputs, seed=seed, settings=[vars(part) for part in settings], variants=VARIANTS, draws=NUM_DRAWS
    )


def study(
    layout: Layout,
    request: str,
    paper: AttributionConfig,
    plus: AttributionPlusConfig,
    seed: int,
    evaluation: EvaluateConfig,
    relearning: RelearningConfig,
    runtime: RuntimeConfig,
) -> dict[str, Any]:
    """Controls, the front of removal against loss, and the ablation of a category request; written to studies/."""
    device = start(runtime)
    data = load_dataset(layout)
    split = Partition.load(layout.partition(request), data)
    original = load_original(layout, "bert4rec-0", data, device)
    cell = Cell(request=request, original="bert4rec-0", method="attribution", seed=0)
    edits = read_edits(load_published(layout.cell(cell).model, device)[1])
    bench = _Bench(split, original, seed, evaluation, relearning, device)
    orders = _orders(original.scorer.model, split, paper, seed)
    found = {
        "neurons": [[edit.layer, edit.unit] for edit in edits],
        "controls": bench.controls(edits, paper.scale),
        "front": {name: bench.front(order, paper.scale) for name, order in orders.items()},
        "ablation": {name: bench.variant(layout, replace(plus, **changes)) for name, changes in VARIANTS.items()},
        "key": study_key(layout, request, seed, paper, plus, evaluation, relearning),
    }
    write_text(study_file(layout, request), json.dumps(found, indent=1) + "\n")
    return found


def _orders(model: SequenceModel, split: Partition, paper: AttributionConfig, seed: int) -> dict[str, list[Neuron]]:
    """All neurons in the orders that are compared: the paper's, ours, the most active, and one at random."""
    [found, *_] = find_neurons(paper, model, split, seed, Cost()).values()
    mean = found.attributions.values.mean(0)
    queries = split.queries("out_of_category_tune")
    drawn = numpy_stream(seed, "study-outside").permutation(len(queries))[: paper.max_sequences or MAX_CHOOSE]
    others = attribute_queries(paper, model, queries.select(np.sort(drawn)), Cost()).values.mean(0)
    return {
        "shared": most_shared(found.shared.at(paper.attribution_threshold), mean.numpy()),
        "joint": contrast(mean, others, None),
        "largest": most_active(model, split, seed, Cost()),
        "random": _random_order(model, seed),
    }


def _random_order(model: SequenceModel, seed: int) -> list[Neuron]:
    blocks = require_neurons(model)
    width = blocks[0].outer.in_features
    order = numpy_stream(seed, "random-neurons").permutation(len(blocks) * width)
    return [Neuron(*divmod(int(index), width)) for index in order]


class _Bench:
    """One Original, one request, and everything that is asked of a change to it."""

    def __init__(
        self,
        split: Partition,
        original: Original,
        seed: int,
        evaluation: EvaluateConfig,
        relearning: RelearningConfig,
        device: torch.device,
    ) -> None:
        self.split, self.original, self.seed, self.device = split, original, seed, device
        self.evaluation, self.relearning = evaluation, relearning
        choose = split.queries("out_of_category_tune")
        some = numpy_stream(seed, "study-choose").permutation(len(choose))[:MAX_CHOOSE]
        asked = split.queries("in_category"), split.queries("out_of_category"), choose.select(np.sort(some))
        self.tasks = Tasks(*(self._task(queries) for queries in asked))
        self.users = asked[0].user.astype(np.int64)
        inside, outside = (task.ranks(original.scorer)[0] for task in (self.tasks.inside, self.tasks.outside))
        self.inside, self.hit, self.ndcg = hits(inside, 10), hit(outside, 10), ndcg(outside, 10)
        self.items = category_items(split.data, split.info["request"]["categories"])

    def _task(self, queries: Queries) -> RankingTask:
        return RankingTask.make(queries, self.original.scorer.max_length, self.device, self.evaluation.batch_size)

    def controls(self, edits: Sequence[Edit], scale: float) -> dict[str, dict[str, float]]:
        """The paper's neurons beside random and most active ones, at equal number and at equal loss elsewhere."""
        model, number = self.original.model, len(edits)
        chosen = measure(model, edits, self.tasks, self.hit)
        found = {"attribution": self._row(chosen)}
        level = hit(self._after(edits), 10)
        for name in ("random", "largest"):
            at_number, at_loss = [], []
            for draw in range(NUM_DRAWS):
                order = self._order(name, draw)
                at_number.append(self._draw(order[:number], scale))
                dose = dose_at_loss(model, order, scale, level, self.tasks.choose)
                at_loss.append(self._draw(order[:dose], scale))
            found[f"{name}, equal number"] = compare(chosen, at_number, self.inside, self.users, self.seed)
            found[f"{name}, equal loss"] = compare(chosen, at_loss, self.inside, self.users, self.seed)
        return found

    def _order(self, name: str, draw: int) -> list[Neuron]:
        if name == "random":
            return _random_order(self.original.model, draw)
        return most_active(self.original.model, self.split, draw, Cost())

    def _draw(self, neurons: Sequence[Neuron], scale: float) -> Draw:
        return measure(self.original.model, as_edits(neurons, scale), self.tasks, self.hit)

    def _after(self, edits: Sequence[Edit]) -> Ranks:
        with edited(self.original.model, edits):
            return self.tasks.choose.ranks(Scorer([self.original.model]))[0]

    def _row(self, draw: Draw) -> dict[str, float]:
        rate = float(1 - draw.inside.mean() / self.inside.mean())
        return {"num_neurons": float(draw.num_neurons), "removal_rate_10": rate, "hit_10_kept": draw.kept}

    def front(self, ordered: Sequence[Neuron], scale: float) -> list[dict[str, float]]:
        """Removal and what is kept, by dose."""
        asked = self.tasks.inside, self.tasks.outside, self.items
        return dose_response(self.original.model, ordered, scale, DOSES, *asked)

    def variant(self, layout: Layout, settings: AttributionPlusConfig) -> dict[str, float]:
        """What ``attribution_plus`` comes to with these settings."""
        probe = Probe(self.split.splits, self.split.data.max_length, self.device, self.evaluation.batch_size)
        cell = Cell(request="study", original="bert4rec-0", method="attribution_plus", seed=0)
        resume = resume_folder(layout.cell(cell), vars(settings))
        context = Context(self.device, self.seed, probe, lambda row, epoch, cap: None, resume)
        method = UNLEARNERS["attribution_plus"](settings)
        result = method.unlearn(self.original, self.split, context)
        inside, outside = (task.ranks(result.scorer)[0] for task in (self.tasks.inside, self.tasks.outside))
        return {
            "num_neurons": float(len(result.info["edits"])),
            "removal_rate_10": float(1 - hit(inside, 10) / self.inside.mean()),
            "hit_10_kept": hit(outside, 10) / self.hit,
            "ndcg_10_kept": ndcg(outside, 10) / self.ndcg,
            "probe_auc": self._probe(result.scorer),
            "relearning_hit_10": self._relearned(result.scorer),
            "seconds": result.cost.seconds,
        }

    def _probe(self, scorer: Scorer) -> float:
        queries = self.split.test_targets
        states = last_states(scorer, queries, self.device, self.evaluation.batch_size)
        inside, report = self.split.removed[queries.event], self.split.group[queries.user] == REPORT
        scores = probe_scores(states, inside, queries.user, numpy_stream(self.evaluation.seed, "probe"))
        return auc(scores[report], inside[report])

    def _relearned(self, scorer: Scorer) -> float:
        """The highest Hit@10 of forgotten events in the course of relearning."""
        recipe = build(TrainConfig, self.original.info["train"], "train")
        asked = self.relearning, self.evaluation.seed, self.device, self.evaluation.batch_size
        curve = relearn(scorer, self.split, recipe, *asked)
        return float("nan") if curve is None else max(curve.hit_10)


def write(
    layout: Layout, cells: Mapping[str, Cell], dataset: str, requests: Sequence[str], left: Sequence[str]
) -> dict[str, Any]:
    """Write tables, figures and results.csv of the cells that are done; returns the paths and the tables."""
    from srun.reporting import attribution  # matplotlib, which other commands should not wait for

    done = {name: cell for name, cell in cells.items() if not {f"unlearn {name}", f"evaluate {name}"} & set(left)}
    records = [read_record(layout, name, cell) for name, cell in done.items()]
    studies = {
        request: json.loads(study_file(layout, request).read_text())
        for request in requests
        if f"study {request}" not in left and study_file(layout, request).is_file()
    }
    judged = {request for request in requests if any(r.method == "retrain" and r.request == request for r in records)}
    mains = [record for record in records if record.model == "bert4rec" and record.request in judged]
    groups = group_records(mains, [read_original(layout, "bert4rec-0")]) if mains else []
    others = [record for record in records if record.model != "bert4rec"]
    data = load_dataset(layout)
    found = attribution.tables(dataset, data.num_users, data.num_items, len(data.item), groups, others, studies)
    notes = attribution.notes(records, left)
    out = layout.root
    write_text(out / "tables.md", attribution.write_markdown(dataset, notes, found))
    with write_folder(out / "figures") as new:
        for file, png in attribution.draw(groups, others, studies).items():
            (new / file).write_bytes(png)
    rows = [*long_form(groups), *(row for record in others for row in rows_of(record)), *_study_rows(groups, studies)]
    write_text(out / "results.csv", to_csv(rows))
    written = [out / "tables.md", out / "results.csv", out / "figures"]
    return {"written": {path.name: str(path) for path in written}, "tables": found}


def _study_rows(groups: Sequence[Any], studies: Mapping[str, Any]) -> list[Row]:
    """The controls' means and the ablation as further methods, such as ``random_neurons_equal_loss``."""
    rows = []
    for group in groups:
        record: Record = group.first
        for name, values in studies.get(group.request, {}).get("controls", {}).items():
            if name == "attribution":
                continue
            method = name.replace(", ", "_neurons_").replace(" ", "_")
            for metric, value in values.items():
                split = "out_of_category" if metric == "hit_10_kept" else "in_category"
                rows.append(rows_of(record, method, {split: {metric: value}})[0])
        for name, values in studies.get(group.request, {}).get("ablation", {}).items():
            method = f"attribution_plus: {name}"
            for metric, value in values.items():
                split = {"removal_rate_10": "in_category", "probe_auc": "all_targets", "seconds": "cost"}.get(
                    metric, "relearning" if metric.startswith("relearning") else "out_of_category"
                )
                rows.append(rows_of(record, method, {split: {metric: value}})[0])
    return rows
