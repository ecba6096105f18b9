"""Stage evaluate: one cell's model ranked on every split of its request."""

import json
import math
from typing import Any

import numpy as np
import pandas as pd
import torch

from srun.config import build
from srun.errors import CheckpointError
from srun.evaluation.evaluate import EvaluateConfig, evaluate
from srun.evaluation.linear_probe import auc, last_states, linear_probe_scores
from srun.evaluation.recovery import recover, recovered_figures
from srun.evaluation.relearning import RelearningConfig, relearn
from srun.files import write_folder, write_text
from srun.flow.cells import Cell
from srun.flow.layout import FEATURES, Layout
from srun.flow.loading import load_dataset, weights_sha256
from srun.judging.records import KINDS, SPLIT
from srun.judging.styles import ORIGINAL
from srun.models.published import load_published
from srun.models.scorer import Scorer, model_description
from srun.requests.partition import REPORT, Partition
from srun.rng import numpy_stream
from srun.system.devices import RuntimeConfig, out_of_memory_hint, start
from srun.tracking import Tracker
from srun.training.fit import TrainConfig
from srun.unlearning.closed_form.features import RetainedFeatures

HEADLINE = ("test/ndcg_10", "test/recall_10", "forget_tune/hit_10", "forget_report/hit_10", "never_seen_report/hit_10")


def run(
    layout: Layout,
    cell: Cell,
    settings: EvaluateConfig,
    relearning: RelearningConfig,
    runtime: RuntimeConfig,
    tracker: Tracker,
) -> dict[str, dict[str, float]]:
    """Write per-event ranks and metrics of a cell; returns ``metrics[split][metric]``."""
    device = start(runtime)
    data = load_dataset(layout)
    request = Partition.load(layout.partition(cell.request), data)
    paths = layout.cell(cell)
    scorer, info = load_published(paths.model, device, "unlearn")
    selectors = f"`srun unlearn --request {cell.request} --original {cell.original} --method {cell.method}`"
    if info["fingerprint"] != data.fingerprint or info["request"] != request.info:
        raise CheckpointError(f"{paths.model}: made for other data or another request; run {selectors} again")
    with out_of_memory_hint("evaluate.batch_size"):
        result = evaluate(scorer, request, settings, device)
        untrained = None
        if scorer.catalogue is not None:
            untrained = evaluate(scorer.untrained_raw(), request, settings, device).metrics
        linear_probe = None
        if request.kind == "category":
            linear_probe = _linear_probe(scorer, request, settings, device)
            reported = linear_probe[linear_probe["report"]]
            area = auc(reported["score"].to_numpy(), reported["inside"].to_numpy())
            result.metrics["all_targets"]["linear_probe_auc"] = area
        if settings.recovery and len(request.queries(SPLIT)) and len(scorer.models) == 1:
            attacks = recover(scorer.model, request, settings.batch_size, settings.seed, device)
            result.metrics["recovered"] = recovered_figures(attacks)
        recipe = build(TrainConfig, info["train"], "train")
        curves = relearn(scorer, request, recipe, relearning, settings.seed, device, settings.batch_size)
    record = {
        "cell": vars(cell),
        "model": model_description(scorer.models[0])["name"],
        "dataset": data.info["name"],
        "fingerprint": data.fingerprint,
        "request": request.info,
        "cost": info["cost"],
        "metrics": result.metrics,
        "untrained_raw": untrained,
        "relearning": {way: vars(curve) for way, curve in curves.items()},
        "weights_sha256": weights_sha256(paths.model),
    }
    with write_folder(paths.evaluation, sealed=True) as new:
        result.events.to_parquet(new / "events.parquet", index=False)
        if linear_probe is not None:
            linear_probe.to_parquet(new / "linear_probe.parquet", index=False)
        if cell.method == ORIGINAL and request.kind in KINDS and len(request.queries(SPLIT)):
            _features(request, settings.seed).to_parquet(new / FEATURES, index=False)
        (new / "report.json").write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
    flat = {f"{split}/{name}": value for split, part in result.metrics.items() for name, value in part.items()}
    headline = {name: round(flat[name], 6) for name in HEADLINE if name in flat and not math.isnan(flat[name])}
    write_text(paths.metrics, json.dumps(headline, indent=1) + "\n")
    tracker.metrics(flat)
    return result.metrics


def _features(request: Partition, seed: int) -> pd.DataFrame:
    """Columns ``event`` and one for each feature (see ``metrics.memory.memory_left``)."""
    queries = request.queries(SPLIT)
    table = pd.DataFrame(RetainedFeatures(request, seed)(queries))
    table.columns = [f"feature_{number}" for number in table.columns]
    table.insert(0, "event", queries.event)
    return table


def _linear_probe(scorer: Scorer, request: Partition, settings: EvaluateConfig, device: torch.device) -> pd.DataFrame:
    """For every test target: the log odds that a linear probe gives to its being in the category, and whether it is.

    All users' test targets, which nothing was chosen by, so that the fit has enough; figures are of ``report`` users.
    """
    queries = request.test_targets
    states, inside = last_states(scorer, queries, device, settings.batch_size), request.removed[queries.event]
    scores = linear_probe_scores(states, inside, queries.user, numpy_stream(settings.seed, "probe"))
    report = request.group[queries.user] == REPORT
    columns: dict[str, Any] = {"event": queries.event, "user": queries.user, "inside": inside, "report": report}
    return pd.DataFrame({**columns, "score": scores}).astype({"event": np.int64, "user": np.int64})
