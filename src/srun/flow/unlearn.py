"""Stage unlearn: a request carried out by one method on one Original."""

import logging
from typing import Any

from srun.evaluation.evaluate import EvaluateConfig, Probe
from srun.flow.cells import Cell
from srun.flow.common import (
    Reporter,
    load_dataset,
    load_original,
    registered,
    resume_folder,
    stage_key,
    weights_sha256,
    write_run,
)
from srun.flow.layout import Layout
from srun.models.scorer import publish
from srun.requests.partition import Partition
from srun.system.devices import PeakMemory, RuntimeConfig, out_of_memory_hint, start, trains_together
from srun.system.meter import Cost, Meter
from srun.tracking import Tracker
from srun.unlearning import UNLEARNERS
from srun.unlearning.base import Context

log = logging.getLogger("srun")


def run(
    layout: Layout,
    cell: Cell,
    settings: Any,
    unlearning_seed: int,
    evaluation: EvaluateConfig,
    runtime: RuntimeConfig,
    tracker: Tracker,
) -> Cost:
    """Carry out one cell and publish what comes of it; returns the cost."""
    device = start(runtime)
    data = load_dataset(layout)
    request = Partition.load(layout.partition(cell.request), data)
    original = load_original(layout, cell.original, data, device)
    method = UNLEARNERS[cell.method]
    method(settings).require(original, request)
    seed = cell.seed if method.from_scratch else unlearning_seed
    paths = layout.cell(cell)
    info = {
        "stage": "unlearn",
        "cell": vars(cell),
        "settings": vars(settings),
        "unlearning_seed": unlearning_seed,
        "fingerprint": data.fingerprint,
        "prepare": data.info["config"],
        "request": request.info,
        "train": original.info["train"],
        "original_sha256": weights_sha256(layout.original(cell.original).model),
        "threads": runtime.threads,
        "device": str(device),
        "key": key(layout, cell, settings, unlearning_seed),
    }
    probe = Probe(request.splits, data.max_length, device, evaluation.batch_size)
    together = trains_together(runtime, device)
    reporter = Reporter(f"{cell.method} on {cell.original}", "forget_tune/hit_10", runtime.progress, tracker)
    with out_of_memory_hint(f"unlearn.{cell.method}.batch_size or train.batch_size"), reporter:
        meter = Meter(PeakMemory(device))
        context = Context(device, seed, probe, reporter.on_epoch, resume_folder(paths, info), meter, together)
        result = method(settings).unlearn(original, request, context)
    info |= {**result.info, "cost": result.cost.exact()}
    publish(paths.model, result.scorer.to("cpu"), info, result.history, data.items)
    context.resume.clear()
    write_run(paths, result.cost, tracker)
    if result.scorer.names_users:
        log.info("%s: not given to the tracker, for it tells who forgot what; the folder keeps it", paths.model)
    else:
        place = paths.model.relative_to(layout.original(cell.original).model.parent)
        alias = "-".join(place.parts)
        tracker.model(paths.model, registered(data, cell.original, cell.method, cell.request, cell.seed, alias))
    return result.cost


def key(layout: Layout, cell: Cell, settings: Any, unlearning_seed: int) -> str:
    """What a cell's model is made of: the partition and Original are known by their keys, which their files hold."""
    source = layout.original(cell.original).model
    inputs = [layout.partition(cell.request) / "info.json", source / "model.json", source / "weights.safetensors"]
    return stage_key("unlearn", inputs, cell=vars(cell), settings=vars(settings), seed=unlearning_seed)
