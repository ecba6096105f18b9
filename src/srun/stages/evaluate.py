"""Stage evaluate: one cell's model ranked on every split of its request."""

import json
import math

from srun.data.partition import Partition
from srun.devices import RuntimeConfig, out_of_memory_hint, start
from srun.evaluation.evaluate import EvaluateConfig, evaluate
from srun.files import write_folder, write_text
from srun.models.scorer import load_published, model_description
from srun.stages.cells import Cell
from srun.stages.common import load_dataset, stage_key, weights_sha256
from srun.stages.layout import Layout
from srun.tracking import Tracker

HEADLINE = ("test/ndcg_10", "test/recall_10", "forget_tune/hit_10", "forget_report/hit_10", "never_seen_report/hit_10")


def run(
    layout: Layout, cell: Cell, settings: EvaluateConfig, runtime: RuntimeConfig, tracker: Tracker
) -> dict[str, dict[str, float]]:
    """Write per-event ranks and metrics of a cell; returns ``metrics[split][metric]``."""
    device = start(runtime)
    data = load_dataset(layout)
    request = Partition.load(layout.partition(cell.request), data)
    paths = layout.cell(cell)
    scorer, info = load_published(paths.model, device)
    with out_of_memory_hint("evaluate.batch_size"):
        result = evaluate(scorer, request, settings, device)
        untrained = None
        if scorer.catalogue is not None:
            untrained = evaluate(scorer.untrained_raw(), request, settings, device).metrics
    record = {
        "cell": vars(cell),
        "model": model_description(scorer.models[0])["name"],
        "dataset": data.info["name"],
        "fingerprint": data.fingerprint,
        "request": request.info,
        "cost": info["cost"],
        "metrics": result.metrics,
        "untrained_raw": untrained,
        "weights_sha256": weights_sha256(paths.model),
        "key": key(layout, cell, settings),
    }
    with write_folder(paths.evaluation) as new:
        result.events.to_parquet(new / "events.parquet", index=False)
        (new / "report.json").write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
    flat = {f"{split}/{name}": value for split, part in result.metrics.items() for name, value in part.items()}
    headline = {key: round(flat[key], 6) for key in HEADLINE if key in flat and not math.isnan(flat[key])}
    write_text(paths.metrics, json.dumps(headline, indent=1) + "\n")
    tracker.metrics(flat)
    return result.metrics


def key(layout: Layout, cell: Cell, settings: EvaluateConfig) -> str:
    """What a cell's evaluation is made of."""
    model = layout.cell(cell).model
    inputs = [layout.partition(cell.request) / "info.json", model / "model.json", model / "weights.safetensors"]
    return stage_key("evaluate", inputs, settings={"seed": settings.seed, "sampled": settings.sampled})
