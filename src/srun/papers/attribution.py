"""Not a stage of the flow: the attribution paper's tables and figures, what its neurons are worth, and what is beyond.

Everything is measured on report users' test targets; doses are chosen on validation targets of find users.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from srun.data.sequences import Queries
from srun.errors import ConfigError, RunError
from srun.evaluation.dose import dose_response
from srun.evaluation.evaluate import EvaluateConfig, Probe
from srun.evaluation.linear_probe import auc, last_states, probe_scores
from srun.evaluation.ranking import RankingTask
from srun.evaluation.relearning import RelearningConfig, relearn
from srun.files import read_json, write_folder, write_text
from srun.flow.cells import Cell
from srun.flow.code import code_digests
from srun.flow.freshness import Output, Parts, digest, file_digests
from srun.flow.layout import Layout
from srun.flow.loading import load_dataset, load_original
from srun.flow.report import read_original, read_record
from srun.flow.steps import Step
from srun.judging.records import Record, group_records, judge_beside_others, relearning_figures
from srun.judging.results import Row, long_form, rows_of, to_csv
from srun.metrics.ranking import Ranks, hit, hits, ndcg
from srun.models import MODELS
from srun.models.base import SequenceModel
from srun.models.scorer import Scorer, load_published
from srun.papers.neuron_controls import Draw, Tasks, compare, dose_at_loss, measure
from srun.requests.partition import REPORT, Partition, category_items
from srun.rng import numpy_stream
from srun.system.devices import RuntimeConfig, start
from srun.system.meter import Meter
from srun.training.checkpoint import ResumeFolder
from srun.unlearning import UNLEARNERS
from srun.unlearning.attribution.integrated_gradients import require_neurons
from srun.unlearning.attribution.neurons import Edit, Neuron, as_edits, edited, most_shared, read_edits
from srun.unlearning.attribution.plus import AttributionPlusConfig, contrast
from srun.unlearning.attribution.privacy import AttributionConfig, attribute_queries, find_neurons
from srun.unlearning.base import Context, Original
from srun.unlearning.controls.largest_neurons import most_active

METHODS = ("original", "retrain", "attribution", "attribution_plus", "output_mask", "random_neurons", "largest_neurons")
OTHERS = ("gru4rec", "caser")
NUM_DRAWS = 20
DOSES = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256)
MAX_CHOOSE = 1000  # validation targets that a dose of equal loss is chosen by
NEURONS_ONLY = {"items": "keep", "directions": 0, "finetune_steps": 0}
VARIANTS: dict[str, dict[str, Any]] = {
    "as it stands": {},
    "without items": {"items": "keep"},
    "without repair": {"finetune_steps": 0},
    "with 2 directions": {"directions": 2},
    "with shared neurons": {"neurons": "shared"},
    "with joint neurons": {"neurons": "joint"},
    "with 20 steps": {"finetune_steps": 20},
    "directions only": {"items": "keep", "directions": 2, "finetune_steps": 0},
    "joint neurons only": {"neurons": "joint", **NEURONS_ONLY},
    "joint neurons only, halved": {"neurons": "joint", "scale": 0.5, "max_neurons": 128, **NEURONS_ONLY},
    "joint neurons only, 8 of a layer": {"neurons": "joint", "max_neurons_per_layer": 8, **NEURONS_ONLY},
}
"""attribution_plus with some of its settings changed: the ablation."""


def _epochs(number: int) -> list[str]:
    """So many epochs, the last one's weights: a validation on the way would pick an earlier epoch's."""
    return [f"train.{key}={number}" for key in ("max_epochs", "evaluate_every", "patience")]


REQUESTS = {"Action": "action", "Drama": "drama", "Comedy": "comedy"}
"""The categories of Table 3, and the requests of params.yaml that forget them."""
PROTOCOLS: dict[str, list[str]] = {
    "users_80_20": ["prepare.holdout=users_80_20"],
    "users_80_20_context_all": [
        "prepare.holdout=users_80_20",
        *(f"partition.{request}.context=all" for request in REQUESTS.values()),
    ],
    "hidden_256": ["model.bert4rec.hidden=256"],
    "epochs_5": _epochs(5),
    "epochs_20": _epochs(20),
    "epochs_60": _epochs(60),
}
"""What [A] leaves open, as overrides of the preset: its edit is made once more under each. By whom targets are ranked
and what counts as removed needs no other model, so each has all rankings and definitions."""


def request_name(category: str) -> str:
    """The request of params.yaml that forgets a category of Table 3."""
    if category not in REQUESTS:
        raise ConfigError(f'unknown category "{category}": the paper has {", ".join(REQUESTS)}')
    return REQUESTS[category]


def assignments(
    categories: Sequence[str], others: bool, methods: Sequence[str] = METHODS, number: int = 1
) -> list[str]:
    """Requests, Originals and cells as overrides of the preset; ``others``: GRU4Rec and Caser too, as they are.

    ``number`` of seeds, from 0, for the first category; further ones have seed 0. Each seed has an Original, on which
    everything is done but Retrain: that starts from nothing, so its seeds stand beside Original 0.
    """
    requests = [request_name(category) for category in categories]
    further = OTHERS if others else ()
    trained = [*(("bert4rec", seed) for seed in range(number)), *((model, 0) for model in further)]
    originals = {f"{model}-{seed}": {"model": model, "seed": seed, "shards": 1} for model, seed in trained}
    cells: dict[str, Any] = {
        f"{request}-{method}" + (f"-{seed}" if seed else ""): {
            "request": request,
            "original": "bert4rec-0" if method == "retrain" else f"bert4rec-{seed}",
            "method": method,
            "seed": seed,
        }
        for request in requests
        for seed in range(number if request == requests[0] else 1)
        for method in methods
    }
    cells |= {
        f"{request}-{model}": {"request": request, "original": f"{model}-0", "method": "original", "seed": 0}
        for request in requests
        for model in further
    }
    return [
        f"{name}={json.dumps(part)}"
        for name, part in zip(("requests", "originals", "cells"), (requests, originals, cells), strict=True)
    ]


def protocols(categories: Sequence[str]) -> dict[str, list[str]]:
    """Protocol -> overrides of the preset, to be laid over all others: Original and the paper's edit, under it."""
    cells = assignments(categories, False, ("original", "attribution"))
    return {name: [*cells, "relearning.kinds=[]", *changes] for name, changes in PROTOCOLS.items()}


def under(name: str, steps: Sequence[Step]) -> list[Step]:
    """The steps of a protocol, under names of their own."""
    return [replace(s, name=_under(name, s.name), needs=tuple(_under(name, other) for other in s.needs)) for s in steps]


def _under(protocol: str, step: str) -> str:
    return f"{protocol}: {step}" if protocol else step


@dataclass(frozen=True)
class Study:
    """What lies behind a request's tables: controls, the front of removal against loss, and the ablation.

    Each part is a file below studies/, so that it can go on where it was stopped.
    """

    layout: Layout
    request: str
    paper: AttributionConfig
    plus: AttributionPlusConfig
    seed: int
    evaluation: EvaluateConfig
    relearning: RelearningConfig
    runtime: RuntimeConfig

    def steps(self) -> list[Step]:
        """One a part."""
        needs = f"evaluate {self.request}-attribution", f"evaluate {self.request}-retrain"
        return [
            Step(self._step(part), needs, partial(self._run, part), partial(self._parts, part), self._output(part))
            for part in ("controls", "front", *VARIANTS)
        ]

    def found(self, left: Sequence[str]) -> dict[str, Any]:
        """``controls``, ``front`` and ``ablation`` (by variant) of the parts that are not ``left``; else empty."""
        done = {
            part: read_json(self._file(part), RunError, "remove it, then run again")["found"]
            for part in ("controls", "front", *VARIANTS)
            if self._step(part) not in left
        }
        ablation = {name: done[name] for name in VARIANTS if name in done}
        return {"controls": done.get("controls", {}), "front": done.get("front", {}), "ablation": ablation}

    def _step(self, part: str) -> str:
        return f"study {self.request} {part}"

    def _file(self, part: str) -> Path:
        return self.layout.root / "studies" / self.request / f"{part}.json"

    @property
    def _cell(self) -> Cell:
        return Cell(request=self.request, original="bert4rec-0", method="attribution", seed=0)

    def _settings(self, part: str) -> dict[str, Any]:
        if part in VARIANTS:
            return {"plus": vars(replace(self.plus, **VARIANTS[part])), "relearning": vars(self.relearning)}
        return {"paper": vars(self.paper), "draws": NUM_DRAWS, "doses": DOSES, "choose": MAX_CHOOSE}

    def _output(self, part: str) -> Output:
        return Output((self._file(part),), self.layout.key_file(self._file(part)))

    def _parts(self, part: str) -> Parts:
        """What a part is made of: the partition, Original, the paper's edit, and its settings."""
        folders = self.layout.original("bert4rec-0").model, self.layout.cell(self._cell).model
        inputs = [self.layout.partition(self.request) / "info.json", *(f / "weights.safetensors" for f in folders)]
        parameters = {"unlearn.seed": self.seed, "evaluate": vars(self.evaluation), **self._settings(part)}
        models = (MODELS[name].__module__ for name in MODELS)
        code = code_digests("srun.papers.attribution", *models)
        return Parts(parameters, file_digests(self.layout.root, self.layout.prepared, *inputs), code)

    def _run(self, part: str, key: str) -> None:
        device = start(self.runtime)
        data = load_dataset(self.layout)
        split = Partition.load(self.layout.partition(self.request), data)
        original = load_original(self.layout, "bert4rec-0", data, device)
        bench = _Bench(split, original, self.seed, self.evaluation, self.relearning, device)
        found: dict[str, Any]
        if part == "controls":
            edits = read_edits(load_published(self.layout.cell(self._cell).model, device)[1])
            found = bench.controls(edits, self.paper.scale)
        elif part == "front":
            orders = _orders(original.model, split, self.paper, self.seed)
            found = {name: bench.front(order, self.paper.scale) for name, order in orders.items()}
        else:
            found = bench.variant(self.layout, replace(self.plus, **VARIANTS[part]))
        write_text(self._file(part), json.dumps({"found": found}, indent=1) + "\n")


def _orders(model: SequenceModel, split: Partition, paper: AttributionConfig, seed: int) -> dict[str, list[Neuron]]:
    """All neurons in the orders that are compared: the paper's, ours, the most active, and one at random."""
    [found, *_] = find_neurons(paper, model, split, seed, Meter()).values()
    mean = found.attributions.values.mean(0)
    queries = split.queries("out_of_category_tune")
    drawn = numpy_stream(seed, "study-outside").permutation(len(queries))[: paper.max_sequences or MAX_CHOOSE]
    others = attribute_queries(paper, model, queries.select(np.sort(drawn)), Meter()).values.mean(0)
    return {
        "shared": most_shared(found.shared.at(paper.attribution_threshold), mean.numpy()),
        "joint": contrast(mean, others, None),
        "largest": most_active(model, split, seed, Meter()),
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
        inside, outside = (task.ranks(original.scorer).rank for task in (self.tasks.inside, self.tasks.outside))
        self.inside, self.hit, self.ndcg = hits(inside, 10), hit(outside, 10), ndcg(outside, 10)
        self.items = category_items(split.data, split.info["request"]["categories"])

    def _task(self, queries: Queries) -> RankingTask:
        return RankingTask.make(queries, self.original.scorer.max_length, self.device, self.evaluation.batch_size)

    def controls(self, edits: Sequence[Edit], scale: float) -> dict[str, dict[str, float]]:
        """The paper's neurons beside random and most active ones, at equal number and at equal loss elsewhere.

        Where the paper's lose nothing of find users' validation, controls may lose nothing either; they need not gain.
        """
        model, number = self.original.model, len(edits)
        chosen = measure(model, edits, self.tasks, self.hit)
        found = {"attribution": self._row(chosen)}
        level = min(hit(self._after(()), 10), hit(self._after(edits), 10))
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
        return most_active(self.original.model, self.split, draw, Meter())

    def _draw(self, neurons: Sequence[Neuron], scale: float) -> Draw:
        return measure(self.original.model, as_edits(neurons, scale), self.tasks, self.hit)

    def _after(self, edits: Sequence[Edit]) -> Ranks:
        with edited(self.original.model, edits):
            return self.tasks.choose.ranks(Scorer([self.original.model])).rank

    def _row(self, draw: Draw) -> dict[str, float]:
        rate = float(1 - draw.inside.mean() / self.inside.mean())
        return {"num_neurons": float(draw.num_neurons), "removal_rate_10": rate, "hit_10_kept": draw.kept}

    def front(self, ordered: Sequence[Neuron], scale: float) -> list[dict[str, float]]:
        """Removal and what is kept, by dose."""
        asked = self.tasks.inside, self.tasks.outside, self.items
        return dose_response(self.original.model, ordered, scale, DOSES, *asked)

    def variant(self, layout: Layout, settings: AttributionPlusConfig) -> dict[str, Any]:
        """What ``attribution_plus`` comes to with these settings; ``relearning`` has its curves."""
        probe = Probe(self.split.splits, self.split.data.max_length, self.device, self.evaluation.batch_size)
        cell = Cell(request="study", original="bert4rec-0", method="attribution_plus", seed=0)
        resume = ResumeFolder(layout.cell(cell).resume, digest(vars(settings)))
        context = Context.quiet(self.device, self.seed, probe, resume)
        method = UNLEARNERS["attribution_plus"](settings)
        result = method.unlearn(self.original, self.split, context)
        inside, outside = (task.ranks(result.scorer).rank for task in (self.tasks.inside, self.tasks.outside))
        return {
            "num_neurons": float(len(result.info["edits"])),
            "removal_rate_10": float(1 - hit(inside, 10) / self.inside.mean()),
            "hit_10_kept": hit(outside, 10) / self.hit,
            "ndcg_10_kept": ndcg(outside, 10) / self.ndcg,
            "probe_auc": self._probe(result.scorer),
            "relearning": self._relearned(result.scorer),
            "seconds": result.cost.seconds,
        }

    def _probe(self, scorer: Scorer) -> float:
        queries = self.split.test_targets
        states = last_states(scorer, queries, self.device, self.evaluation.batch_size)
        inside, report = self.split.removed[queries.event], self.split.group[queries.user] == REPORT
        scores = probe_scores(states, inside, queries.user, numpy_stream(self.evaluation.seed, "probe"))
        return auc(scores[report], inside[report])

    def _relearned(self, scorer: Scorer) -> dict[str, Any]:
        """The curve on returned events; that on retained ones takes as long and is for the methods."""
        asked = self.relearning, self.evaluation.seed, self.device, self.evaluation.batch_size
        curves = relearn(scorer, self.split, self.original.recipe, *asked, ways=("returned",))
        return {way: vars(curve) for way, curve in curves.items()}


def records_done(layout: Layout, cells: Mapping[str, Cell], left: Sequence[str], protocol: str = "") -> list[Record]:
    """What was measured of the cells of which no step is ``left``."""
    names = {name: {_under(protocol, f"{stage} {name}") for stage in ("unlearn", "evaluate")} for name in cells}
    return [read_record(layout, name, cell) for name, cell in cells.items() if not names[name] & set(left)]


def write(
    layout: Layout,
    cells: Mapping[str, Cell],
    dataset: str,
    requests: Sequence[str],
    left: Sequence[str],
    studies: Mapping[str, Mapping[str, Any]],
    by_protocol: Mapping[str, Sequence[Record]],
) -> dict[str, Any]:
    """Write tables, figures and results.csv of the cells that are done; returns the paths and the tables.

    ``studies``: request -> what is found of its study; ``by_protocol``: protocol -> what is done under it.
    """
    from srun.papers import attribution_tables as attribution

    records = records_done(layout, cells, left)
    judged = {request for request in requests if any(r.method == "retrain" and r.request == request for r in records)}
    mains = [record for record in records if record.model == "bert4rec" and record.request in judged]
    started = sorted({record.original for record in mains})
    groups = group_records(mains, [read_original(layout, name) for name in started]) if mains else []
    others = [record for record in records if record.model != "bert4rec"]
    data = load_dataset(layout)
    asked = {name: judge_beside_others(found) for name, found in by_protocol.items()}
    found = attribution.tables(
        dataset, data.num_users, data.num_items, len(data.item), groups, others, studies, asked, PROTOCOLS
    )
    notes = attribution.notes(records, left)
    out = layout.root
    write_text(out / "tables.md", attribution.write_markdown(dataset, notes, found))
    with write_folder(out / "figures") as new:
        for file, png in attribution.draw(groups, others, studies).items():
            (new / file).write_bytes(png)
    rows = [*long_form(groups), *(row for record in others for row in rows_of(record)), *_study_rows(groups, studies)]
    rows += [row for name, found in asked.items() for r in found for row in rows_of(r, f"{r.method}: {name}")]
    write_text(out / "results.csv", to_csv([row for row in rows if math.isfinite(row.value)]))
    written = [out / "tables.md", out / "results.csv", out / "figures"]
    return {"written": {path.name: str(path) for path in written}, "tables": found}


def _study_rows(groups: Sequence[Any], studies: Mapping[str, Any]) -> list[Row]:
    """The controls' means and the ablation as further methods, such as ``random_neurons_equal_loss``."""
    rows = []
    for group in groups:
        record: Record = group.first
        for name, values in studies[group.request]["controls"].items():
            if name == "attribution":
                continue
            method = name.replace(", ", "_neurons_").replace(" ", "_")
            for metric, value in values.items():
                split = "out_of_category" if metric == "hit_10_kept" else "in_category"
                rows.append(rows_of(record, method, {split: {metric: value}})[0])
        for name, values in studies[group.request]["ablation"].items():
            method = f"attribution_plus: {name}"
            relearned = relearning_figures(values["relearning"], group.of("original")[:1], group.retrains)
            rows += rows_of(record, method, {"relearning": relearned})
            for metric, value in values.items():
                if metric == "relearning":
                    continue
                split = {"removal_rate_10": "in_category", "probe_auc": "all_targets", "seconds": "cost"}.get(
                    metric, "out_of_category"
                )
                rows += rows_of(record, method, {split: {metric: value}})
    return rows
