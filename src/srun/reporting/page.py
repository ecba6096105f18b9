"""index.html: one file that opens from disk, without network."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING

from jinja2 import Environment, StrictUndefined

from srun.judging.judgement import Comparison, Judgement, MethodFigures, Settings
from srun.judging.styles import method_order, model_name, style
from srun.reporting.summary import MISSING, headlines, tabulate, title, value_text, what_was_run
from srun.reporting.texts import NONE, estimate_text

if TYPE_CHECKING:
    from srun.reporting.figures import Figure


def render(judgement: Judgement, figures: Sequence["Figure"]) -> str:
    """The page: verdicts, what is missing, tables, figures, how to read them, what was run; all text is escaped."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(files("srun.reporting").joinpath("page.html").read_text(encoding="utf-8"))
    names = {method.method for comparison in judgement.comparisons for method in comparison.methods}
    present = sorted(names, key=method_order)
    return template.render(
        dataset=judgement.dataset,
        tables=[tabulate(comparison) for comparison in judgement.comparisons],
        headlines=headlines(judgement.comparisons),
        missing=(MISSING, judgement.missing),
        figures=[(figure, base64.b64encode(figure.png).decode("ascii")) for figure in figures],
        facts=what_was_run(judgement),
        methods=[(style(method).name, style(method).about) for method in present if style(method).about],
        controls=[(style(m).name, style(m).about) for m in present if style(m).role == "control"],
        settings=[
            (_block(block), [(name, value_text(value)) for name, value in block.values.items()])
            for block in judgement.settings
        ],
        splits=[(title(comparison), split_tables(comparison)) for comparison in judgement.comparisons],
    )


@dataclass(frozen=True)
class SplitTable:
    """Every metric of a split, by method."""

    split: str
    counts: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def split_tables(comparison: Comparison) -> list[SplitTable]:
    """By split, every metric of full and sampled ranking, means over seeds, with the intervals over users."""
    tables = []
    for name, split in comparison.splits.items():
        bounded = ("hit_10" if "hit_10" in split.metrics else "recall_10", "ndcg_10")
        rows = tuple(
            (
                style(method.method).name,
                *(_interval(method, name, metric) for metric in bounded),
                *(estimate_text(method.figure(name, metric), 4) for metric in split.metrics),
            )
            for method in comparison.methods
        )
        header = ("Method", *(f"{metric}, 95 %" for metric in bounded), *split.metrics)
        tables.append(SplitTable(name, f"{split.num_users:,} users, {split.num_events:,} events", header, rows))
    return tables


def _interval(method: MethodFigures, split: str, metric: str) -> str:
    """Of the mean over seeds: with another draw of users, the same models."""
    bounds = method.intervals.get(split, {}).get(metric)
    return NONE if bounds is None else f"{bounds.low:.4f}–{bounds.high:.4f}"


def _block(block: Settings) -> str:
    """The title of a block of settings."""
    if block.section == "prepare":
        return "Preparation (prepare)"
    if block.section == "train":
        return "Training: Original, Retrain and SISA alike (train)"
    name = f"Model {model_name(block.name)}" if block.section == "model" else style(block.name).name
    return f"{name} ({block.section}.{block.name})"
