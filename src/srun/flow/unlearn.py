"""Stage unlearn: a request carried out by one method on one Original."""

import logging
from dataclasses import asdict

from srun.config import Section
from srun.evaluation.probe import Probe
from srun.flow.cells import Cell
from srun.flow.freshness import digest
from srun.flow.layout import Layout
from srun.flow.loading import load_dataset, load_start, weights_sha256
from srun.flow.registration import registered
from srun.flow.reporter import Reporter
from srun.flow.run_file import write_run
from srun.models.published import publish
from srun.requests.partition import Partition
from srun.system.devices import PeakMemory, RuntimeConfig, out_of_memory_hint, start, trains_together
from srun.system.meter import Cost, Meter
from srun.tracking import Tracker
from srun.training.checkpoint import ResumeFolder
from srun.unlearning import UNLEARNERS
from srun.unlearning.base import Context

log = logging.getLogger("srun")


def run(
    layout: Layout,
    cell: Cell,
    start_cell: Cell | None,
    settings: Section,
    unlearning_seed: int,
    evaluation_batch: int,
    runtime: RuntimeConfig,
    tracker: Tracker,
    key: str,
) -> Cost:
    """Carry out one cell and publish what comes of it; returns the cost.

    ``start_cell``: the one whose model it goes on from, in a chain of requests; None for the Original.
    ``key``: of what it is made of; a run that was killed goes on from saved states of the same key.
    """
    device = start(runtime)
    data = load_dataset(layout)
    request = Partition.load(layout.partition(cell.request), data)
    method = UNLEARNERS[cell.method]
    original = load_start(layout, cell, start_cell, method(settings).needs_crossfit, data, device)
    method(settings).require(original, request)
    seed = cell.seed if method.from_scratch else unlearning_seed
    paths = layout.cell(cell)
    info = {
        "stage": "unlearn",
        "cell": vars(cell),
        "settings": asdict(settings),
        "unlearning_seed": unlearning_seed,
        "fingerprint": data.fingerprint,
        "prepare": data.info["config"],
        "request": request.info,
        "train": original.info["train"],
        "original_sha256": weights_sha256(layout.original(cell.original).model),
        **({} if start_cell is None else {"start_sha256": weights_sha256(layout.cell(start_cell).model)}),
        "threads": runtime.threads,
        "device": str(device),
    }
    probe = Probe(request.splits, data.max_length, device, evaluation_batch)
    together = trains_together(runtime, device)
    reporter = Reporter(f"{cell.method} on {cell.original}", "forget_tune/hit_10", runtime.progress, tracker)
    resume = ResumeFolder(paths.resume, digest({**info, "key": key}))
    tracker.resumes(resume.key)
    with out_of_memory_hint(f"unlearn.{cell.method}.batch_size or train.batch_size"), reporter:
        meter = Meter(PeakMemory(device))
        context = Context(device, seed, probe, reporter.on_epoch, resume, meter, together)
        result = method(settings).unlearn(original, request, context)
    tracker.backfill(result.history)
    info |= {**result.info, "cost": result.cost.exact()}
    publish(paths.model, result.scorer.to("cpu"), info, result.history, data.items)
    write_run(paths, result.cost, tracker)
    if result.scorer.names_users:
        log.info("%s: not given to the tracker, for it tells who forgot what; the folder keeps it", paths.model)
    else:
        place = paths.model.relative_to(layout.original(cell.original).model.parent)
        alias = "-".join(place.parts)
        tracker.model(paths.model, registered(data, cell.original, cell.method, cell.request, cell.seed, alias))
    return result.cost
