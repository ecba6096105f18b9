"""Stage levels: the private table of an Original's cross-fitted models, one number an event, for levels by event.

The table lies in runs/private, which is published nowhere. The models are deleted once every event is ranked.
"""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file

from srun.data.batches import TrainingData
from srun.data.dataset import Dataset, Role, original_validation
from srun.data.sequences import make_queries
from srun.errors import CheckpointError
from srun.evaluation.probe import Probe
from srun.files import read_json, write_folder, write_text
from srun.flow.freshness import digest
from srun.flow.layout import Layout
from srun.flow.loading import CROSSFIT_FILE, crossfit_mend, require_crossfit
from srun.flow.reporter import Reporter
from srun.flow.run_file import write_run
from srun.models.base import SequenceModel
from srun.models.scorer import Scorer
from srun.requests.partition import Partition
from srun.rng import derive
from srun.system.devices import PeakMemory, RuntimeConfig, out_of_memory_hint, start, trains_together
from srun.system.meter import Cost, Meter
from srun.tracking import Tracker
from srun.training.checkpoint import ResumeFolder
from srun.training.fit import TrainConfig, Watch
from srun.training.shards import Shards
from srun.training.together import Job, train_all
from srun.unlearning.closed_form.standing import last_states, questions, standing
from srun.unlearning.crossfit import CrossFit, LevelsConfig


def run(
    layout: Layout,
    name: str,
    seed: int,
    description: dict[str, Any],
    data: Dataset,
    after: Partition | None,
    recipe: TrainConfig,
    levels: LevelsConfig,
    evaluation_batch: int,
    runtime: RuntimeConfig,
    tracker: Tracker,
    key: str,
) -> Cost:
    """Train a model without each fold of users, rank every event by the one that lacks its user, keep the numbers.

    ``seed``: of the Original ``name``. ``after``: a request of the ``data`` that was carried out; nothing that it or
    those before it in its chain named is trained on, validated on or ranked. ``key``: of what it is made of; a run that
    was killed goes on from saved states of the same key.
    """
    device = start(runtime)
    paths, info = layout.crossfit(name), {"fingerprint": data.fingerprint, "prepare": data.info["config"]}
    validation, gone, erased = original_validation(data), np.zeros(data.num_events, dtype=bool), []
    if after is not None:
        data, validation, gone, erased = after.afterwards, after.queries("validation"), after.gone, after.chain
    states = {"key": key, "erased": erased, "threads": runtime.threads, "device": str(device)}
    resume = ResumeFolder(paths.resume, digest(states))
    tracker.resumes(resume.key)
    probe = Probe({"validation": validation}, data.max_length, device, evaluation_batch)
    reporter = Reporter(f"levels of {name}", "validation/ndcg_10", runtime.progress, tracker)
    seed = derive(seed, "crossfit") % 2**31
    fold_of_user = Shards.draw(data.num_users, levels.folds, seed).of_user

    meter = Meter(PeakMemory(device))
    with out_of_memory_hint("train.batch_size"), reporter:
        jobs = [
            _job(fold, fold_of_user, data, description, seed, probe, reporter, resume, device)
            for fold in range(levels.folds)
        ]
        trained = train_all(jobs, recipe, trains_together(runtime, device))
    tracker.backfill(row for _, fit in trained for row in fit.history)
    with meter.running():
        table = _rank(data, [model for model, _ in trained], fold_of_user, device)
    for _, fit in trained:
        meter.include(fit.cost)
    cost = meter.read()
    table = CrossFit(table).without(gone).z
    _write(paths.model, table, {**info, "cost": cost.exact(), "erased": erased})
    _finish(layout, name, cost, tracker)
    return cost


def _job(
    fold: int,
    fold_of_user: NDArray[np.int64],
    data: Dataset,
    description: dict[str, Any],
    seed: int,
    probe: Probe,
    reporter: Reporter,
    resume: ResumeFolder,
    device: torch.device,
) -> Job:
    """How the model without one fold of users is trained, and validated on the others."""
    users = fold_of_user != fold
    watch = Watch(
        validate=lambda model: probe(Scorer([model]), "validation", users),
        observe=lambda model: {},
        on_epoch=reporter.on_epoch,
        resume=resume.child(f"fold-{fold}"),
        validation_positions=probe.positions("validation", users),
        validation_queries=probe.queries("validation", users),
    )
    events = data.has_role(Role.TRAIN) & users[data.user]
    windows = partial(TrainingData, data, events, None, device)
    return Job(description, windows, derive(seed, f"fold-{fold}") % 2**31, watch)


def run_nothing(layout: Layout, name: str, tracker: Tracker) -> Cost:
    """Leave what the stage leaves for an Original that needs no table."""
    cost = Meter().read()
    _finish(layout, name, cost, tracker)
    return cost


def _finish(layout: Layout, name: str, cost: Cost, tracker: Tracker) -> None:
    write_run(layout.crossfit(name), cost, tracker)
    write_text(layout.levels(name), json.dumps({"original": name}) + "\n")


def erased(layout: Layout, name: str) -> list[str]:
    """The requests whose numbers were erased from the table of an Original, or that it was made without."""
    names: list[str] = read_json(layout.crossfit(name).model / "info.json", CheckpointError, crossfit_mend(name))[
        "erased"
    ]
    return names


def erase(layout: Layout, name: str, data: Dataset, request: Partition) -> int:
    """Take what a request and those before it in its chain named out of the table of an Original, in its place.

    Returns how many numbers went. The numbers of other events stay, though models that were trained on the erased
    events of other users gave them. Raises CheckpointError where there is no table.
    """
    folder = layout.crossfit(name).model
    table = require_crossfit(layout, name, data)
    info = read_json(folder / "info.json", CheckpointError, crossfit_mend(name))
    info["erased"] = sorted({*info["erased"], *request.chain})
    _write(folder, table.without(request.gone).z, info)
    return int(np.isfinite(table.z[request.gone]).sum())


def _write(folder: Path, z: NDArray[np.float32], info: dict[str, Any]) -> None:
    with write_folder(folder, sealed=True) as new:
        save_file({"z": z}, new / CROSSFIT_FILE)
        (new / "info.json").write_text(json.dumps(info, indent=1, sort_keys=True) + "\n")


def _rank(
    data: Dataset, models: list[SequenceModel], fold_of_user: NDArray[np.int64], device: torch.device
) -> NDArray[np.float32]:
    """(E,) z_rank of every training event and every one set aside that has a context; NaN for the others."""
    train = data.has_role(Role.TRAIN)
    queries = make_queries(data.item, data.user, data.offsets, train, train | data.has_role(Role.SET_ASIDE))
    z = np.full(data.num_events, np.nan, dtype=np.float32)
    for fold, model in enumerate(models):
        part = queries.select(fold_of_user[queries.user] == fold)
        items = questions(part, data.max_length).to(device)
        states = last_states(model.eval(), items)
        z[part.event] = standing(states, model.output_weight[1:].detach(), items[:, -1])[0].cpu().numpy()
    return z
