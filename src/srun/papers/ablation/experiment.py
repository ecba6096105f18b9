"""The ablations of the SRUGA thesis (its 4.7, Figures 9 to 13): every variant is run on one Original.

The figures of a variant are one JSON file; its model is not kept.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from srun.errors import RunError
from srun.evaluation.evaluate import EvaluateConfig, evaluate
from srun.files import read_json, write_text
from srun.flow.code import code_digests
from srun.flow.freshness import Output, Parts, file_digests
from srun.flow.layout import Layout
from srun.flow.loading import load_dataset, load_original
from srun.flow.reporter import Reporter
from srun.flow.steps import Step
from srun.models import MODELS
from srun.papers.ablation.movement import moved
from srun.papers.ablation.retain_loss import RetainLossProbe
from srun.papers.ablation.variants import Variant, variants
from srun.requests.partition import Partition
from srun.system.devices import RuntimeConfig, start
from srun.tracking import NullTracker
from srun.training.checkpoint import ResumeFolder
from srun.unlearning import UNLEARNERS
from srun.unlearning.base import Context, Original, Result
from srun.unlearning.sruga.settings import SRUGAConfig

SPLITS = ("validation", "test", "forget_tune", "forget_report")
CHUNK = 50  # epochs of a long curve between two looks at the budget
REDO = "remove it, then run again"


@dataclass(frozen=True)
class CurveStep(Step):
    """A step to an epoch of a long curve, where there is one."""

    end: int | None = None

    def stale(self) -> list[str]:
        """Also where the curve ends before."""
        reasons = super().stale()
        if reasons or self.end is None:
            return reasons
        reached = int(read_json(self.output.paths[0], RunError, REDO)["epochs"])
        return [] if reached >= self.end else [f"ends at epoch {reached}"]


@dataclass(frozen=True)
class Ablation:
    """Every variant of SRUGA on one Original and request."""

    layout: Layout
    request: str
    original: str
    settings: SRUGAConfig
    seed: int
    evaluation: EvaluateConfig
    runtime: RuntimeConfig

    def steps(self, parts: Sequence[str], epochs: int) -> list[Step]:
        """One a variant; of the long curves one for every ``CHUNK`` epochs, all curves side by side."""
        chosen = variants(self.settings, parts)
        curves = [variant for variant in chosen if variant.is_curve]
        ends = [*range(CHUNK, epochs, CHUNK), epochs]
        short = [self._step(variant, None) for variant in chosen if not variant.is_curve]
        return short + [self._step(variant, end) for end in ends for variant in curves]

    def measured(self, parts: Sequence[str]) -> list[tuple[Variant, dict[str, Any]]]:
        """The finished variants, and the file of each, as far as its curve goes; stale ones are left out."""
        return [
            (variant, read_json(self._file(variant), RunError, REDO))
            for variant in variants(self.settings, parts)
            if not self._step(variant, 0 if variant.is_curve else None).stale()
        ]

    def _step(self, variant: Variant, end: int | None) -> Step:
        """``end``: the epoch to which a long curve runs."""
        name = f"{variant.part} {variant.name}" + ("" if end is None else f" to epoch {end}")
        output = Output((self._file(variant),), self.layout.key_file(self._file(variant)))
        work, parts = partial(self._run, variant, end), partial(self._parts, variant)
        return CurveStep(name, (), work, parts, output, end=end)

    def _file(self, variant: Variant) -> Path:
        return self.layout.root / "ablation" / variant.part / f"{variant.name}.json"

    def _parts(self, variant: Variant) -> Parts:
        """What a variant's figures are made of; how far a curve goes is not part of it, for it can go on."""
        source = self.layout.original(self.original).model
        files = [
            self.layout.partition(self.request) / "info.json",
            source / "model.json",
            source / "weights.safetensors",
        ]
        settings = vars(replace(self.settings, **variant.changes))
        settings = {**settings, "max_epochs": None} if variant.is_curve else settings
        parameters = {f"unlearn.sruga.{name}": value for name, value in settings.items()}
        parameters |= {"unlearn.seed": self.seed}
        parameters |= {"evaluate.seed": self.evaluation.seed, "evaluate.sampled": self.evaluation.sampled}
        models = (MODELS[name].__module__ for name in MODELS)
        code = code_digests(__name__, UNLEARNERS["sruga"].__module__, *models)
        return Parts(parameters, file_digests(self.layout.root, self.layout.prepared, *files), code)

    def _run(self, variant: Variant, end: int | None, key: str) -> None:
        device = start(self.runtime)
        data = load_dataset(self.layout)
        request = Partition.load(self.layout.partition(self.request), data)
        original = load_original(self.layout, self.original, data, device)
        folder = self.layout.root / "runs" / "resume" / "ablation" / variant.part / variant.name
        resume = ResumeFolder(folder, key)
        result = self._unlearn(variant, end, original, request, resume, device)
        figures = evaluate(result.scorer, request, self.evaluation, device).metrics
        record = {
            "epochs": int(result.info.get("stopped_after", result.info["epochs"])),
            "info": result.info,
            "cost": {**result.cost.exact(), **result.cost.measured()},
            "metrics": {split: figures[split] for split in SPLITS},
            "moved": moved(original.model, result.scorer.model, np.unique(data.item[request.forget])),
            "history": result.history,
        }
        write_text(self._file(variant), json.dumps(record, indent=1) + "\n")
        if end is None:
            resume.clear()

    def _unlearn(
        self,
        variant: Variant,
        end: int | None,
        original: Original,
        request: Partition,
        resume: ResumeFolder,
        device: torch.device,
    ) -> Result:
        changes: Mapping[str, Any] = {**variant.changes, **({} if end is None else {"max_epochs": end})}
        probe = RetainLossProbe(request, self.evaluation.batch_size, original.recipe, device)
        title = f"{variant.part} {variant.name}"
        with Reporter(title, "forget_tune/hit_10", self.runtime.progress, NullTracker()) as reporter:
            context = Context.quiet(device, self.seed, probe, resume, reporter.on_epoch)
            return UNLEARNERS["sruga"](replace(self.settings, **changes)).unlearn(original, request, context)
