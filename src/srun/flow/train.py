"""Stage train: Original, trained on everything before any request is known; one model, or one for each shard."""

from functools import partial
from typing import Any

import torch

from srun.config import Section
from srun.data.dataset import Dataset, Role, original_validation
from srun.evaluation.probe import Probe
from srun.flow.cells import OriginalCell
from srun.flow.freshness import digest
from srun.flow.layout import Layout
from srun.flow.loading import load_dataset
from srun.flow.registration import registered
from srun.flow.reporter import Reporter
from srun.flow.run_file import write_run
from srun.models.published import publish, without_parts
from srun.models.scorer import Scorer
from srun.system.devices import PeakMemory, RuntimeConfig, out_of_memory_hint, start, trains_together
from srun.system.meter import Meter
from srun.tracking import Tracker
from srun.training.checkpoint import ResumeFolder
from srun.training.fit import Fit, TrainConfig, Watch
from srun.training.shards import Shards, ShardTraining, train_shards


def run(
    layout: Layout,
    name: str,
    original: OriginalCell,
    settings: Section,
    recipe: TrainConfig,
    evaluation_batch: int,
    runtime: RuntimeConfig,
    tracker: Tracker,
    key: str,
) -> dict[str, float]:
    """Train and publish the Original ``name`` with its model's ``settings``; returns its validation figures.

    ``key``: of what it is made of; a run that was killed goes on from saved states of the same key.
    """
    device, data, paths = start(runtime), load_dataset(layout), layout.original(name)
    described = description(original, settings, data)
    info = {
        "stage": "train",
        "seed": original.seed,
        "shards": original.shards,
        "fingerprint": data.fingerprint,
        "prepare": data.info["config"],
        "train": vars(recipe),
        "threads": runtime.threads,
        "device": str(device),
    }
    probe = Probe({"validation": original_validation(data)}, data.max_length, device, evaluation_batch)
    resume = ResumeFolder(paths.resume, digest({**info, **described, "key": key}))
    tracker.resumes(resume.key)
    reporter = Reporter(f"train {name}", "validation/ndcg_10", runtime.progress, tracker)
    meter = Meter(PeakMemory(device))
    shards = Shards.make(data, original.shards, original.seed)
    info["shards"] = shards.number
    if not isinstance(original.shards, int):
        info["sharding"] = vars(original.shards)

    with out_of_memory_hint("train.batch_size"), reporter:
        trainings = [
            _training(shard, shards, data, described, original.seed, probe, reporter, resume, device)
            for shard in range(shards.number)
        ]
        trained = train_shards(shards, trainings, recipe, {}, trains_together(runtime, device))
    scorer = Scorer([model for model, _, _ in trained])
    figures = probe(scorer, "validation")
    fits = [fit for _, found, _ in trained for fit in found]
    tracker.backfill(row for fit in fits for row in fit.history)
    for fit in fits:
        meter.include(fit.cost)
    cost = meter.read()
    info |= {"best_epoch": [fit.best_epoch for fit in fits], "cost": cost.exact()}
    parts = {} if isinstance(original.shards, int) else shards.tensors()
    for _, _, states in trained:
        parts |= states
    histories = _histories([found for _, found, _ in trained])
    publish(paths.model, scorer.to("cpu"), info, histories, data.items, parts)
    write_run(paths, cost, tracker)
    with without_parts(paths.model) as shown:
        tracker.model(shown, registered(data, name, paths.model.name, None, original.seed, paths.model.name))
    return figures


def _training(
    shard: int,
    shards: Shards,
    data: Dataset,
    described: dict[str, Any],
    seed: int,
    probe: Probe,
    reporter: Reporter,
    resume: ResumeFolder,
    device: torch.device,
) -> ShardTraining:
    """How the model of one shard is trained: its windows, its seed, and looks at validation of its users."""
    folder = resume.child(f"shard-{shard}")

    def watch(last: int) -> Watch:
        users = shards.users(shard, last)
        return Watch(
            validate=lambda model: probe(Scorer([model]), "validation", users),
            observe=lambda model: {},
            on_epoch=reporter.on_epoch,
            resume=folder if shards.slices == 1 else folder.child(f"slice-{last}"),
            validation_positions=probe.positions("validation", users),
            validation_queries=probe.queries("validation", users),
        )

    windows = partial(shards.data, data, data.role == Role.TRAIN, shard, None, device)
    return ShardTraining(shard, described, shards.training_seed(shard, seed), windows, watch)


def description(original: OriginalCell, settings: Section, data: Dataset) -> dict[str, Any]:
    """Name, settings and sizes of an Original's model, to make one."""
    return {
        "name": original.model,
        "settings": dict(vars(settings)),
        "num_items": data.num_items,
        "max_length": data.max_length,
    }


def _histories(fits: list[list[Fit]]) -> list[dict[str, float]]:
    """The curves of all shards and their slices one after the other, with the numbers of what there are several of."""
    if len(fits) == 1:
        return fits[0][0].history
    rows = []
    for shard, found in enumerate(fits):
        for index, fit in enumerate(found):
            number = {"shard": float(shard)} | ({"slice": float(index)} if len(found) > 1 else {})
            rows += [{**number, **row} for row in fit.history]
    return rows
