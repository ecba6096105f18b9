"""index.html: one file that opens from disk, without network."""

import base64
import json
import math
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import Environment, StrictUndefined

from srun import __version__
from srun.config import flatten
from srun.judging.methods import method_order, model_name, style
from srun.judging.records import Group, Record, Trained
from srun.metrics.bootstrap import user_interval
from srun.metrics.ranking import CUT_OFFS, gains, hits
from srun.reporting.summary import COMMANDS, MISSING, NONE, NOT_MEASURED, Comparison, headlines, mean_text, seeds_text
from srun.rng import numpy_stream

if TYPE_CHECKING:
    from srun.reporting.figures import Figure


def render(
    groups: Sequence[Group],
    comparisons: Sequence[Comparison],
    figures: Sequence["Figure"],
    facts: Mapping[str, str],
    missing: Sequence[str] = (),
) -> str:
    """The page: verdicts, what is ``missing``, tables, figures, how to read them, what was run; all text is escaped."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(files("srun.reporting").joinpath("page.html").read_text(encoding="utf-8"))
    present = sorted({record.method for group in groups for record in group.records}, key=method_order)
    return template.render(
        dataset=groups[0].first.dataset,
        comparisons=comparisons,
        headlines=headlines(comparisons),
        missing=(MISSING, missing),
        figures=[(figure, base64.b64encode(figure.png).decode("ascii")) for figure in figures],
        facts=facts,
        methods=[(style(method).name, style(method).about) for method in present if style(method).about],
        controls=[(style(m).name, style(m).about) for m in present if style(m).role == "control"],
        settings=[(title, list(values.items())) for title, values in settings(groups)],
        splits=[(comparison.title, split_tables(group)) for comparison, group in zip(comparisons, groups, strict=True)],
    )


def what_was_run(groups: Sequence[Group]) -> dict[str, str]:
    """Data, requests, seeds, versions, machine and command, a line each. Raw user ids are not among them."""
    records = [record for group in groups for record in group.records]
    machines = {json.dumps(record.machine, sort_keys=True): record.machine for record in records if record.machine}
    versions = sorted({str(record.info.get("version", __version__)) for record in records})
    shown = [_machine(machine) for machine in machines.values()] or [NOT_MEASURED]
    first = records[0]
    facts = {"Data": f"{first.dataset}, fingerprint {first.fingerprint[:12]}"}
    facts |= {f"Request “{group.request}”": _request(group.first) for group in groups}
    facts |= {f"Seeds, {model_name(group.model)} on “{group.request}”": _seeds(group) for group in groups}
    trained = {original.name: original for group in groups for original in group.originals}
    facts |= {f"Original {name}": _before(original) for name, original in trained.items()}
    shards = {record.cell: record.info for record in records if "shards_retrained" in record.info}
    facts |= {f"Shards, {cell}": f"{i['shards_retrained']} of {i['shards']} retrained" for cell, i in shards.items()}
    return facts | {
        "srun": ", ".join(versions),
        "Machine" if len(shown) == 1 else "Machines": "; ".join(shown),
        "Made by": f"{' or '.join(COMMANDS)}; from evaluations alone by srun report",
    }


def settings(groups: Sequence[Group]) -> list[tuple[str, dict[str, str]]]:
    """Settings by title: data preparation, the training recipe, each model and each method."""
    blocks: dict[str, dict[str, str]] = {}
    for group in groups:
        for record in group.records:
            info = record.info
            blocks.setdefault("Preparation (prepare)", _texts(info.get("prepare", {})))
            blocks.setdefault("Training: Original, Retrain and SISA alike (train)", _texts(info.get("train", {})))
            blocks.setdefault(f"Model {model_name(group.model)} (model.{group.model})", _model_settings(record))
            blocks.setdefault(
                f"{style(record.method).name} (unlearn.{record.method})", _texts(info.get("settings", {}))
            )
    return [(title, values) for title, values in blocks.items() if values]


def split_tables(group: Group) -> list[tuple[str, str, list[str], list[list[str]]]]:
    """(split, sizes, header, rows) with every metric of full and sampled ranking, means over seeds."""
    tables = []
    for split, part in group.first.metrics.items():
        if not part.get("num_events"):
            continue
        metrics = [name for name in _metric_order(part) if name in part]
        intervals = ["hit_10, 95 %" if "hit_10" in part else "recall_10, 95 %", "ndcg_10, 95 %"]
        rows = [
            [
                style(method).name,
                *_intervals(group, method, split),
                *(mean_text(group.values(method, split, name), 4) for name in metrics),
            ]
            for method in group.methods
        ]
        counts = f"{part['num_users']:,.0f} users, {part['num_events']:,.0f} events"
        tables.append((split, counts, ["Method", *intervals, *metrics], rows))
    return tables


def _intervals(group: Group, method: str, split: str) -> list[str]:
    """Intervals of Hit (Recall) and NDCG at 10, of the mean over seeds: with another draw of users, the same models."""
    found = [record.events[split] for record in group.of(method) if split in record.events]
    if not found:
        return [NONE, NONE]
    texts = []
    for measure in (hits, gains):
        values = np.mean([measure(events.rank, 10) for events in found], axis=0)
        low, high = user_interval(values, found[0].user, numpy_stream(0, f"bootstrap/{group.model}/{method}/{split}"))
        texts.append(NONE if math.isnan(low) else f"{low:.4f}–{high:.4f}")
    return texts


def _metric_order(part: Mapping[str, float]) -> list[str]:
    recall = "hit" if any(name.startswith("hit_") for name in part) else "recall"
    plain = [f"{name}_{k}" for name in (recall, "ndcg") for k in CUT_OFFS] + ["mrr"]
    return plain + [f"{name}_sampled" for name in plain]


def _request(record: Record) -> str:
    """A request's settings and counts."""
    request = dict(record.partition["request"])
    if request.get("users") is not None:
        request["users"] = f"{request['users']} named"
    counts = {key: value for key, value in record.partition.items() if key.startswith("num_") and value}
    return "; ".join(f"{key} {_text(value)}" for key, value in {**request, **counts}.items())


def _before(original: Trained) -> str:
    """What a model cost before any request; SISA's shards are such a cost too."""
    info = original.info
    parts = [f"seed {info['seed']}"] + ([f"{info['shards']} shards"] if info.get("shards", 1) > 1 else [])
    time = f"{original.measured['seconds']:.1f} s" if original.measured else f"seconds {NOT_MEASURED}"
    cost = info["cost"]
    scored = f"{cost['scored_positions']:,.0f}" if "scored_positions" in cost else "no"
    return ", ".join([*parts, time, f"{scored} scored positions", f"{cost['target_gradients']:,.0f} target gradients"])


def _seeds(group: Group) -> str:
    return "; ".join(f"{style(method).name} {seeds_text(group, method)}" for method in group.methods)


def _machine(machine: Mapping[str, str]) -> str:
    text = f"{machine['processor']}, {machine['threads']} threads"
    text += "" if machine["gpu"] == "none" else f", {machine['gpu']}"
    return f"{text}; {machine['system']}, Python {machine['python']}, torch {machine['torch']}"


def _model_settings(record: Record) -> dict[str, str]:
    models = record.info.get("models", [])
    return _texts(models[0]["settings"]) if models else {}


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    return {key: _text(value) for key, value in flatten(values).items()}


def _text(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return ", ".join(str(part) for part in value)
    return f"{value:,}" if isinstance(value, int) else str(value)
