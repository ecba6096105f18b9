"""Our figures of a row of run.py, measured in this process: training, ranking, time to a quality, memory."""

import resource
import statistics
import time
from typing import Any

import engine  # first: torch reads what it sets
import torch
from engine import HIDDEN, Logs
from torch import Tensor
from works import QUALITY, Work

from srun.data.dataset import Dataset
from srun.metrics.ranking import ndcg
from srun.models.scorer import Scorer
from srun.training.fit import train_step

SLICES = 5


def measure(work: Work, logs: Logs, seconds: float, goal: float) -> dict[str, Any]:
    """Our figures of a row, in this process; ``goal``: the NDCG@10 that a row of quality is to reach."""
    device = engine.one_thread()
    data = logs.prepared(work.data, work.length)
    torch.manual_seed(0)
    if work.kind == "train":
        figures: dict[str, Any] = _measure_training(work, data, device, seconds)
    elif work.kind == "rank":
        figures = _measure_ranking(work, data, device)
    else:
        figures = _measure_quality(work, data, device, seconds, goal)
    return {**figures, "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def _measure_training(work: Work, data: Dataset, device: torch.device, seconds: float) -> dict[str, float]:
    setting = engine.setting(work, data, device)
    recipe, optimiser, has_ceiling = setting.recipe, setting.optimiser(), (work.model, work.loss) == ("sasrec", "bce")
    setting.model.train()
    rates: list[tuple[float, float, float]] = []  # sequences, targets, FLOP a second, one for each slice
    began, counts, warm, steps = time.process_time(), [0.0, 0.0, 0.0], True, 0
    while len(rates) < SLICES:
        for rows in setting.windows.epoch(recipe.batch_size, setting.streams["batches"], recipe.group_by_length):
            loss, inputs = train_step(*setting, optimiser, rows)
            counts[0] += len(rows)
            counts[1] += len(loss)
            counts[2] += _sasrec_flop((inputs != 0).sum(1).double()) if has_ceiling else 0.0
            steps += 1
            passed = time.process_time() - began
            if warm and steps >= 10:
                began, counts, warm = time.process_time(), [0.0, 0.0, 0.0], False
            elif not warm and passed > seconds / SLICES:
                rates.append((counts[0] / passed, counts[1] / passed, counts[2] / passed))
                began, counts = time.process_time(), [0.0, 0.0, 0.0]
            if len(rates) == SLICES:
                break
    sequences, targets, flop = (statistics.median(values) for values in zip(*rates, strict=True))
    return {"sequences/s": sequences, "targets/s": targets, "ceiling": flop / _sgemm_rate()}


def _sasrec_flop(lengths: Tensor) -> float:
    """FLOP of a training step for windows of real ``lengths``: products only, backward counted twice forward."""
    position = 2 * (2 * 4 * HIDDEN**2 + 2 * 2 * HIDDEN**2) + 2 * 2 * HIDDEN  # two blocks; two scored items
    return float(3 * (lengths * position + 2 * 4 * HIDDEN * lengths**2).sum())


def _sgemm_rate() -> float:
    """FLOP a second of a large product of matrices, the best of seven: this core's ceiling."""
    one, other = torch.randn(2048, 2048), torch.randn(2048, 2048)
    times = []
    for _ in range(7):
        began = time.process_time()
        one @ other
        times.append(time.process_time() - began)
    return 2 * 2048**3 / min(times)


def _measure_ranking(work: Work, data: Dataset, device: torch.device) -> dict[str, float]:
    model, rates = engine.setting(work, data, device).model, []
    for _ in range(SLICES):
        began = time.perf_counter()
        task = engine.test_task(data, device)
        task.ranks(Scorer([model]))
        rates.append(len(task) / (time.perf_counter() - began))
    return {"users/s": statistics.median(rates)}


def _measure_quality(work: Work, data: Dataset, device: torch.device, seconds: float, goal: float) -> dict[str, Any]:
    """Seconds of training until the test NDCG@10 reaches ``goal``; looks at it are not counted, as for the peer."""
    setting = engine.setting(work, data, device, *QUALITY)
    optimiser, task = setting.optimiser(), engine.test_task(data, device)
    spent, reached = 0.0, 0.0
    while reached < goal and spent < seconds:
        setting.model.train()
        began = time.perf_counter()
        setting.epoch(optimiser)
        spent += time.perf_counter() - began
        reached = ndcg(task.ranks(Scorer([setting.model])).rank, 10)
    return {"s": spent if reached >= goal else None, "ndcg": reached}
