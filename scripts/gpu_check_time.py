"""Parts of gpu_check.py that time a device, on data of Beauty's size.

What is timed has been done once before, unless it says "first": that pays for kernels that are loaded and memory that
is got.
"""

import statistics
from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import torch
from gpu_check_bench import Bench, Figure, Scale, jobs, methods, seconds

from srun.data.batches import TrainingData
from srun.evaluation.ranking import RankingTask
from srun.evaluation.recovery import recover
from srun.models.scorer import Scorer
from srun.rng import Streams
from srun.system.devices import PeakMemory
from srun.training.fit import TrainConfig, make_optimiser, train_step
from srun.training.together import Job, train_all
from srun.unlearning.base import Context, Original
from srun.unlearning.closed_form.levels import predict_level
from srun.unlearning.sruga.method import SRUGA
from srun.unlearning.sruga.settings import SRUGAConfig

MODELS = ("sasrec", "bert4rec")
WARM_UP = 8  # training steps before those that are timed
TURNS = 3
RANKED_AT_ONCE = (512, 4096)


def time_training(bench: Bench, scale: Scale, device: torch.device) -> Iterator[Figure]:
    """One training step of the default recipe (full softmax), in both precisions."""
    windows = bench.windows(device)
    for name, width, precision in product(MODELS, scale.widths, ("float32", "bf16")):
        recipe, peak = bench.recipe(1, precision=precision), PeakMemory(device)
        spent, num_batches = _training(bench, windows, recipe, name, width, scale.steps)
        about = f"{name}, {width} wide, {precision}"
        yield Figure(f"{about}: a step of {recipe.batch_size} windows", spent * 1e3, "ms")
        yield Figure(f"{about}: an epoch of {num_batches} steps", spent * num_batches, "s")
        yield Figure(f"{about}: peak memory", peak.mebibytes(), "MiB")


def _training(
    bench: Bench, windows: TrainingData, recipe: TrainConfig, name: str, width: int, steps: int
) -> tuple[float, int]:
    """Seconds of a training step, and batches of an epoch."""
    device = windows.device
    model, streams = bench.model(bench.description(name, hidden=width), device).train(), Streams(0, device)
    model.use_generator(streams["dropout"])
    optimiser = make_optimiser(model, recipe)
    batches = list(windows.epoch(recipe.batch_size, streams["batches"], recipe.group_by_length))

    def take(first: int, last: int) -> None:
        for number in range(first, last):
            train_step(model, windows, recipe, streams, optimiser, batches[number % len(batches)])

    take(0, WARM_UP)
    return seconds(device, lambda: take(WARM_UP, WARM_UP + steps)) / steps, len(batches)


def time_ranking(bench: Bench, scale: Scale, device: torch.device) -> Iterator[Figure]:
    """All test targets ranked among the whole catalogue."""
    queries = bench.request.queries("test")
    for name, width, size in product(MODELS, scale.widths, RANKED_AT_ONCE):
        scorer = Scorer([bench.model(bench.description(name, hidden=width), device)])
        spent = _ranking(RankingTask.make(queries, bench.data.max_length, device, size), scorer, device)
        about = f"{name}, {width} wide: {len(queries)} targets among {bench.data.num_items} items, {size} at once"
        yield Figure(about, spent, "s")


def _ranking(task: RankingTask, scorer: Scorer, device: torch.device) -> float:
    task.ranks(scorer)
    return statistics.median(seconds(device, lambda: task.ranks(scorer)) for _ in range(TURNS))


def time_closed_form(bench: Bench, scale: Scale, device: torch.device) -> Iterator[Figure]:
    """Events of a tenth of the users forgotten in closed form, and the part of it that predicts levels."""
    for name, width in product(MODELS, scale.widths):
        original, peak = bench.original(bench.description(name, hidden=width), 1, device), PeakMemory(device)
        about = f"{name}, {width} wide"
        for turn in ("first", "second"):
            yield Figure(f"{about}: {turn} request", _closed_form(bench, original, device), "s")
        yield Figure(f"{about}: its levels alone, most of it on the CPU", _levels(bench, original, device), "s")
        yield Figure(f"{about}: peak memory", peak.mebibytes(), "MiB")


def _closed_form(bench: Bench, original: Original, device: torch.device) -> float:
    method, context = methods(bench)["closed_form"], Context.quiet(device, 0)
    return seconds(device, lambda: method.unlearn(original, bench.request, context))


def _levels(bench: Bench, original: Original, device: torch.device) -> float:
    return seconds(device, lambda: predict_level(original.model, bench.request, None, 0, device))


def time_sruga(bench: Bench, scale: Scale, device: torch.device) -> Iterator[Figure]:
    """SRUGA by event on all weights, and of the output layer: an epoch with all that comes before it, and the whole."""
    chosen = {"by event": bench.sruga_by_event(), "output layer": bench.sruga_output_layer()}
    for model, width in product(MODELS, scale.widths):
        original = bench.original(bench.description(model, hidden=width), 1, device)
        for name, settings in chosen.items():
            short = replace(settings, max_epochs=1, rows=None)
            _sruga(bench, original, short, device)
            one, first = _sruga(bench, original, short, device)
            whole, steps = _sruga(bench, original, settings, device)
            about = f"{model}, {width} wide, {name}"
            yield Figure(f"{about}: preparations and an epoch of {first} steps", one, "s")
            yield Figure(f"{about}: preparations and all {steps} steps", whole, "s")
            if steps > first:
                yield Figure(f"{about}: a step", (whole - one) / (steps - first) * 1e3, "ms")


def _sruga(bench: Bench, original: Original, settings: SRUGAConfig, device: torch.device) -> tuple[float, int]:
    """Seconds and steps of a run."""
    context = Context.quiet(device, 0)
    spent = seconds(device, lambda: SRUGA(settings).unlearn(original, bench.request, context))
    return spent, context.meter.cost.steps


def time_together(bench: Bench, scale: Scale, device: torch.device) -> Iterator[Figure]:
    """An epoch over shards, as SISA trains them: runtime.together off and on."""
    for name, width, together in product(MODELS, scale.widths, (False, True)):
        training = jobs(bench, bench.description(name, hidden=width), scale.shards, device)
        spent = min(_epoch(training, bench.recipe(1), together, device) for _ in range(2))
        switch = "on" if together else "off"
        yield Figure(f"{name}, {width} wide: an epoch over {scale.shards} shards, together {switch}", spent, "s")


def _epoch(training: list[Job], recipe: TrainConfig, together: bool, device: torch.device) -> float:
    return seconds(device, lambda: train_all(training, recipe, together))


def time_recovery(bench: Bench, scale: Scale, device: torch.device) -> Iterator[Figure]:
    """All attacks on a model's file."""
    for width in scale.widths:
        original = bench.original(bench.description("sasrec", hidden=width), 1, device)
        yield Figure(f"sasrec, {width} wide: all attacks of recover_*", _attacks(bench, original, device), "s")


def _attacks(bench: Bench, original: Original, device: torch.device) -> float:
    return seconds(device, lambda: recover(original.model, bench.request, 512, 0, device))
