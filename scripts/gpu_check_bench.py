"""What the parts of gpu_check.py stand on: settings, made-up data, models, and the form of what is found out.

Shapes: B batch, L length, D hidden, V catalogue.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from srun.data.batches import TrainingData
from srun.data.dataset import Dataset, Role, prepare
from srun.data.synthetic import steam_like
from srun.flow.params import Params, load
from srun.models import MODELS
from srun.models.base import SequenceModel
from srun.models.scorer import Scorer, new_model
from srun.requests.partition import Partition, partition
from srun.rng import Streams
from srun.training.checkpoint import NoResume
from srun.training.fit import STOP_METRIC, TrainConfig, Watch, train_new
from srun.training.shards import Shards
from srun.training.together import Job
from srun.unlearning.base import Original, Unlearner
from srun.unlearning.closed_form.method import ClosedForm, ClosedFormConfig
from srun.unlearning.sruga.method import SRUGA
from srun.unlearning.sruga.settings import SRUGAConfig

ROOT = Path(__file__).parents[1]
CPU = torch.device("cpu")
OVERRIDES = ("prepare.filter=none", "runtime.tracking=false", "runtime.progress=false")
QUIET = Watch(lambda model: {STOP_METRIC: 0.0}, lambda model: {}, lambda row, epoch, cap: None, NoResume())
"""For training that stops after a fixed number of epochs."""


@dataclass(frozen=True)
class Figure:
    """One thing that was measured; one with a ``limit`` is a difference and is good up to it."""

    about: str
    value: float
    unit: str = ""
    limit: float | None = None
    reason: str = ""
    """Why the limit is where it is."""

    @property
    def good(self) -> bool:
        """Whether it is within its limit; what is not a number is not."""
        return self.limit is None or self.value <= self.limit


@dataclass(frozen=True)
class Scale:
    """How large everything is."""

    compared: float
    """Size of the data on which devices are compared, in Steam's users."""
    timed: float
    """The same of the data on which the device is timed: .052 has Beauty's 22,363 users and about its 12,101 items."""
    widths: tuple[int, ...]
    """Hidden widths that are timed."""
    steps: int
    """Training steps that are timed."""
    epochs: int
    """Of models that are trained for a comparison."""
    shards: int
    overrides: tuple[str, ...] = ()
    """Of settings."""


FULL = Scale(compared=0.005, timed=0.052, widths=(64, 256), steps=60, epochs=8, shards=5)
NARROW = tuple(f"model.{name}.hidden=8" for name in MODELS)
FEW_STEPS = "unlearn.sruga.max_steps=2"
TINY = Scale(compared=0.0005, timed=0.0005, widths=(8,), steps=2, epochs=2, shards=2, overrides=(*NARROW, FEW_STEPS))


@dataclass(frozen=True)
class Bench:
    """Parameters, a data set and a request to forget events of a tenth of its users."""

    params: Params
    """presets/by-event.yaml over params.yaml."""
    output_layer: Params
    """presets/sruga-output-layer.yaml over params.yaml."""
    data: Dataset
    request: Partition

    @classmethod
    def make(cls, size: float, overrides: Sequence[str] = ()) -> "Bench":
        """Draw data of a size, the same every time."""
        changes = [*OVERRIDES, *overrides]
        presets = [ROOT / "presets" / f"{name}.yaml" for name in ("by-event", "sruga-output-layer")]
        params, output_layer = (load(ROOT / "params.yaml", [preset], changes) for preset in presets)
        data = prepare(steam_like(size, 0), params.prepare)
        return cls(params, output_layer, data, partition(data, "interactions", params.request("interactions")))

    def description(self, model: str, **changes: Any) -> dict[str, Any]:
        """What ``new_model`` makes a model from; ``changes`` are settings unlike those of params.yaml."""
        settings = dict(vars(self.params.model_settings(model))) | changes
        sizes = {"num_items": self.data.num_items, "max_length": self.data.max_length}
        return {"name": model, "settings": settings, **sizes}

    def model(self, description: Mapping[str, Any], device: torch.device) -> SequenceModel:
        """An untrained model with weights of its own; the same on every device."""
        model = new_model(dict(description))
        model.initialise(Streams(0)["weights"])
        return model.to(device)

    def windows(self, device: torch.device) -> TrainingData:
        """The windows that an Original is trained on."""
        return TrainingData(self.data, self.data.has_role(Role.TRAIN), None, device)

    def recipe(self, epochs: int, **changes: Any) -> TrainConfig:
        """The recipe of params.yaml for so many epochs."""
        return replace(self.params.train, max_epochs=epochs, evaluate_every=epochs, patience=epochs, **changes)

    def original(self, description: Mapping[str, Any], epochs: int, device: torch.device) -> Original:
        """An Original trained on ``device``."""
        recipe = self.recipe(epochs)
        model, _ = train_new(dict(description), self.windows(device), recipe, 0, QUIET)
        return Original(Scorer([model]), {"train": dict(vars(recipe)), "shards": 1, "seed": 0})

    def closed_form(self) -> ClosedFormConfig:
        """The closed form's settings, with levels from retained data: no models are cross-fitted here."""
        settings: Any = self.params.method_settings("closed_form")
        changed: ClosedFormConfig = replace(settings, level_from="retained")
        return changed

    def sruga_by_event(self) -> SRUGAConfig:
        """SRUGA's settings of presets/by-event.yaml, all weights; levels from retained data, as above."""
        settings: Any = self.params.method_settings("sruga")
        changed: SRUGAConfig = replace(settings, level_from="retained")
        return changed

    def sruga_output_layer(self) -> SRUGAConfig:
        """SRUGA's settings of presets/sruga-output-layer.yaml."""
        settings: Any = self.output_layer.method_settings("sruga")
        return settings  # type: ignore[no-any-return]  # typed as a section, whichever method's it is


def methods(bench: Bench) -> dict[str, Unlearner[Any]]:
    """The methods that are carried out whole."""
    return {
        "closed_form": ClosedForm(bench.closed_form()),
        "sruga by event": SRUGA(bench.sruga_by_event()),
        "sruga output layer": SRUGA(bench.sruga_output_layer()),
    }


def jobs(bench: Bench, description: Mapping[str, Any], number: int, device: torch.device) -> list[Job]:
    """The models of so many shards, whose windows are on the device."""
    shards = Shards.draw(bench.data.num_users, number, 0)
    events = bench.data.has_role(Role.TRAIN)
    windows = [shards.data(bench.data, events, shard, None, device) for shard in range(number)]
    return [Job(dict(description), partial(windows.__getitem__, shard), shard, QUIET) for shard in range(number)]


def moved(one: nn.Module, other: nn.Module, start: nn.Module) -> float:
    """How far the weights of two models are apart, as a share of how far ``other`` moved from ``start``."""
    flat = [_flat(model.state_dict().values()) for model in (one, other, start)]
    return float((flat[0] - flat[1]).norm() / (flat[1] - flat[2]).norm())


def _flat(tensors: Iterable[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().double().cpu().flatten() for tensor in tensors])


def apart(one: Tensor, other: Tensor) -> float:
    """The distance of two tensors, wherever they are, as a share of the length of ``other``."""
    first, second = one.detach().double().cpu(), other.detach().double().cpu()
    return float((first - second).norm() / second.norm())


def seconds(device: torch.device, work: Callable[[], object]) -> float:
    """Seconds by the clock until ``work`` is done, on the device too."""
    synchronise(device)
    began = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - began


def synchronise(device: torch.device) -> None:
    """Wait until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
