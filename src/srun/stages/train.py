"""Stage train: Original, trained on everything before any request is known; one model, or one for each shard."""

from typing import Any

from srun.data.batches import TrainingData
from srun.data.interactions import Dataset, Role
from srun.data.partition import original_validation
from srun.devices import PeakMemory, RuntimeConfig, out_of_memory_hint, start, trains_together
from srun.evaluation.evaluate import Probe
from srun.models.scorer import Scorer, publish
from srun.stages.cells import OriginalCell
from srun.stages.common import Reporter, load_dataset, resume_folder, write_run
from srun.stages.layout import Layout
from srun.tracking import Tracker
from srun.training.fit import Fit, TrainConfig, Watch
from srun.training.shards import Shards, add_costs
from srun.training.together import Job, train_all


def run(
    layout: Layout,
    name: str,
    original: OriginalCell,
    settings: Any,
    recipe: TrainConfig,
    evaluation_batch: int,
    runtime: RuntimeConfig,
    tracker: Tracker,
) -> dict[str, float]:
    """Train and publish the Original ``name`` with its model's ``settings``; returns its validation figures."""
    device = start(runtime)
    data = load_dataset(layout)
    paths = layout.original(name)
    description = _description(original, settings, data)
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
    resume = resume_folder(paths, {**info, **description})
    reporter = Reporter(f"train {name}", "validation/ndcg_10", runtime.progress, tracker)
    memory = PeakMemory(device)
    shards = Shards.draw(data.num_users, original.shards, original.seed)

    def job(shard: int) -> Job:
        watch = Watch(
            validate=lambda model: probe(Scorer([model]), "validation", shards.users(shard)),
            observe=lambda model: {},
            on_epoch=reporter.on_epoch,
            resume=resume.child(f"shard-{shard}"),
            validation_positions=probe.positions("validation", shards.users(shard)),
        )

        def windows() -> TrainingData:
            return shards.data(data, data.role == Role.TRAIN, shard, None, device)

        return Job(description, windows, shards.training_seed(shard, original.seed), watch)

    with out_of_memory_hint("train.batch_size"), reporter:
        trained = train_all([job(shard) for shard in range(shards.number)], recipe, trains_together(runtime, device))
    scorer = Scorer([model for model, _ in trained])
    figures = probe(scorer, "validation")
    cost = add_costs([fit.cost for _, fit in trained])
    cost.peak_memory_mb = memory.mebibytes()
    info |= {"best_epoch": [fit.best_epoch for _, fit in trained], "cost": cost.exact()}
    publish(paths.model, scorer.to("cpu"), info, _histories([fit for _, fit in trained]), data.items)
    resume.clear()
    write_run(paths, cost, tracker)
    tracker.model(paths.model, f"srun-{name}", "original")
    return figures


def _description(original: OriginalCell, settings: Any, data: Dataset) -> dict[str, Any]:
    return {
        "name": original.model,
        "settings": dict(vars(settings)),
        "num_items": data.num_items,
        "max_length": data.max_length,
    }


def _histories(fits: list[Fit]) -> list[dict[str, float]]:
    """The curves of all shards one after the other, with their number where there are several."""
    if len(fits) == 1:
        return fits[0].history
    return [{"shard": float(shard), **row} for shard, fit in enumerate(fits) for row in fit.history]
