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
from srun.flow.common import Reporter, Step, has_key, load_dataset, load_original, stage_key
from srun.flow.layout import Layout
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
            if has_key(self._file(variant), self._key(variant))
        ]

    def _step(self, variant: Variant, end: int | None) -> Step:
        """``end``: the epoch to which a long curve runs."""
        name = f"{variant.part} {variant.name}" + ("" if end is None else f" to epoch {end}")
        return Step(name, (), partial(self._is_done, variant, end), partial(self._run, variant, end))

    def _file(self, variant: Variant) -> Path:
        return self.layout.root / "ablation" / variant.part / f"{variant.name}.json"

    def _key(self, variant: Variant) -> str:
        """What a variant's figures are made of; how far a curve goes is not part of it, for it can go on."""
        source = self.layout.original(self.original).model
        files = [
            self.layout.partition(self.request) / "info.json",
            source / "model.json",
            source / "weights.safetensors",
        ]
        settings = vars(replace(self.settings, **variant.changes))
        return stage_key(
            "ablation",
            files,
            settings={**settings, "max_epochs": None} if variant.is_curve else settings,
            seed=self.seed,
            evaluate=[self.evaluation.seed, self.evaluation.sampled],
        )

    def _is_done(self, variant: Variant, end: int | None) -> bool:
        file = self._file(variant)
        if not has_key(file, self._key(variant)):
            return False
        return end is None or bool(read_json(file, RunError, REDO)["epochs"] >= end)

    def _run(self, variant: Variant, end: int | None) -> None:
        device = start(self.runtime)
        data = load_dataset(self.layout)
        request = Partition.load(self.layout.partition(self.request), data)
        original = load_original(self.layout, self.original, data, device)
        resume = ResumeFolder(
            self.layout.root / "runs" / "resume" / "ablation" / variant.part / variant.name, self._key(variant)
        )
        result = self._unlearn(variant, end, original, request, resume, device)
        figures = evaluate(result.scorer, request, self.evaluation, device).metrics
        record = {
            "key": self._key(variant),
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
