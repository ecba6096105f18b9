"""What stands behind a category request's tables: controls, the front of removal against loss, and the ablation."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from srun.errors import RunError
from srun.evaluation.evaluate import EvaluateConfig
from srun.evaluation.relearning import RelearningConfig
from srun.files import read_json, write_text
from srun.flow.cells import Cell
from srun.flow.code import code_digests
from srun.flow.freshness import Output, Parts, file_digests
from srun.flow.layout import Layout
from srun.flow.loading import load_dataset, load_original
from srun.flow.steps import Step
from srun.models import MODELS
from srun.models.published import load_published
from srun.papers.attribution.bench import Bench
from srun.papers.attribution.orders import compared_orders
from srun.requests.partition import Partition
from srun.system.devices import RuntimeConfig, start
from srun.training.checkpoint import ResumeFolder
from srun.unlearning.attribution.neurons import read_edits
from srun.unlearning.attribution.plus import AttributionPlusConfig
from srun.unlearning.attribution.privacy import AttributionConfig

ORIGINAL = "bert4rec-0"
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


Figures = Mapping[str, float]


@dataclass(frozen=True)
class CategoryFigures:
    """What the finished parts of an experiment measured; a part that is not finished is empty."""

    controls: Mapping[str, Figures] = field(default_factory=dict)
    """By choice of neurons."""
    front: Mapping[str, Sequence[Figures]] = field(default_factory=dict)
    """By order of neurons, a row a dose."""
    ablation: Mapping[str, Figures] = field(default_factory=dict)
    """By variant of ``attribution_plus``."""
    relearning: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]] = field(default_factory=dict)
    """By variant and way of relearning: ``steps`` and ``hit_10`` at each."""


@dataclass(frozen=True)
class CategoryExperiment:
    """Everything measured of one category request beyond its cells; each part is a file, so a stopped run goes on."""

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
            Step(self._step(part), needs, partial(self._run, part), partial(self._made_of, part), self._output(part))
            for part in _parts()
        ]

    def figures(self, left: Sequence[str]) -> CategoryFigures:
        """The figures of the parts whose steps are not ``left``."""
        finished = {
            part: read_json(self._file(part), RunError, "remove it, then run again")["measured"]
            for part in _parts()
            if self._step(part) not in left
        }
        variants = {name: dict(finished[name]) for name in VARIANTS if name in finished}
        relearning = {name: figures.pop("relearning") for name, figures in variants.items()}
        return CategoryFigures(finished.get("controls", {}), finished.get("front", {}), variants, relearning)

    def _step(self, part: str) -> str:
        return f"experiment {self.request} {part}"

    def _file(self, part: str) -> Path:
        return self.layout.root / "experiments" / self.request / f"{part}.json"

    @property
    def _cell(self) -> Cell:
        return Cell(request=self.request, original=ORIGINAL, method="attribution", seed=0)

    def _settings(self, part: str) -> dict[str, Any]:
        if part in VARIANTS:
            return {"plus": vars(self._variant(part)), "relearning": vars(self.relearning)}
        return {"paper": vars(self.paper), "draws": NUM_DRAWS, "doses": DOSES, "choose": MAX_CHOOSE}

    def _variant(self, part: str) -> AttributionPlusConfig:
        return replace(self.plus, **VARIANTS[part])

    def _output(self, part: str) -> Output:
        return Output((self._file(part),), self.layout.key_file(self._file(part)))

    def _made_of(self, part: str) -> Parts:
        """What a part is made of: the partition, Original, the paper's edit, and its settings."""
        folders = self.layout.original(ORIGINAL).model, self.layout.cell(self._cell).model
        partition = self.layout.partition(self.request) / "info.json"
        inputs = [partition, *(folder / "weights.safetensors" for folder in folders)]
        parameters = {"unlearn.seed": self.seed, "evaluate": vars(self.evaluation), **self._settings(part)}
        models = (MODELS[name].__module__ for name in MODELS)
        code = code_digests(__name__, *models)
        return Parts(parameters, file_digests(self.layout.root, self.layout.prepared, *inputs), code)

    def _run(self, part: str, key: str) -> None:
        device = start(self.runtime)
        data = load_dataset(self.layout)
        split = Partition.load(self.layout.partition(self.request), data)
        original = load_original(self.layout, ORIGINAL, data, device)
        bench = Bench(split, original, self.seed, self.evaluation, self.relearning, device, MAX_CHOOSE)
        scale = self.paper.scale
        measured: dict[str, Any]
        if part == "controls":
            edits = read_edits(load_published(self.layout.cell(self._cell).model, device)[1])
            measured = bench.controls(edits, scale, NUM_DRAWS)
        elif part == "front":
            orders = compared_orders(original.model, split, self.paper, self.seed, MAX_CHOOSE)
            measured = {name: bench.front(order, scale, DOSES) for name, order in orders.items()}
        else:
            resume = ResumeFolder(self.layout.root / "runs" / "resume" / "experiments" / self.request / part, key)
            measured = bench.variant(self._variant(part), resume)
            resume.clear()
        write_text(self._file(part), json.dumps({"measured": measured}, indent=1) + "\n")


def _parts() -> list[str]:
    return ["controls", "front", *VARIANTS]
