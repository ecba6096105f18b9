"""Not a stage of the flow: the ablations of the SRUGA thesis (its 4.7, Figures 9 to 13), and which parameters moved.

Every variant is SRUGA with some settings changed, on one Original; what is measured of it is one JSON file, its model
is not kept. Weights are varied about the thesis' 0.5, 1 and 0.5.
"""

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from srun.data.batches import TrainingData
from srun.errors import RunError
from srun.evaluation.evaluate import EvaluateConfig, Probe, evaluate
from srun.files import read_json, write_folder, write_text
from srun.flow.code import code_digests
from srun.flow.freshness import Output, Parts, file_digests
from srun.flow.layout import Layout
from srun.flow.loading import load_dataset, load_original
from srun.flow.reporter import Reporter
from srun.flow.steps import Step
from srun.models import MODELS
from srun.models.base import SequenceModel
from srun.models.scorer import Scorer
from srun.requests.partition import Partition
from srun.rng import Streams
from srun.system.devices import RuntimeConfig, start
from srun.tables import harmless
from srun.tracking import NullTracker
from srun.training.checkpoint import ResumeFolder, copy_weights
from srun.training.fit import TrainConfig, target_loss
from srun.unlearning import UNLEARNERS
from srun.unlearning.base import Context
from srun.unlearning.sruga.settings import SRUGAConfig

PARTS = ("combinations", "sweeps", "curves")
WEIGHTS = ("ascent_weight", "kl_weight", "finetune_weight")
TERMS = {"GA": "ascent_weight", "KL": "kl_weight", "FT": "finetune_weight"}
COMBINATIONS = (("GA",), ("KL",), ("FT",), ("GA", "KL"), ("GA", "FT"), ("KL", "FT"), ("GA", "KL", "FT"))
CURVES = tuple(terms for terms in COMBINATIONS if "GA" in terms)
SWEEP = tuple(round(0.1 * step, 1) for step in range(1, 11))
SPLITS = ("validation", "test", "forget_tune", "forget_report")
REDO = "remove it, then run again"
CHUNK = 50  # epochs of a long curve between two looks at the budget
LOSS_WINDOWS = 2048  # of the retain set, drawn once, on which the curves' loss is taken


@dataclass(frozen=True)
class Variant:
    """SRUGA with some settings changed."""

    part: str
    name: str
    changes: Mapping[str, Any]
    """Keys of ``unlearn.sruga``."""


def variants(settings: SRUGAConfig, parts: Sequence[str]) -> list[Variant]:
    """All variants of the given parts; a combination's absent terms have the weight 0."""
    found = []
    if "combinations" in parts:
        found += [Variant("combinations", "+".join(terms), _only(settings, terms)) for terms in COMBINATIONS]
    if "sweeps" in parts:
        found += [Variant("sweeps", f"{key}={value:g}", {key: value}) for key in WEIGHTS for value in SWEEP]
    if "curves" in parts:
        long = {"stop": "fixed", "evaluate_every": 10}
        found += [Variant("curves", "+".join(terms), _only(settings, terms) | long) for terms in CURVES]
    return found


def _only(settings: SRUGAConfig, terms: Sequence[str]) -> dict[str, Any]:
    return {key: getattr(settings, key) if term in terms else 0.0 for term, key in TERMS.items()}


@dataclass(frozen=True)
class Ablation:
    """What all variants share."""

    layout: Layout
    request: str
    original: str
    settings: SRUGAConfig
    seed: int
    evaluation: EvaluateConfig
    runtime: RuntimeConfig

    def steps(self, parts: Sequence[str], epochs: int) -> list[Step]:
        """One a variant; of the long curves one for every ``CHUNK`` epochs, all curves side by side."""
        found = variants(self.settings, parts)
        short = [self._step(variant, None) for variant in found if variant.part != "curves"]
        ends = [*range(CHUNK, epochs, CHUNK), epochs]
        return short + [self._step(variant, end) for end in ends for variant in found if variant.part == "curves"]

    def _step(self, variant: Variant, end: int | None) -> Step:
        name = f"{variant.part} {variant.name}" + ("" if end is None else f" to epoch {end}")
        output = Output((self.file(variant),), self.layout.key_file(self.file(variant)))
        work, parts = partial(self._run, variant, end), partial(self._parts, variant, end)
        return _CurveStep(name, (), work, parts, output, end=end)

    def file(self, variant: Variant) -> Path:
        """Where what is measured of a variant is kept."""
        return self.layout.root / "ablation" / variant.part / f"{variant.name}.json"

    def _parts(self, variant: Variant, end: int | None) -> Parts:
        """What a variant's figures are made of; how far a curve goes is not part of it, for it can go on."""
        source = self.layout.original(self.original).model
        files = [
            self.layout.partition(self.request) / "info.json",
            source / "model.json",
            source / "weights.safetensors",
        ]
        settings = vars(replace(self.settings, **variant.changes))
        settings = settings if end is None else {**settings, "max_epochs": None}
        parameters = {f"unlearn.sruga.{name}": value for name, value in settings.items()}
        parameters |= {"unlearn.seed": self.seed}
        parameters |= {"evaluate.seed": self.evaluation.seed, "evaluate.sampled": self.evaluation.sampled}
        models = (MODELS[name].__module__ for name in MODELS)
        code = code_digests("srun.papers.ablation", UNLEARNERS["sruga"].__module__, *models)
        return Parts(parameters, file_digests(self.layout.root, self.layout.prepared, *files), code)

    def _run(self, variant: Variant, end: int | None, key: str) -> None:
        device = start(self.runtime)
        data = load_dataset(self.layout)
        request = Partition.load(self.layout.partition(self.request), data)
        original = load_original(self.layout, self.original, data, device)
        settings = replace(self.settings, **variant.changes)
        settings = settings if end is None else replace(settings, max_epochs=end)
        resume = self.layout.root / "runs" / "resume" / "ablation" / variant.part
        probe = WatchedProbe(request, self.evaluation.batch_size, original.recipe, device)
        with Reporter(
            f"{variant.part} {variant.name}", "forget_tune/hit_10", self.runtime.progress, NullTracker()
        ) as told:
            folder = ResumeFolder(resume / variant.name, key)
            context = Context.quiet(device, self.seed, probe, folder, told.on_epoch)
            result = UNLEARNERS["sruga"](settings).unlearn(original, request, context)
        found = evaluate(result.scorer, request, self.evaluation, device).metrics
        record = {
            "epochs": int(result.info.get("stopped_after", result.info["epochs"])),
            "info": result.info,
            "cost": {**result.cost.exact(), **result.cost.measured()},
            "metrics": {split: found[split] for split in SPLITS},
            "moved": moved(original.model, result.scorer.model, np.unique(data.item[request.forget])),
            "history": result.history,
        }
        write_text(self.file(variant), json.dumps(record, indent=1) + "\n")
        if end is None:
            folder.clear()

    def write(self, parts: Sequence[str]) -> dict[str, Any]:
        """Write CSV files and figures of the variants that are there; returns paths and tables."""
        from srun.papers.ablation_figures import draw  # matplotlib, which other commands should not wait for

        found = self._found(parts)
        rows = {part: [_row(v, record) for v, record in found if v.part == part] for part in parts}
        shifts = [_moved_row(v, record) for v, record in found]
        curves = [row for v, record in found if v.part == "curves" for row in _curve(v, record)]
        out, texts = self.layout.root, {**rows, "moved": shifts, "long-curves": curves}
        written = {}
        for name, table in texts.items():
            if table:
                write_text(out / f"{name}.csv", _csv(table))
                written[name] = str(out / f"{name}.csv")
        level = found[0][1]["history"][0] if found else {}  # epoch 0 is Original
        with write_folder(out / "figures") as new:
            for file, png in draw(rows, curves, shifts, level).items():
                (new / file).write_bytes(png)
        shown = {part: [{k: _text(v) for k, v in row.items()} for row in table] for part, table in rows.items()}
        return {"written": {**written, "figures": str(out / "figures")}, "tables": shown}

    def _found(self, parts: Sequence[str]) -> list[tuple[Variant, dict[str, Any]]]:
        """The variants that are there, made of what is there now, and what was measured of them."""
        made = []
        for variant in variants(self.settings, parts):
            if not self._step(variant, 0 if variant.part == "curves" else None).stale():
                made.append((variant, read_json(self.file(variant), RunError, REDO)))
        return made


@dataclass(frozen=True)
class _CurveStep(Step):
    """A step to an epoch of a long curve, where there is one."""

    end: int | None = None

    def stale(self) -> list[str]:
        """Also where the curve ends before."""
        reasons = super().stale()
        if reasons or self.end is None:
            return reasons
        reached = int(read_json(self.output.paths[0], RunError, REDO)["epochs"])
        return [] if reached >= self.end else [f"ends at epoch {reached}"]


class WatchedProbe(Probe):
    """A probe that takes the mean training loss on a fixed draw of retain windows too, for the curves only."""

    def __init__(self, request: Partition, batch_size: int, recipe: TrainConfig, device: torch.device) -> None:
        super().__init__(request.splits, request.data.max_length, device, batch_size)
        self._data = TrainingData(request.data, request.retain, request.catalogue, device)
        self._recipe = recipe
        generator = Streams(0, device)["loss-windows"]
        num = len(self._data.windows)
        self._rows = torch.randperm(num, generator=generator, device=device)[:LOSS_WINDOWS]

    def __call__(self, scorer: Scorer, split: str, users: NDArray[np.bool_] | None = None) -> dict[str, float]:
        figures = super().__call__(scorer, split, users)
        return figures | {"retain/loss": self._loss(scorer.model)} if split == "validation" else figures

    @torch.inference_mode()
    def _loss(self, model: SequenceModel) -> float:
        streams = Streams(0, self._rows.device)  # the same negatives and masks at every look
        windows, users = self._data.batch(self._rows)
        inputs, targets = model.training_pairs(windows, streams["cloze"])
        loss = target_loss(model, model.hidden(inputs), targets, users, self._data, self._recipe, streams)
        return float(loss.mean())


def moved(before: SequenceModel, after: SequenceModel, forgotten: NDArray[np.int32]) -> dict[str, float]:
    """How far each group of parameters moved: the L2 norm of the change over that of what was there.

    Groups: embeddings, attention and feed-forward of each block, norms; and of the item embeddings the rows of the
    items that have a ``forgotten`` event, and all others. [T] 5.2 leaves open what moves.
    """
    old, new = copy_weights(before), copy_weights(after)
    groups: dict[str, list[tuple[Tensor, Tensor]]] = {}
    for name in old:
        groups.setdefault(_group(name), []).append((old[name], new[name]))
    rows = torch.zeros(len(old["embedding.weight"]), dtype=torch.bool)
    rows[torch.from_numpy(forgotten).long()] = True
    rows = rows.to(old["embedding.weight"].device)
    pair = old["embedding.weight"], new["embedding.weight"]
    groups["embeddings of forgotten items"] = [(pair[0][rows], pair[1][rows])]
    groups["embeddings of other items"] = [(pair[0][~rows], pair[1][~rows])]
    return {name: _relative(pairs) for name, pairs in groups.items()}


def _group(name: str) -> str:
    block = re.match(r"blocks\.(\d+)\.", name)
    if "norm" in name:
        return "norms"
    if block:
        return f"block {int(block[1]) + 1}, {'attention' if 'attention' in name else 'feed-forward'}"
    names = {"embedding": "item embeddings", "output": "output embeddings", "position": "position embeddings"}
    return names.get(name.split(".")[0], name.split(".")[0])


def _relative(pairs: Sequence[tuple[Tensor, Tensor]]) -> float:
    change = sum(float((new - old).double().square().sum()) for old, new in pairs)
    size = sum(float(old.double().square().sum()) for old, _ in pairs)
    return (change / size) ** 0.5 if size else 0.0


def _row(variant: Variant, record: Mapping[str, Any]) -> dict[str, Any]:
    metrics = record["metrics"]
    return {
        "variant": variant.name,
        **{key: variant.changes[key] for key in WEIGHTS if key in variant.changes},
        "epochs": record["epochs"],
        "stop": record["info"]["stop"],
        "test_recall_10": metrics["test"]["recall_10"],
        "test_ndcg_10": metrics["test"]["ndcg_10"],
        "forget_report_hit_10": metrics["forget_report"]["hit_10"],
        **{
            f"{split}_{metric}_sampled": metrics[split][f"{metric}_sampled"]
            for split, metric in (("test", "recall_10"), ("forget_report", "hit_10"))
            if f"{metric}_sampled" in metrics[split]
        },
        "seconds": record["cost"]["seconds"],
    }


def _moved_row(variant: Variant, record: Mapping[str, Any]) -> dict[str, Any]:
    return {"part": variant.part, "variant": variant.name, "epochs": record["epochs"], **record["moved"]}


def _curve(variant: Variant, record: Mapping[str, Any]) -> list[dict[str, Any]]:
    keys = ("validation/recall_10", "forget_tune/hit_10", "retain/loss")
    rows = [row for row in record["history"] if all(key in row for key in keys)]
    return [{"variant": variant.name, "epoch": row["epoch"], **{key: row[key] for key in keys}} for row in rows]


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    out = io.StringIO()
    columns = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _text(value) for name, value in row.items()} for row in rows)
    return out.getvalue()


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(harmless(value))
