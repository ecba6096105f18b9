"""The ablations' CSV files: a row a variant, how far its parameters moved, and the long curves."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from srun.files import write_text
from srun.papers.ablation.variants import WEIGHTS, Variant
from srun.papers.document import write_figures
from srun.tables import harmless

CURVE_KEYS = ("validation/recall_10", "forget_tune/hit_10", "retain/loss")


def write(out: Path, parts: Sequence[str], measured: Sequence[tuple[Variant, Mapping[str, Any]]]) -> dict[str, Any]:
    """Write CSV files and figures of the finished variants into ``out``; returns paths and tables."""
    from srun.papers.ablation.figures import draw  # matplotlib, which a run should not wait for

    rows = {part: [_row(variant, record) for variant, record in measured if variant.part == part] for part in parts}
    movements = [_movement(variant, record) for variant, record in measured]
    curves = [row for variant, record in measured if variant.is_curve for row in _curve(variant, record)]
    written = {}
    for name, table in {**rows, "moved": movements, "long-curves": curves}.items():
        if table:
            write_text(out / f"{name}.csv", _csv(table))
            written[name] = str(out / f"{name}.csv")
    originals = measured[0][1]["history"][0] if measured else {}  # epoch 0 is Original
    write_figures(out / "figures", draw(rows, curves, movements, originals))
    texts = {part: [{key: _text(value) for key, value in row.items()} for row in table] for part, table in rows.items()}
    return {"written": {**written, "figures": str(out / "figures")}, "tables": texts}


def _row(variant: Variant, record: Mapping[str, Any]) -> dict[str, Any]:
    metrics = record["metrics"]
    return {
        "variant": variant.name,
        **{key: variant.changes[key] for key in WEIGHTS if key in variant.changes},
        "epochs": record["epochs"],
        "stop": record["info"]["stop"],
        "test_recall_10": metrics["test"]["recall_10"],
        "test_ndcg_10": metrics["test"]["ndcg_10"],
        "forget_report_hit_10": metrics["forget_report"]["hit_10"],
        **{
            f"{split}_{metric}_sampled": metrics[split][f"{metric}_sampled"]
            for split, metric in (("test", "recall_10"), ("forget_report", "hit_10"))
            if f"{metric}_sampled" in metrics[split]
        },
        "seconds": record["cost"]["seconds"],
    }


def _movement(variant: Variant, record: Mapping[str, Any]) -> dict[str, Any]:
    return {"part": variant.part, "variant": variant.name, "epochs": record["epochs"], **record["moved"]}


def _curve(variant: Variant, record: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = [row for row in record["history"] if all(key in row for key in CURVE_KEYS)]
    return [{"variant": variant.name, "epoch": row["epoch"], **{key: row[key] for key in CURVE_KEYS}} for row in rows]


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    out = io.StringIO()
    columns = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _text(value) for name, value in row.items()} for row in rows)
    return out.getvalue()


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(harmless(value))
