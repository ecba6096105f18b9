"""Stage train: Original, a model trained on everything before any request is known."""

from typing import Any

from srun.data.batches import TrainingData
from srun.data.interactions import Role
from srun.data.partition import original_validation
from srun.devices import PeakMemory, RuntimeConfig, out_of_memory_hint, start
from srun.evaluation.evaluate import Probe
from srun.evaluation.ranking import RankingTask
from srun.models.scorer import Scorer, publish
from srun.stages.common import Reporter, load_dataset, resume_folder, write_run
from srun.stages.layout import Layout
from srun.tracking import Tracker
from srun.training.fit import TrainConfig, Watch, train_new


def run(
    layout: Layout,
    model: str,
    settings: Any,
    recipe: TrainConfig,
    seed: int,
    evaluation_batch: int,
    runtime: RuntimeConfig,
    tracker: Tracker,
) -> dict[str, float]:
    """Train and publish one Original; returns its validation figures."""
    device = start(runtime)
    data = load_dataset(layout)
    paths = layout.original(model, seed)
    description = {
        "name": model,
        "settings": vars(settings),
        "num_items": data.num_items,
        "max_length": data.max_length,
    }
    info = {
        "stage": "train",
        "seed": seed,
        "fingerprint": data.fingerprint,
        "prepare": data.info["config"],
        "train": vars(recipe),
        "threads": runtime.threads,
        "device": str(device),
    }
    task = RankingTask.make(original_validation(data), data.max_length, device, evaluation_batch)
    probe = Probe({"validation": task})
    reporter = Reporter(f"train {model}-{seed}", "validation/ndcg_10", runtime.progress, tracker)
    memory = PeakMemory(device)
    with out_of_memory_hint("train.batch_size"), reporter:
        windows = TrainingData(data, data.role == Role.TRAIN, None, device)
        watch = Watch(
            validate=lambda trained: probe(Scorer([trained]), "validation"),
            observe=lambda trained: {},
            on_epoch=reporter.on_epoch,
            resume=resume_folder(paths, {**info, **description}),
        )
        trained, fit = train_new(description, windows, recipe, seed, watch)
    fit.cost.peak_memory_mb = memory.mebibytes()
    info |= {"best_epoch": fit.best_epoch, "cost": fit.cost.exact()}
    publish(paths.model, Scorer([trained.cpu()]), info, fit.history)
    write_run(paths, fit.cost, tracker)
    tracker.artifact(paths.model, "model")
    return probe(Scorer([trained.to(device)]), "validation")
